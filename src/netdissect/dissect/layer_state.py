"""What one layer keeps of the two looks at the data.

    first look    maps -> Collector.update -> thresholds(), top_images, store
    second look   maps -> tallier()

Two collectors give the same integers: `Collector` with compiled loops on the host, and `DeviceCollector`
with plain tensor code on the device of the forward pass.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations import ActivationStore, StreamingTopK, TopImages
from netdissect.activations.histogram import Histogram
from netdissect.activations.topk_torch import TorchHistogram, TorchStreamingTopK, TorchTopImages
from netdissect.concepts import ConceptData
from netdissect.dissect.cost_plan import LayerPlan, cells_of
from netdissect.scoring import IoUCounter, IoUCounts
from netdissect.scoring.iou_counter_torch import TorchIoUCounter, upsample

Maps = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ThresholdResult:
    """What the first look found out about one layer.

    Attributes
    ----------
    thresholds
        float32 (Q, U).
    rows, maxima, maps
        Top images, best first: int64 (U, K), -1 where there are fewer; float32 (U, K); float32 (U, K, h, w).
    """

    thresholds: Maps
    rows: Rows
    maxima: Maps
    maps: Maps


class _LayerState:
    """What both kinds of collector do with what they keep."""

    plan: LayerPlan
    top_values: StreamingTopK | TorchStreamingTopK
    top_images: TopImages | TorchTopImages
    histogram: Histogram | TorchHistogram

    def thresholds(self) -> Maps:
        """Return T, float32 (quantiles, U), after the first look."""
        config = self.plan.config
        return self.top_values.thresholds(config.quantiles, config.protocol.threshold)

    def found(self) -> ThresholdResult:
        """Return thresholds and top images, after the first look."""
        return ThresholdResult(self.thresholds(), *self.top_images.ranked())

    def part(self) -> Arrays:
        """Return what another machine needs of this one's first look."""
        return part_of(self.top_values, self.top_images)

    def state(self) -> Arrays:
        """Return everything needed to go on later."""
        parts = {"values": self.top_values, "images": self.top_images, "histogram": self.histogram}
        return {key: array for name, part in parts.items() for key, array in strip_prefix(name, part.state()).items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from a `state`."""
        self.top_values.restore(add_prefix("values", arrays))
        self.top_images.restore(add_prefix("images", arrays))
        self.histogram.restore(add_prefix("histogram", arrays))

    def _begun(self, tally: IoUCounts) -> IoUCounts:
        """Return the tally of no images, with the histogram of the first look and room for where units fire."""
        places = np.zeros((self.plan.layer.units, *cells_of(self.plan.layer)), np.int64)
        return replace(tally, firing_map=places, histogram=self.histogram.counts)


class Collector(_LayerState):
    """What one layer keeps, with compiled loops on the host.

    Parameters
    ----------
    plan
        The layer.
    store
        Where activations are kept between the looks; None: the forward pass is repeated.
    file
        Where the largest values are kept if not in memory.
    """

    def __init__(self, plan: LayerPlan, store: ActivationStore | None, file: Path | None) -> None:
        self.plan = plan
        self.store = store
        self.top_values: StreamingTopK = StreamingTopK(plan.layer.units, plan.keep, plan.total, file)
        self.top_images: TopImages = TopImages(plan.layer.units, cells_of(plan.layer), plan.config.top_images)
        self.histogram: Histogram = Histogram(plan.layer.units)
        self._upsampled = plan.threshold_grid

    def update(self, maps: Tensor, rows: Rows) -> None:
        """Take in one batch of maps, float32 (B, U, h, w), of the images `rows`."""
        cells = maps.cpu().numpy()
        self.histogram.update(cells)
        # Of maps that are upsampled for the threshold, other values are counted.
        floor = self.histogram.floor(self.plan.keep) if self._upsampled is None else None
        self.top_values.update(self._values(cells), floor)
        self.top_images.update(cells, rows)
        self.keep(maps)

    def keep(self, maps: Tensor) -> None:
        """Keep the activations of one batch that can matter."""
        if self.store is not None:
            self.store.append(maps.cpu().numpy(), self.top_values.bound)

    def _values(self, maps: Maps) -> Maps:
        if self._upsampled is None:
            return maps.reshape(*maps.shape[:2], -1)
        # A pixel exceeds the bound only if a cell of its map does; the values of other maps do not matter.
        hot = maps.max(axis=(2, 3)) > self.top_values.bound
        lowest = np.finfo(np.float32).min
        pixels = self._upsampled.rows.pixels * self._upsampled.columns.pixels
        values = np.full((*maps.shape[:2], pixels), lowest)
        values[hot] = self._upsampled.upsample(maps[hot]).reshape(-1, pixels)
        return values

    def tallier(self, data: ConceptData, thresholds: Maps) -> IoUCounter:
        """Return what counts the second look, with thresholds of the whole data."""
        tallier = IoUCounter(data, thresholds, self.plan.config.protocol.restriction, self.plan.config.listed)
        tallier.restore(self._begun(tallier.counts))
        return tallier

    def state(self) -> Arrays:
        """Return everything needed to go on later; the store is brought to the disk first."""
        arrays = super().state()
        if self.store is not None:
            self.store.sync()
            arrays["store.offsets"] = np.array(self.store.offsets)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from a `state`."""
        super().restore(arrays)
        if self.store is not None:
            self.store.truncate(arrays["store.offsets"].tolist())


class DeviceCollector(_LayerState):
    """What one layer keeps, with plain tensor code on the device; the forward pass is repeated."""

    store = None

    def __init__(self, plan: LayerPlan, device: torch.device) -> None:
        self.plan = plan
        self._device = device
        self.top_values: TorchStreamingTopK = TorchStreamingTopK(plan.layer.units, plan.keep, plan.total, device)
        self.top_images: TorchTopImages = TorchTopImages(
            plan.layer.units, cells_of(plan.layer), plan.config.top_images, device
        )
        self.histogram: TorchHistogram = TorchHistogram(plan.layer.units, device)
        self._upsampled = plan.threshold_grid

    def update(self, maps: Tensor, rows: Rows) -> None:
        """Take in one batch of maps, float32 (B, U, h, w) on the device, of the images `rows`."""
        self.histogram.update(maps)
        values = maps if self._upsampled is None else upsample(maps, self._upsampled)
        self.top_values.update(values.flatten(2))
        self.top_images.update(maps, rows)

    def tallier(self, data: ConceptData, thresholds: Maps) -> TorchIoUCounter:
        """Return what counts the second look, with thresholds of the whole data."""
        config = self.plan.config
        tallier = TorchIoUCounter(data, thresholds, config.protocol.restriction, self._device, config.listed)
        tallier.restore(self._begun(tallier.counts))
        return tallier


AnyCollector = Collector | DeviceCollector


def part_of(values: StreamingTopK | TorchStreamingTopK, images: TopImages | TorchTopImages) -> Arrays:
    """Return largest values and top images in a form that parts of any engine share."""
    kept, filled, seen = values.kept
    rows, _maxima, maps = images.ranked()
    return {
        "counts": np.array([values.keep, values.total, seen]),
        "values": kept,
        "filled": filled,
        "rows": rows,
        "maps": maps,
    }


def add_prefix(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays whose names begin with a prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def strip_prefix(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays with a prefix before their names: the inverse of `add_prefix`."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def of_layers(states: Iterable[Mapping[str, npt.NDArray[Any]]]) -> Arrays:
    """Return the arrays of all layers, with ``layer0.``, ``layer1.``, ... before their names."""
    return {
        key: array for index, state in enumerate(states) for key, array in strip_prefix(f"layer{index}", state).items()
    }
