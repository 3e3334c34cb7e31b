"""The two looks at the data.

Both write checkpoints, and go on from the last one. What a batch holds depends on its number alone, so an
interrupted run gives the same integers as an unbroken one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.activations import PREFETCHED_BATCHES, ActivationStore, prefetch
from netdissect.concepts import Labels, Size
from netdissect.config import Progress
from netdissect.dissect.cost_plan import CostPlan, LayerPlan, cells_of
from netdissect.dissect.forward import Activations, DissectionInputs, forward, stored, torch_device
from netdissect.dissect.label_cache import is_readable, packed, packed_name, packing
from netdissect.dissect.layer_state import (
    AnyCollector,
    Collector,
    DeviceCollector,
    ThresholdResult,
    add_prefix,
    of_layers,
    strip_prefix,
)
from netdissect.dissect.work_dir.per_image_files import PerImageFiles
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConceptsError
from netdissect.scoring import BatchLabels, ConceptTotals, ImageIntersections, ImageLabels, IoUCounter, IoUCounts
from netdissect.scoring.iou_counter_torch import TorchIoUCounter

Arrays = dict[str, npt.NDArray[Any]]
AnyTallier = IoUCounter | TorchIoUCounter


class CountResult(NamedTuple):
    """What the second look gives: the truth, the tally of each layer, and both image by image."""

    truth: ConceptTotals
    tallies: dict[str, IoUCounts]
    images: PerImageFiles


@dataclass(frozen=True)
class TwoPass:
    """One dissection under way.

    Attributes
    ----------
    source
        Network, data, and what to measure.
    plan
        How.
    work
        Where activations and checkpoints lie.
    progress
        Told of the stage, and of images done and in all.
    starts
        First rows of the batches to look at: all of them, or those of one shard.
    stamp
        The data set as it was before; see `ConceptData.stamp`.
    """

    source: DissectionInputs
    plan: CostPlan
    work: WorkDir
    progress: Progress | None
    starts: range
    stamp: str

    def first(self) -> dict[str, AnyCollector]:
        """Find thresholds and top images of every layer, and keep the activations that can matter."""
        collectors = {layer.layer.name: self._collector(layer) for layer in self.plan.layers}
        saved = self.work.load("first")
        done = int(saved["batches"]) if saved else 0
        if saved:
            for index, collector in enumerate(collectors.values()):
                collector.restore(add_prefix(f"layer{index}", saved))

        def state() -> Arrays:
            return {"batches": np.array(done)} | of_layers(collector.state() for collector in collectors.values())

        self._refill(collectors, done, state)
        if done < len(self.starts):
            with self._threads() as threads:
                for batch in self._reported("first look", forward(self.source, self.starts[done:])):
                    updates = [
                        threads.submit(collector.update, batch.maps[name], batch.rows)
                        for name, collector in collectors.items()
                    ]
                    for update in updates:
                        update.result()
                    done += 1
                    self.work.save("first", state)
            self.work.save("first", state, now=True)
        return collectors

    def second(self, collectors: Mapping[str, AnyCollector], found: Mapping[str, ThresholdResult]) -> CountResult:
        """Count the pixels of every layer against the labels, with the thresholds of the whole data."""
        data = self.source.data
        talliers = {name: collector.tallier(data, found[name].thresholds) for name, collector in collectors.items()}
        truth, images = ConceptTotals.zeros(data), PerImageFiles.at(self.work, tuple(talliers), self.source.config)
        saved = self.work.load("second")
        done = int(saved["batches"]) if saved else 0
        if saved:
            truth = ConceptTotals(**add_prefix("truth", saved))
            for index, tallier in enumerate(talliers.values()):
                tallier.restore(IoUCounts(**add_prefix(f"layer{index}", saved)))
            images.restore(add_prefix("images", saved))

        def state() -> Arrays:
            arrays: Arrays = (
                {"batches": np.array(done)}
                | strip_prefix("truth", vars(truth))
                | strip_prefix("images", images.state())
            )
            return arrays | of_layers(vars(tallier.counts) for tallier in talliers.values())

        labels = self.labels(self._rows[done * self.starts.step :])
        with self._threads() as threads:
            for batch in self._reported("second look", self._again(collectors, done)):
                of_batch = [next(labels) for _ in batch.rows]
                for image in of_batch:
                    truth.update(image)
                by_size = groupby(of_batch, key=lambda image: image.size)
                parts = [(size, BatchLabels.of(list(images))) for size, images in by_size]
                counts = {name: threads.submit(self._count, batch, parts, name, talliers[name]) for name in talliers}
                images.append(batch.start, of_batch, {name: count.result() for name, count in counts.items()})
                done += 1
                self.work.save("second", state)
        self.work.save("second", state, now=True)
        return CountResult(truth, {name: tallier.counts for name, tallier in talliers.items()}, images)

    def _refill(self, collectors: Mapping[str, AnyCollector], done: int, state: Callable[[], Arrays]) -> None:
        """Make activations once more that were kept of the first `done` batches, and are lost."""
        short = {
            name: collector
            for name, collector in collectors.items()
            if isinstance(collector, Collector) and collector.store is not None and collector.store.records < done
        }
        if not short:
            return
        begin = min(collector.store.records for collector in short.values() if collector.store is not None)
        lost = self._reported("first look", forward(self.source, self.starts[begin:done]))
        for number, batch in enumerate(lost, begin):
            for name, collector in short.items():
                if collector.store is not None and collector.store.records == number:
                    collector.keep(batch.maps[name])
            self.work.save("first", state)
        self.work.save("first", state, now=True)

    def _collector(self, plan: LayerPlan) -> AnyCollector:
        name = plan.layer.name
        if self.plan.tensor:
            return DeviceCollector(plan, torch_device(self.source.config.device))
        store = None
        if self.plan.store != "none":
            dense = self.plan.store == "dense" or plan.needs_dense
            store = ActivationStore(self.work.file(name, "bin"), plan.layer.units, cells_of(plan.layer), dense=dense)
        spilled = self.work.file(name, "top") if name in self.plan.spilled else None
        return Collector(plan, store, spilled)

    def _again(self, collectors: Mapping[str, AnyCollector], done: int) -> Iterator[Activations]:
        stores = {name: collector.store for name, collector in collectors.items() if collector.store is not None}
        if stores:
            return stored(self.source, stores, self.starts, done)
        return forward(self.source, self.starts[done:])

    def _count(
        self, batch: Activations, parts: list[tuple[Size, BatchLabels]], name: str, tallier: AnyTallier
    ) -> list[ImageIntersections]:
        """Count one layer of a batch, the images of each size of label maps together."""
        plan = next(plan for plan in self.plan.layers if plan.layer.name == name)
        maps, found, start = batch.maps[name], [], 0
        for size, labels in parts:
            stop = start + len(labels.images)
            masks = tallier.update_batch(maps[start:stop], labels, plan.grid_to(size))
            found.append(masks._replace(image_index=masks.image_index + batch.start + start))
            start = stop
        return found

    def _threads(self) -> ThreadPoolExecutor:
        """Return threads for the layers, which have nothing to do with each other; compiled loops run side by side."""
        workers = 1 if self.plan.tensor else min(self.source.execution.workers, len(self.plan.layers))
        return ThreadPoolExecutor(workers, thread_name_prefix="netdissect-layer")

    def again(self, stage: str, collectors: Mapping[str, AnyCollector]) -> Iterator[Activations]:
        """Go through the activations that can matter once more, whatever follows the second look."""
        return self._reported(stage, self._again(collectors, 0))

    def everything(self, stage: str, collectors: Mapping[str, AnyCollector], done: int) -> Iterator[Activations]:
        """Go through all activations, from batch number `done` on: those that were kept, or of one more pass."""
        if self.keeps_everything(collectors):
            return self._reported(stage, self._again(collectors, done))
        return self._reported(stage, forward(self.source, self.starts[done:]))

    def keeps_everything(self, collectors: Mapping[str, AnyCollector]) -> bool:
        """Tell whether every cell of every layer was kept."""
        return all(collector.store is not None and collector.store.dense for collector in collectors.values())

    def labels(self, rows: Sequence[int]) -> Iterator[ImageLabels]:
        """Read the labels of the images `rows`, some batches of them ahead; packed ones where a run left them."""
        source, cache = self.source, self.source.execution.label_cache
        if cache is None:
            return self._read(rows)
        seen = self.stamp, source.data.digest
        file = cache / packed_name(source.data, source.config.protocol)
        if is_readable(file):
            return packed(file, rows, source.data)
        if rows != range(len(source.data)):
            return self._read(rows)
        return packing(file, self._read(rows), len(rows), lambda: self._seen() == seen, self.work.log)

    def refuse_changed(self, digest: str) -> None:
        """See that the data set still is what it was when the looks began, and what the run says of it.

        Raises
        ------
        ConceptsError
            If it is not; then nothing of the work is kept.
        """
        if self._seen() != (self.stamp, digest):
            self.work.remove()
            raise ConceptsError(
                f"files below {self.source.data.root} were changed while the run was under way: it saw some before and "
                "some after. Nothing of it was kept; run the same command again when the data set is at rest."
            )

    def _seen(self) -> tuple[str, str]:
        return self.source.data.stamp(), self.source.data.digest

    def _read(self, rows: Sequence[int]) -> Iterator[ImageLabels]:
        data, protocol = self.source.data, self.source.config.protocol
        side = protocol.segmentation_size

        def read(row: int) -> ImageLabels:
            labels: Labels = data.labels(row)
            if side is not None:
                labels = labels.resized(Size(side, side))
            return ImageLabels.of(labels, data, protocol.duplicates)

        step = self.starts.step
        parts = [rows[start : start + step] for start in range(0, len(rows), step)]
        # One thread, which is faster than two beside the counting: half of the reading holds the interpreter's lock.
        found = prefetch(lambda part: [read(row) for row in part], parts, 1, PREFETCHED_BATCHES)
        return chain.from_iterable(found)

    @property
    def _rows(self) -> range:
        """Index rows of all images to look at."""
        return range(self.starts.start, min(self.starts.stop, len(self.source.data)))

    def _reported(self, stage: str, batches: Iterator[Activations]) -> Iterator[Activations]:
        rows = self._rows
        for batch in batches:
            yield batch
            if self.progress:
                self.progress(stage, batch.start + len(batch.rows) - rows.start, len(rows))
