"""How bases are named: ``pca``, ``kmeans:64``, ``rotation:0``, ``file:directions.npy``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from netdissect.errors import ConfigError

FittedKind = Literal["pca", "ica", "nmf", "kmeans"]
FITTED: tuple[FittedKind, ...] = get_args(FittedKind)
NEURONS, DICTIONARY = "neurons", "sae"


@dataclass(frozen=True)
class BasisSpec:
    """One basis that was asked for.

    Attributes
    ----------
    type
        ``neurons``, ``pca``, ``ica``, ``nmf``, ``kmeans``, ``rotation``, ``permutation``, ``file`` or ``sae``.
    argument
        Number of units, seed or file; empty: none was given.

    >>> [BasisSpec.parse(text).name for text in ("pca", "kmeans:64", "rotation:3", "file:out/my dirs.npy")]
    ['pca', 'kmeans-64', 'rotation-3', 'file-my_dirs']
    """

    type: str
    argument: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a basis as it is typed, whose form `DissectConfig` has checked."""
        kind, _, argument = text.partition(":")
        return cls(kind, argument)

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

    def virtual_name(self, layer: str) -> str:
        """Return the name of a layer in this basis: ``layer4@pca``; of its own units, that of the layer."""
        return layer if self.type == NEURONS else f"{layer}@{self.name}"


def absolute_bases(texts: Iterable[str]) -> tuple[str, ...]:
    """Return bases as they are typed, with the whole paths of their files: a run is repeated from elsewhere."""
    specs = ((text, BasisSpec.parse(text)) for text in texts)
    return tuple(f"{spec.type}:{Path(spec.argument).resolve()}" if spec.in_file else text for text, spec in specs)


def parse_specs(texts: Iterable[str]) -> tuple[BasisSpec, ...]:
    """Read bases, each once.

    Raises
    ------
    ConfigError
        If two files have the same name.
    """
    specs = tuple(BasisSpec.parse(text) for text in dict.fromkeys(texts))
    named: dict[str, BasisSpec] = {}
    for spec in specs:
        other = named.setdefault(spec.name, spec)
        if other != spec:
            raise ConfigError(
                f"the bases {other.type}:{other.argument} and {spec.type}:{spec.argument} would both be called "
                f"LAYER@{spec.name}. Expected files whose names differ; rename one of them."
            )
    return specs
