"""The state of one layer during the two passes.

    threshold pass   maps -> Collector.update -> thresholds(), top_images, store
    counting pass    maps -> the counter of Collector.counter()

Three collectors give the same integers: `Collector` with compiled loops on the host, `DeviceCollector` with plain
tensor code on the device of the forward pass, and `SparseCollector` for maps of which only active cells are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations import ActivationStore, StreamingTopK, TopImages
from netdissect.activations.activation_range import choose_images
from netdissect.activations.histogram import Histogram
from netdissect.activations.image_values import ImageValues, largest_values, sampled_maxima
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.activations.sparse.unit_maps import UnitMaps
from netdissect.activations.topk_torch import TorchHistogram, TorchStreamingTopK, TorchTopImages
from netdissect.concepts import ConceptData, Size
from netdissect.dissect.cost_plan import LayerPlan, cells_of
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.process.split_loops import SplitLoops
from netdissect.scoring import IoUCounter, IoUCounts, Upsampler
from netdissect.scoring.device_axis import upsample
from netdissect.scoring.iou_counter import LeadingQuantiles
from netdissect.scoring.iou_counter_torch import TorchIoUCounter

if TYPE_CHECKING:
    from netdissect.config import DissectConfig

Maps = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]
MAX_PENDING = 2**22
"""Image maxima that wait on the device: the host waits for it once for all of them."""
NO_CELLS = Size(0, 0)
AnyTopK = StreamingTopK | TorchStreamingTopK
AnyTopImages = TopImages | TorchTopImages


@dataclass(frozen=True)
class ThresholdResult:
    """What is known of one layer after the threshold pass.

    Attributes
    ----------
    thresholds
        float32 (Q, U).
    image_index, max_activation, maps
        Top images, best first: int64 (U, K), -1 where there are fewer; float32 (U, K); float32 (U, K, h, w), without
        cells before the counting pass where maps are sparse.
    range_index, range_maxima
        Images over the range of each unit; see `netdissect.activations.activation_range.choose_images`.
    image_maxima
        Maxima of a sample of the images; see `netdissect.activations.image_values.sample_images`.
    """

    thresholds: Maps
    image_index: Rows
    max_activation: Maps
    maps: Maps | UnitMaps
    range_index: Rows
    range_maxima: Maps
    image_maxima: Maps

    @classmethod
    def of(cls, config: "DissectConfig", values: AnyTopK, images: AnyTopImages, maxima: Sequence[ImageValues]) -> Self:
        """Evaluate the statistics of all images; `maxima` of each shard, in the order of the images."""
        thresholds = values.thresholds(config.quantiles, config.protocol.threshold)
        chosen = choose_images(maxima, config.statistics.stats_seed)
        return cls(thresholds, *images.ranked(), *chosen, sampled_maxima(maxima))


class _LayerState:
    """The common part of all collectors."""

    plan: LayerPlan
    top_values: AnyTopK
    top_images: AnyTopImages
    histogram: Histogram | TorchHistogram
    moments: LayerMoments | None
    _maxima: ImageValues

    @property
    def maxima(self) -> ImageValues:
        """The maxima of each image so far."""
        return self._maxima

    def thresholds(self) -> Maps:
        """Return T, float32 (quantiles, U), after the threshold pass."""
        config = self.plan.config
        return self.top_values.thresholds(config.quantiles, config.protocol.threshold)

    def threshold_result(self) -> ThresholdResult:
        """Return what is known after the threshold pass."""
        return ThresholdResult.of(self.plan.config, self.top_values, self.top_images, [self.maxima])

    def release(self) -> None:
        """Free the largest values and the top images, which nothing needs after `threshold_result`."""
        del self.top_values, self.top_images

    def export(self) -> Arrays:
        """Return largest values and top images, to be merged with those of other shards."""
        return export_arrays(self.top_values, self.top_images)

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint; the file of maxima is synced first."""
        maxima = self.maxima
        maxima.sync()
        parts = {"values": self.top_values, "images": self.top_images, "histogram": self.histogram}
        arrays = {key: array for name, part in parts.items() for key, array in add_prefix(name, part.state()).items()}
        of_moments = {} if self.moments is None else add_prefix("moments", self.moments.state())
        return arrays | {"maxima.offsets": np.array(maxima.offsets)} | of_moments

    def restore(self, arrays: Arrays) -> None:
        """Restore a `state`."""
        self.top_values.restore(strip_prefix("values", arrays))
        self.top_images.restore(strip_prefix("images", arrays))
        self.histogram.restore(strip_prefix("histogram", arrays))
        self._maxima.truncate(arrays["maxima.offsets"].tolist())
        if self.moments is not None:
            self.moments.restore(strip_prefix("moments", arrays))

    @property
    def _leading(self) -> LeadingQuantiles:
        config = self.plan.config
        return LeadingQuantiles(len(config.reported_quantiles), config.listed, config.mask_quantiles)

    def _initial_counts(self, counts: IoUCounts) -> IoUCounts:
        """Return counts of no images, with the histogram of the threshold pass and an empty firing map."""
        firing_map = np.zeros((self.plan.layer.units, *cells_of(self.plan.layer)), np.int64)
        return replace(counts, firing_map=firing_map, histogram=self.histogram.counts)


