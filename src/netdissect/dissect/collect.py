"""The first look at the data: thresholds, top images, and the activations that can matter.

forward() -> Collector.update -> thresholds(), top images, stores
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.config import DissectConfig, Protocol
from netdissect.errors import LayerError
from netdissect.models import Layer
from netdissect.score import Field, Grid, Span, grid
from netdissect.sweep import ActivationStore, TopImages, TopValues, ranks

Maps = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


class LayerGrids:
    """The grids of one layer, made once for each size of label maps."""

    def __init__(self, layer: Layer, source: Size, protocol: Protocol) -> None:
        self.cells = layer.grid or Size(1, 1)
        self.field = field_of(layer)
        self._source = source
        self._anchor = protocol.anchor
        self._grids: dict[Size, Grid] = {}

    def to(self, segmentation: Size) -> Grid:
        """Return the grid from the layer's maps to label maps of this size."""
        if segmentation not in self._grids:
            self._grids[segmentation] = grid(self.cells, segmentation, self._source, self.field, self._anchor)
        return self._grids[segmentation]


def field_of(layer: Layer) -> Field | None:
    """Return a layer's receptive field as plain numbers; None: half-pixel centers."""
    if layer.field is None:
        return None
    spans = (layer.field.vertical, layer.field.horizontal)
    return Field(*(Span(axis.offset, axis.size, axis.step) for axis in spans))


class Collector:
    """What the first look keeps of one layer.

    Parameters
    ----------
    layer
        The layer.
    grids
        Its grids.
    images
        How many images the pass will see.
    config
        Protocol and number of top images.
    store
        Where activations are kept; None: they are computed again.
    """

    def __init__(
        self, layer: Layer, grids: LayerGrids, images: int, config: DissectConfig, store: ActivationStore | None
    ) -> None:
        protocol = config.protocol
        side = protocol.threshold_grid
        self.store = store
        self._upsampled = None if side is None else grids.to(Size(side, side))
        total = images * (grids.cells.height * grids.cells.width if side is None else side * side)
        keep = max(ranks(quantile, total, protocol.threshold)[1] for quantile in protocol.quantiles)
        if keep > total:
            raise LayerError(
                f"layer {layer.name!r} has {total} activations a unit on these images, too few for a threshold. "
                "Use more images."
            )
        self.top_values = TopValues(layer.units, keep, total)
        self.top_images = TopImages(layer.units, grids.cells, config.top_images)

    def update(self, maps: Maps, rows: npt.NDArray[np.int64]) -> None:
        """Take in one batch of maps, float32 (B, U, h, w), of the images `rows`."""
        self.top_values.update(self._values(maps))
        self.top_images.update(maps, rows)
        if self.store is not None:
            self.store.append(maps, self.top_values.bound)

    def _values(self, maps: Maps) -> Maps:
        if self._upsampled is None:
            return maps.reshape(*maps.shape[:2], -1)
        # A pixel exceeds the bound only if a cell of its map does; the values of other maps do not matter.
        hot = maps.max(axis=(2, 3)) > self.top_values.bound
        lowest = np.finfo(np.float32).min
        values = np.full((*maps.shape[:2], self._upsampled.rows.pixels * self._upsampled.columns.pixels), lowest)
        values[hot] = self._upsampled.upsample(maps[hot]).reshape(int(hot.sum()), -1)
        return values

    def state(self) -> Arrays:
        """Return everything needed to go on later; the store is brought to the disk first."""
        arrays = {f"values.{name}": array for name, array in self.top_values.state().items()}
        arrays |= {f"images.{name}": array for name, array in self.top_images.state().items()}
        if self.store is not None:
            self.store.sync()
            arrays["store.offsets"] = np.array(self.store.offsets)
        return arrays

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self.top_values.restore(_below("values", arrays))
        self.top_images.restore(_below("images", arrays))
        if self.store is not None:
            self.store.cut(arrays["store.offsets"].tolist())


def open_store(path: Path, layer: Layer, protocol: Protocol, kind: str) -> ActivationStore | None:
    """Open a layer's store of the wanted kind: ``dense``, ``sparse`` or ``none``."""
    if kind == "none":
        return None
    # Pillow interpolates over more than two cells when it shrinks a map: neighbors alone would not do.
    dense = kind == "dense" or protocol.anchor == "half-pixel-pillow"
    return ActivationStore(path, layer.units, layer.grid or Size(1, 1), dense=dense)


def _below(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
