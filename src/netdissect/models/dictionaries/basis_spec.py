"""How bases are named: ``pca``, ``kmeans:64``, ``rotation:0``, ``file:directions.npy``; of one layer: ``conv5@nmf``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, Self, get_args

from netdissect.config import BASIS_FORM, BASIS_NAMES
from netdissect.errors import ConfigError

FittedKind = Literal["pca", "ica", "nmf", "kmeans"]
FITTED: tuple[FittedKind, ...] = get_args(FittedKind)
NEURONS, DICTIONARY = "neurons", "sae"
# Without a layer if a file may be called so; otherwise the shortest layer.
_FORM = re.compile(rf"((?P<layer>.+?)@)??(?P<basis>{BASIS_FORM})")


@dataclass(frozen=True)
class BasisSpec:
    """One basis that was asked for.

    Attributes
    ----------
    type
        ``neurons``, ``pca``, ``ica``, ``nmf``, ``kmeans``, ``rotation``, ``permutation``, ``file`` or ``sae``.
    argument
        Number of units, seed or file; empty: none was given.
    layer
        The only layer that is dissected in it; empty: all are.

    >>> [BasisSpec.parse(text).name for text in ("pca", "kmeans:64", "rotation:3", "file:out/my dirs.npy")]
    ['pca', 'kmeans-64', 'rotation-3', 'file-my_dirs']
    >>> BasisSpec.parse("conv5@sae:latents.safetensors")
    BasisSpec(type='sae', argument='latents.safetensors', layer='conv5')
    """

    type: str
    argument: str
    layer: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a basis as it is typed.

        Raises
        ------
        ConfigError
            If it has no such form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(f"the basis {text!r} cannot be read. Expected one of {BASIS_NAMES}.")
        kind, _, argument = found["basis"].partition(":")
        return cls(kind, argument, found["layer"] or "")

    @property
    def text(self) -> str:
        """The basis as it is typed."""
        whole = f"{self.type}:{self.argument}" if self.argument else self.type
        return f"{self.layer}@{whole}" if self.layer else whole

    @property
    def name(self) -> str:
        """What stands behind the ``@`` in the name of a virtual layer: it survives file names, addresses and globs."""
        argument = re.sub(r"[^\w.-]", "_", Path(self.argument).stem) if self.in_file else self.argument
        return f"{self.type}-{argument}" if argument else self.type

    @property
    def units(self) -> int | None:
        """How many units are asked for of a basis that is fitted; None: as many as it has."""
        return int(self.argument) if self.fitted and self.argument else None

    @property
    def needs_cells(self) -> bool:
        """Whether a sample of cells is needed: to fit it, or to find out what the encoder in its file expects."""
        return self.fitted is not None or self.type == DICTIONARY

    @property
    def in_file(self) -> bool:
        """Whether it is read from a file."""
        return self.type in ("file", DICTIONARY)

    @property
    def fitted(self) -> FittedKind | None:
        """The kind of a basis that is fitted to a sample of cells; None: it is not."""
        return next((kind for kind in FITTED if kind == self.type), None)

    def is_of(self, layer: str) -> bool:
        """Return whether a layer is dissected in it."""
        return self.layer in ("", layer)

    def virtual_name(self, layer: str) -> str:
        """Return the name of a layer in this basis: ``layer4@pca``; of its own units, that of the layer."""
        return layer if self.type == NEURONS else f"{layer}@{self.name}"


def absolute_bases(texts: Iterable[str]) -> tuple[str, ...]:
    """Return bases as they are typed, with the whole paths of their files: a run is repeated from elsewhere."""
    specs = map(BasisSpec.parse, texts)
    resolved = (replace(spec, argument=str(Path(spec.argument).resolve())) if spec.in_file else spec for spec in specs)
    return tuple(spec.text for spec in resolved)


def parse_specs(texts: Iterable[str]) -> tuple[BasisSpec, ...]:
    """Read bases, each once.

    Raises
    ------
    ConfigError
        If two bases of a layer have the same name.
    """
    specs = tuple(BasisSpec.parse(text) for text in dict.fromkeys(texts))
    for other, spec in combinations(specs, 2):
        if other.name == spec.name and (spec.is_of(other.layer) or other.is_of(spec.layer)):
            layer = spec.layer or other.layer or "LAYER"
            raise ConfigError(
                f"the bases {other.text} and {spec.text} would both be called {layer}@{spec.name}. Expected each basis "
                "of a layer once, and files whose names differ; rename one of them."
            )
    return specs