class _HostState(_LayerState):
    """The common part of the collectors on the host."""

    store: ActivationStore | SparseStore | None

    def counter(self, data: ConceptData, thresholds: Maps) -> IoUCounter:
        """Return the counter of the counting pass, at the thresholds of all images."""
        config = self.plan.config
        counter = IoUCounter(data, thresholds, config.protocol.restriction, self._leading)
        counter.restore(self._initial_counts(counter.counts))
        return counter

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint; the store is synced first."""
        arrays = super().state()
        if self.store is not None:
            self.store.sync()
            arrays["store.offsets"] = np.array(self.store.offsets)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Restore a `state`."""
        super().restore(arrays)
        if self.store is not None:
            self.store.truncate(arrays["store.offsets"].tolist())


class Collector(_HostState):
    """The state of one layer, with compiled loops on the host.

    Parameters
    ----------
    plan
        The layer.
    maxima
        Stores the maxima of each image.
    store
        Stores activations between the passes; None: the forward pass is repeated.
    file
        File of the largest values; None: they are kept in memory.
    moments
        Moments over the whole range of activation; None: not requested.
    threads
        Threads at once; results do not depend on it.
    """

    def __init__(
        self,
        plan: LayerPlan,
        maxima: ImageValues,
        store: ActivationStore | None,
        file: Path | None,
        moments: LayerMoments | None = None,
        threads: int = 1,
    ) -> None:
        self.plan = plan
        self.moments = moments
        self._maxima = maxima
        self._split = SplitLoops(threads)
        self.store: ActivationStore | None = store
        self.top_values: StreamingTopK = StreamingTopK(plan.layer.units, plan.keep, plan.total, file)
        self.top_images: TopImages = TopImages(plan.layer.units, cells_of(plan.layer), plan.config.top_images)
        self.histogram: Histogram = Histogram(plan.layer.units)
        self._upsampled = plan.threshold_grid

    def update(self, maps: Tensor, rows: Rows) -> None:
        """Add one batch of maps, float32 (B, U, h, w), of the images `rows`."""
        cells = maps.cpu().numpy()
        self.histogram.update(cells, self._split)
        # The histogram holds cells; where thresholds are taken over upsampled maps it gives no bound.
        floor = self.histogram.floor(self.plan.keep) if self._upsampled is None else None
        maxima = largest_values(cells)
        self.top_values.update(self._values(cells, maxima), floor, maxima, split=self._split)
        self.top_images.update(cells, maxima, rows)
        self._maxima.append(maxima)
        if self.store is not None:
            self.store.append(cells, self.top_values.bound, maxima, self._split)

    def keep(self, maps: Tensor) -> None:
        """Store the activations of one batch that can exceed a threshold."""
        if self.store is not None:
            self.store.append(maps.cpu().numpy(), self.top_values.bound, split=self._split)

    def _values(self, maps: Maps, maxima: Maps) -> Maps:
        if self._upsampled is None:
            return maps.reshape(*maps.shape[:2], -1)
        # A pixel exceeds the bound only if a cell of its map does: other maps are not upsampled.
        exceeding = maxima > self.top_values.bound
        lowest = np.finfo(np.float32).min
        pixels = self._upsampled.rows.pixels * self._upsampled.columns.pixels
        values = np.full((*maps.shape[:2], pixels), lowest)
        values[exceeding] = self._upsampled.upsample(maps[exceeding]).reshape(-1, pixels)
        return values


