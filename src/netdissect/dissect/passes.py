"""The two passes over the data: thresholds, then counting.

Both write checkpoints and resume from the last one. The content of a batch depends only on its index, so an
interrupted run gives the same integers as an uninterrupted one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from netdissect.activations import ActivationStore
from netdissect.activations.activation_range import RangeMaps
from netdissect.activations.image_values import ImageValues
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.activations.sparse.unit_maps import SparseImageMaps, UnitMaps
from netdissect.activations.topk_torch import TorchRangeMaps
from netdissect.concepts import Size
from netdissect.config import Progress
from netdissect.dissect.cost_plan import CostPlan, LayerPlan, cells_of
from netdissect.dissect.devices import torch_device
from netdissect.dissect.forward import Activations, DissectionInputs, FiniteCheck, as_dense, forward, stored
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.layer_state import (
    AnyCollector,
    Collector,
    DeviceCollector,
    Rows,
    SparseCollector,
    ThresholdResult,
    add_prefix,
    prefix_layers,
    strip_prefix,
)
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.dissect.work_dir.mask_files import MaskFiles
from netdissect.dissect.work_dir.per_image_files import PerImageFiles
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConceptsError
from netdissect.scoring import BatchLabels, ConceptTotals, ImageIntersections, ImageLabels, IoUCounter, IoUCounts
from netdissect.scoring.iou_counter_torch import TorchIoUCounter
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.statistics.holdout import is_held_out

Arrays = dict[str, npt.NDArray[Any]]
COUNTED_IMAGES = 32
"""Images whose stored activations are counted together; the labels of as many are read meanwhile."""
COUNTED_BYTES = 2**26
"""Most memory that these may take."""
AnyCounter = IoUCounter | TorchIoUCounter
AnyRangeMaps = RangeMaps | TorchRangeMaps | SparseImageMaps


class CountResult(NamedTuple):
    """The result of the counting pass.

    Attributes
    ----------
    concept_totals
        Totals of each concept.
    counts
        Counts of each layer.
    per_image
        Both for each image.
    masks
        Masks of each image.
    top_maps
        Maps of the top images of each unit, of each sparse layer.
    range_maps
        Maps of the images over the range of each unit, float32 (U, S, h, w), of each layer.
    """

    concept_totals: ConceptTotals
    counts: dict[str, IoUCounts]
    per_image: PerImageFiles
    masks: MaskFiles
    top_maps: dict[str, UnitMaps]
    range_maps: dict[str, npt.NDArray[np.float32] | UnitMaps]

    def with_top_maps(self, layer: str, result: ThresholdResult) -> ThresholdResult:
        """Return the result of the threshold pass of a layer with the maps of its top images."""
        return replace(result, maps=self.top_maps[layer]) if layer in self.top_maps else result


@dataclass(frozen=True)
class TwoPass:
    """The two passes of one dissection.

    Attributes
    ----------
    source
        Network, data and configuration.
    plan
        Store and engine of each layer.
    work
        Folder of activations and checkpoints.
    progress
        Called with the stage and the number of images done and in all.
    starts
        Index of the first image of each batch: of all batches, or of those of one shard.
    stamp
        State of the data set when the run began; see `ConceptData.stamp`.
    """

    source: DissectionInputs
    plan: CostPlan
    work: WorkDir
    progress: Progress | None
    starts: range
    stamp: str

    def threshold_pass(self) -> dict[str, AnyCollector]:
        """Compute thresholds and top images of every layer, and store the activations that counting needs."""
        collectors = {layer.layer.name: self._collector(layer) for layer in self.plan.layers}
        saved = self.work.load("thresholds")
        done = int(saved["batches"]) if saved else 0
        if saved:
            for index, collector in enumerate(collectors.values()):
                collector.restore(strip_prefix(f"layer{index}", saved))

        def state() -> Arrays:
            check.refuse()
            return {"batches": np.array(done)} | prefix_layers(collector.state() for collector in collectors.values())

        check = FiniteCheck(self.source)
        self._restore_lost_activations(collectors, done, state)
        if done < len(self.starts):
            rows = self.rows[done * self.starts.step :]
            labels = self.label_reader.read(rows) if self.source.config.statistics.moments else iter(())
            with self._threads() as threads:
                for batch in self._with_progress("thresholds", self._forward(self.starts[done:], check)):
                    images = list(islice(labels, len(batch.rows)))
                    updates = [
                        threads.submit(self._collect, collector, batch.maps[name], batch.rows, images)
                        for name, collector in collectors.items()
                    ]
                    for update in updates:
                        update.result()
                    done += 1
                    self.work.save("thresholds", state)
            self.work.save("thresholds", state, now=True)
        return collectors

    def count_pass(
        self, collectors: Mapping[str, AnyCollector], threshold_results: Mapping[str, ThresholdResult]
    ) -> CountResult:
        """Count the mask and label pixels of every layer, at the thresholds of all images."""
        data = self.source.data
        counters = {
            name: collector.counter(data, threshold_results[name].thresholds) for name, collector in collectors.items()
        }
        concept_totals = ConceptTotals.zeros(data)
        per_image = PerImageFiles.at(self.work, tuple(counters), self.source.config)
        masks = MaskFiles.at(self.work, tuple(counters), len(self.rows), data, self.source.config)
        range_maps = {
            plan.layer.name: self._range_maps(plan, threshold_results[plan.layer.name]) for plan in self.plan.layers
        }
        saved = self.work.load("counting")
        done = int(saved["batches"]) if saved else 0
        if saved:
            concept_totals = ConceptTotals(**strip_prefix("concept-totals", saved))
            for index, counter in enumerate(counters.values()):
                counter.restore(IoUCounts(**strip_prefix(f"layer{index}", saved)))
            per_image.restore(strip_prefix("images", saved))
            masks.restore(strip_prefix("masks", saved))
            for index, chosen in enumerate(range_maps.values()):
                chosen.restore(strip_prefix(f"range{index}", saved))

        check = FiniteCheck(self.source)

        def state() -> Arrays:
            check.refuse()
            totals, offsets = (
                add_prefix("concept-totals", vars(concept_totals)),
                add_prefix("images", per_image.state()),
            )
            return (
                {"batches": np.array(done)}
                | totals
                | offsets
                | add_prefix("masks", masks.state())
                | prefix_layers((chosen.state() for chosen in range_maps.values()), "range")
                | prefix_layers(vars(counter.counts) for counter in counters.values())
            )

        labels = self.label_reader.read(self.rows[done * self.starts.step :])
        with self._threads() as threads:
            replayed = self._replay(collectors, done, check, self._batches_at_once())
            following = None
            for batch in self._with_progress("counting", replayed):
                of_batch, parts = following or _take(labels, len(batch.rows))
                counts = {
                    name: threads.submit(self._count, batch, parts, name, counters[name], range_maps[name])
                    for name in counters
                }
                # While the layers are counted. All batches have as many images, but for the last, which has the rest.
                following = _take(labels, len(batch.rows))
                for image in of_batch:
                    concept_totals.update(image)
                counted = {name: count.result() for name, count in counts.items()}
                per_image.append(batch.start, of_batch, {name: parts for name, (parts, _) in counted.items()})
                masks.append(
                    batch.start - self.rows.start, of_batch, {name: runs for name, (_, runs) in counted.items()}
                )
                done += -(-len(batch.rows) // self.starts.step)
                self.work.save("counting", state)
        self.work.save("counting", state, now=True)
        counts_of_layers = {name: counter.counts for name, counter in counters.items()}
        tops, ranges = dict[str, UnitMaps](), dict[str, npt.NDArray[np.float32] | UnitMaps]()
        for name, chosen in range_maps.items():
            if isinstance(chosen, SparseImageMaps):
                top_images = self.source.config.top_images
                tops[name], ranges[name] = chosen.maps(0, top_images), chosen.maps(top_images, chosen.slots)
            else:
                ranges[name] = chosen.maps
        return CountResult(concept_totals, counts_of_layers, per_image, masks, tops, ranges)

    def _restore_lost_activations(
        self, collectors: Mapping[str, AnyCollector], done: int, state: Callable[[], Arrays]
    ) -> None:
        """Compute stored activations of the first `done` batches again if their files were lost."""
        incomplete = {
            name: collector
            for name, collector in collectors.items()
            if not isinstance(collector, DeviceCollector)
            and collector.store is not None
            and collector.store.records < done
        }
        if not incomplete:
            return
        begin = min(collector.store.records for collector in incomplete.values() if collector.store is not None)
        again = self._with_progress("thresholds", self._forward(self.starts[begin:done]))
        for number, batch in enumerate(again, begin):
            for name, collector in incomplete.items():
                if collector.store is not None and collector.store.records == number:
                    collector.keep(self._on_host(batch.maps[name]))
            self.work.save("thresholds", state)
        self.work.save("thresholds", state, now=True)

    def _collector(self, plan: LayerPlan) -> AnyCollector:
        name = plan.layer.name
        maxima = ImageValues(self.work.file(name, "maxima"), plan.layer.units)
        moments = self._moments(plan)
        spilled = self.work.file(name, "top") if name in self.plan.spilled else None
        if self.plan.tensor and not plan.sparse:
            return DeviceCollector(plan, maxima, torch_device(self.source.config.device), moments)
        if plan.sparse:
            kept = None
            if self.plan.store != "none":
                kept = SparseStore(self.work.file(name, "bin"), plan.layer.units, cells_of(plan.layer))
            return SparseCollector(plan, maxima, kept, spilled, moments)
        store = None
        if self.plan.store != "none":
            dense = self.plan.store == "dense" or plan.needs_dense
            store = ActivationStore(self.work.file(name, "bin"), plan.layer.units, cells_of(plan.layer), dense=dense)
        threads = max(1, self.source.execution.threads // len(self.plan.layers))
        return Collector(plan, maxima, store, spilled, moments, threads)

    def _moments(self, plan: LayerPlan) -> LayerMoments | None:
        if not self.source.config.statistics.moments:
            return None
        return LayerMoments.at(self.work.file(plan.layer.name, "means"), plan.layer.units, self.source.data)

    def _collect(
        self, collector: AnyCollector, maps: Tensor | SparseMaps, rows: Rows, images: Sequence[ImageLabels]
    ) -> None:
        """Add one layer of a batch; `images` have the labels of the images if the run has moments."""
        collector.update(self._on_host(maps), rows)
        if collector.moments is not None:
            statistics = self.source.config.statistics
            held_out = is_held_out(statistics.stats_seed, rows, statistics.holdout_share)
            collector.moments.update(as_dense(maps).cpu().numpy(), images, held_out, collector.plan)

    def _range_maps(self, plan: LayerPlan, result: ThresholdResult) -> AnyRangeMaps:
        image_index = result.range_index
        if plan.sparse:
            return SparseImageMaps(np.concatenate([result.image_index, image_index], axis=1), cells_of(plan.layer))
        if self.plan.tensor:
            return TorchRangeMaps(image_index, cells_of(plan.layer), torch_device(self.source.config.device))
        return RangeMaps(image_index, cells_of(plan.layer))

    def _replay(
        self, collectors: Mapping[str, AnyCollector], done: int, check: FiniteCheck | None = None, at_once: int = 1
    ) -> Iterator[Activations]:
        stores = {name: collector.store for name, collector in collectors.items() if collector.store is not None}
        if stores:
            return stored(self.source, stores, self.starts, done, at_once)
        return self._forward(self.starts[done:], check)

    def _batches_at_once(self) -> int:
        """Return how many batches of stored activations are counted together.

        Most calls of Python are those of a batch: counting ten layers of EfficientNet-Lite0 took 2.8 s in batches of 8,
        and takes 2.4 s with four of them together.
        """
        if any(plan.sparse for plan in self.plan.layers):
            return 1
        images = min(COUNTED_IMAGES, COUNTED_BYTES // sum(plan.map_bytes(1) for plan in self.plan.layers))
        return max(1, images // self.starts.step)

    def _forward(self, starts: range, check: FiniteCheck | None = None) -> Iterator[Activations]:
        """Run the network; maps of sparse layers are sparse."""
        return forward(self.source, starts, check, [plan.layer.name for plan in self.plan.layers if plan.sparse])

    def _count(
        self,
        batch: Activations,
        parts: list[tuple[Size, BatchLabels]],
        name: str,
        counter: AnyCounter,
        range_maps: AnyRangeMaps,
    ) -> tuple[list[ImageIntersections], list[MaskRuns]]:
        """Count one layer of a batch, the images of each size of label maps together."""
        plan = next(plan for plan in self.plan.layers if plan.layer.name == name)
        maps, intersections, start = self._on_host(batch.maps[name]), list[ImageIntersections](), 0
        runs: list[MaskRuns] = []
        range_maps.update(maps, batch.start)
        for size, labels in parts:
            stop = start + len(labels.images)
            masks = counter.update_batch(maps[start:stop], labels, plan.grid_to(size))
            of_part = masks.intersections
            intersections.append(of_part._replace(image_index=of_part.image_index + batch.start + start))
            runs += masks.runs
            start = stop
        return intersections, runs

    def _on_host(self, maps: Tensor | SparseMaps) -> Any:
        """Return the maps of a layer as its collector and counter take them: on the host unless they compute there."""
        return maps if self.plan.tensor or isinstance(maps, SparseMaps) else maps.cpu()

    def _threads(self) -> ThreadPoolExecutor:
        """Return threads for the layers, which are independent; compiled loops release the interpreter lock."""
        workers = 1 if self.plan.tensor else min(self.source.execution.threads, len(self.plan.layers))
        return ThreadPoolExecutor(workers, thread_name_prefix="netdissect-layer")

    def replay_all(self, stage: str, collectors: Mapping[str, AnyCollector], done: int) -> Iterator[Activations]:
        """Iterate over all activations from batch `done` on: stored ones if all were kept, or another forward pass."""
        if self.keeps_all_activations(collectors):
            return self._with_progress(stage, self._replay(collectors, done))
        return self._with_progress(stage, self._forward(self.starts[done:]))

    def keeps_all_activations(self, collectors: Mapping[str, AnyCollector]) -> bool:
        """Return whether every cell of every layer was stored."""
        return all(collector.store is not None and collector.store.dense for collector in collectors.values())

    @property
    def label_reader(self) -> LabelReader:
        """Reads the labels of any images of the run."""
        data, config, cache = self.source.data, self.source.config, self.source.execution.cache_folder
        return LabelReader(data, config.protocol, cache, self.starts.step, self.stamp, self.work.log)

    def refuse_changed(self, digest: str) -> None:
        """Raise if the data set changed since the passes began.

        Raises
        ------
        ConceptsError
            If it changed; all work is removed then.
        """
        try:
            self.label_reader.refuse_changed(digest)
        except ConceptsError:
            self.work.remove()
            raise

    @property
    def rows(self) -> range:
        """Indices of all images of these passes."""
        return range(self.starts.start, min(self.starts.stop, len(self.source.data)))

    def _with_progress(self, stage: str, batches: Iterator[Activations]) -> Iterator[Activations]:
        rows = self.rows
        for batch in batches:
            yield batch
            if self.progress:
                self.progress(stage, batch.start + len(batch.rows) - rows.start, len(rows))


def _take(labels: Iterator[ImageLabels], images: int) -> tuple[list[ImageLabels], list[tuple[Size, BatchLabels]]]:
    """Read the labels of the next images, and join those of consecutive ones whose label maps have one size."""
    taken = list(islice(labels, images))
    by_size = groupby(taken, key=lambda image: image.size)
    return taken, [(size, BatchLabels.of(list(part))) for size, part in by_size]
