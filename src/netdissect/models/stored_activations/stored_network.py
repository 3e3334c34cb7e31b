"""A network of stored activations: it takes the positions of images in a list, and computes nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import ConfigError, LayerError, NetworkError
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.stored_activations.stored_files import LIST_FILE, StoredFiles, StoredLayer, read_folder

if TYPE_CHECKING:
    from netdissect.config import NetworkSource

MAPS, TOKENS = 4, 3
"""Dimensions of arrays of maps, and of tokens."""


@dataclass(frozen=True)
class StoredInput(Preprocessing):
    """The input of stored activations: the position of each image in their list.

    `size` is the input size with which they were made; `mean` and `std` are not used.

    Attributes
    ----------
    rows
        Positions by the name of the image.
    """

    rows: Mapping[str, int] = field(kw_only=True, compare=False, repr=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Return positions, int64 (B, 1), as they are.

        Raises
        ------
        NetworkError
            If they are images.
        """
        if images.dtype != torch.int64 or images.ndim != 2 or images.shape[1] != 1:
            raise NetworkError(
                "Stored activations come without their network, and nothing can be computed for another image, another "
                "class or changed units. Expected the network: make the run with it in place of activations:DIR."
            )
        return images

    def noise(self, count: int) -> Tensor:
        """Return the first positions, int64 (count, 1)."""
        return torch.arange(count)[:, None] % len(self.rows)


@dataclass(eq=False)
class StoredActivations(Network):
    """Activations that another program stored; its module returns those of the images whose positions it is given."""

    @property
    def takes_images(self) -> bool:
        """False."""
        return False

    @property
    def rows(self) -> Mapping[str, int]:
        """Positions of images by name."""
        assert isinstance(self.preprocessing, StoredInput)  # noqa: S101 - it is made so
        return self.preprocessing.rows

    def where(self, layer: str, image: str) -> str:
        """Return in words which row of which file has an image's activations of a layer, or of that of a basis."""
        name = self.bases[layer].source if layer in self.bases else layer
        stored = self.module.get_submodule(name)
        assert isinstance(stored, StoredModule)  # noqa: S101 - all are
        path, row = stored.layer.where(self.rows[image])
        return f"row {row} (counted from 0) of {path}"

    def arguments(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return positions, int64 (B, 1), as the module takes them: int64 (B,)."""
        return (images[:, 0],)

    def assumed(self, given: Assumed) -> Assumed:
        """Return what is assumed of its layers: that of their files, and cells that cover the image evenly.

        Raises
        ------
        ConfigError
            If a receptive field is given without the size of the input in whose pixels it is.
        LayerError
            If tokens are no square grid.
        """
        if isinstance(given.receptive_field, tuple) and (self.source is None or self.source.size is None):
            raise ConfigError(
                f"the receptive field {given.receptive_field} is in pixels of the input with which {self.name!r} was "
                "made, and its size is not stated. Expected --input-size, too."
            )
        stored = [part.layer for part in self.module.children() if isinstance(part, StoredModule)]
        tokens = [layer for layer in stored if len(layer.shape) == TOKENS]
        prefix = tokens[0].prefix if tokens else 0
        layout = given.layout or (f"tokens:{prefix}" if prefix else "tokens" if tokens else "NCHW")
        if layout.startswith("tokens"):
            _check_grids(tokens, int(layout.partition(":")[2] or 0))
        return Assumed(layout=layout, receptive_field=given.receptive_field or "half-pixel")

    def _noise_arguments(self, dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, ...]:  # noqa: ARG002
        return self.arguments(self.preprocessing.noise(2))


def _check_grids(tokens: Sequence[StoredLayer], prefix: int) -> None:
    for layer in tokens:
        count = layer.shape[1] - prefix
        if count < 1 or math.isqrt(count) ** 2 != count:
            without = f" without {prefix}" if prefix else ""
            raise LayerError(
                f"Layer {layer.name!r} has {layer.shape[1]} tokens, which{without} are no square grid. Expected the "
                "tokens of a square grid, row by row, after as many others as --assume-layout tokens:PREFIX says, such "
                "as tokens:1 for a class token; or store maps (images, channels, height, width)."
            )


class StoredModule(nn.Module):
    """One layer."""

    def __init__(self, layer: StoredLayer) -> None:
        super().__init__()
        self.layer = layer

    def extra_repr(self) -> str:
        """Return its digest, which is part of that of a network."""
        return self.layer.digest

    def forward(self, rows: Tensor) -> Tensor:
        """Return the activations of images, float32 (B, ...)."""
        distinct, inverse = torch.unique(rows, return_inverse=True)
        values = torch.from_numpy(self.layer.read(distinct.tolist())).to(rows.device)
        return values.index_select(0, inverse)


class StoredModules(nn.Module):
    """The layers of a folder; only those with a hook are read."""

    def __init__(self, layers: Mapping[str, StoredLayer]) -> None:
        super().__init__()
        # Not by add_module: names of files may have dots.
        self._modules |= {name: StoredModule(layer) for name, layer in layers.items()}

    def get_submodule(self, target: str) -> nn.Module:
        """Return the part of a layer, whose name may contain dots."""
        part = self._modules.get(target)
        return super().get_submodule(target) if part is None else part

    def forward(self, rows: Tensor) -> Tensor:
        """Run the layers that are recorded, and return the positions."""
        for part in self.children():
            if part._forward_hooks:
                part(rows)
        return rows


def load_stored(folder: Path, name: str, source: "NetworkSource") -> StoredActivations:
    """Open a folder of activations as a network; see `read_folder`.

    Parameters
    ----------
    folder
        With the files.
    name
        Of the network in reports and files.
    source
        As it was asked for.

    Raises
    ------
    NetworkError
        If the folder cannot be used, or options were given that mean nothing for it.
    """
    changed = [name for name in ("weights", "state_dict", "mean", "std", "interpolation") if getattr(source, name)]
    if changed:
        raise NetworkError(
            f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} given for {name}, but stored activations "
            "have neither weights nor images as their input. Leave it out."
        )
    files = read_folder(folder)
    _check_kinds(folder, files)
    size = _map_size(files) if source.size is None else Size(source.size, source.size)
    preprocessing = StoredInput(size, (0.0,), (1.0,), rows=files.rows)
    return StoredActivations(name, StoredModules(files.layers).eval(), preprocessing, source=source)


def _check_kinds(folder: Path, files: StoredFiles) -> None:
    ranks = {len(layer.shape): name for name, layer in files.layers.items()}
    if {MAPS, TOKENS} <= ranks.keys():
        raise NetworkError(
            f"The folder {folder} holds maps ({ranks[MAPS]}) and tokens ({ranks[TOKENS]}). Expected one of them: put "
            f"the others into another folder, with {LIST_FILE}."
        )


def _map_size(files: StoredFiles) -> Size:
    """Return the largest map: without a stated input size one pixel of the input is one cell."""
    sizes = [layer.shape[2:] for layer in files.layers.values() if len(layer.shape) == MAPS]
    sizes += [(math.isqrt(layer.shape[1]),) * 2 for layer in files.layers.values() if len(layer.shape) == TOKENS]
    return Size(*max(sizes, default=(1, 1)))