class DeviceCollector(_LayerState):
    """The state of one layer, with plain tensor code on the device; the forward pass is repeated."""

    store = None

    def __init__(
        self, plan: LayerPlan, maxima: ImageValues, device: torch.device, moments: LayerMoments | None = None
    ) -> None:
        self.plan = plan
        self.moments = moments
        self._maxima = maxima
        self._device = device
        self._pending: list[Tensor] = []
        self.top_values: TorchStreamingTopK = TorchStreamingTopK(plan.layer.units, plan.keep, plan.total, device)
        self.top_images: TorchTopImages = TorchTopImages(
            plan.layer.units, cells_of(plan.layer), plan.config.top_images, device
        )
        self.histogram: TorchHistogram = TorchHistogram(plan.layer.units, device)
        self._upsampled = plan.threshold_grid

    def update(self, maps: Tensor, rows: Rows) -> None:
        """Add one batch of maps, float32 (B, U, h, w) on the device, of the images `rows`."""
        self.histogram.update(maps)
        values = maps if self._upsampled is None else upsample(maps, self._upsampled)
        self.top_values.update(values.flatten(2))
        self.top_images.update(maps, rows)
        self._pending.append(maps.amax(dim=(2, 3)))
        if sum(part.numel() for part in self._pending) >= MAX_PENDING:
            self._write_pending()

    @property
    def maxima(self) -> ImageValues:
        """The maxima of each image so far; those still on the device are written first."""
        self._write_pending()
        return self._maxima

    def _write_pending(self) -> None:
        if self._pending:
            self._maxima.append(torch.cat(self._pending).cpu().numpy())
            self._pending = []

    def counter(self, data: ConceptData, thresholds: Maps) -> TorchIoUCounter:
        """Return the counter of the counting pass, at the thresholds of all images."""
        config = self.plan.config
        counter = TorchIoUCounter(data, thresholds, config.protocol.restriction, self._device, self._leading)
        counter.restore(self._initial_counts(counter.counts))
        return counter


class SparseCollector(_HostState):
    """The state of one layer whose maps are sparse, with compiled loops on the host over its active maps.

    Parameters
    ----------
    plan, maxima, file, moments
        As for `Collector`.
    store
        Stores the active cells between the passes; None: the forward pass is repeated.
    """

    def __init__(
        self,
        plan: LayerPlan,
        maxima: ImageValues,
        store: SparseStore | None,
        file: Path | None,
        moments: LayerMoments | None = None,
    ) -> None:
        self.plan = plan
        self.moments = moments
        self._maxima = maxima
        self.store: SparseStore | None = store
        self.top_values: StreamingTopK = StreamingTopK(plan.layer.units, plan.keep, plan.total, file, lowest=0.0)
        # Their maps are collected in the counting pass, when the images are known.
        self.top_images: TopImages = TopImages(plan.layer.units, NO_CELLS, plan.config.top_images)
        self.histogram: Histogram = Histogram(plan.layer.units, negative=False)
        self._upsampled = plan.threshold_grid

    def update(self, maps: SparseMaps, rows: Rows) -> None:
        """Add one batch of maps of the images `rows`."""
        self.histogram.update_sparse(maps)
        maxima = maps.image_maxima()
        if self._upsampled is None:
            self.top_values.update_sparse(maps)
        else:
            self._add_upsampled(maps, maxima, self._upsampled)
        self.top_images.update(np.empty((*maxima.shape, *NO_CELLS), np.float32), maxima, rows)
        self._maxima.append(maxima)
        self.keep(maps)

    def _add_upsampled(self, maps: SparseMaps, maxima: Maps, upsampler: Upsampler) -> None:
        for image in range(len(maps)):
            units, active = maps.active_maps(image, self.top_values.bound)
            values = upsampler.upsample(active)
            pixels = values.reshape(1, len(units), values.shape[1] * values.shape[2])
            self.top_values.update(pixels, maxima=maxima[image : image + 1, units], units=units)

    def keep(self, maps: SparseMaps) -> None:
        """Store the active cells of one batch."""
        if self.store is not None:
            self.store.append(maps)


AnyCollector = Collector | DeviceCollector | SparseCollector


def export_arrays(values: AnyTopK, images: AnyTopImages) -> Arrays:
    """Return largest values and top images as arrays that do not depend on the engine."""
    kept, filled, seen = values.kept
    image_index, maxima, maps = images.ranked()
    return {
        "counts": np.array([values.keep, values.total, seen]),
        "lowest": np.array(values.lowest),
        "values": kept,
        "filled": filled,
        "image_index": image_index,
        "maxima": maxima,
        "maps": maps,
    }


def strip_prefix(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays whose names begin with a prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def add_prefix(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays with a prefix before their names: the inverse of `strip_prefix`."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def prefix_layers(states: Iterable[Mapping[str, npt.NDArray[Any]]], prefix: str = "layer") -> Arrays:
    """Return the arrays of all layers, with the prefixes ``layer0.``, ``layer1.``, ...."""
    return {
        key: array for index, state in enumerate(states) for key, array in add_prefix(f"{prefix}{index}", state).items()
    }
