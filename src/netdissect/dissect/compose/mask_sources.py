"""Where the masks come from whose pixels are counted: those that a run kept, or ranges of activation.

network of the run -> ActivationStore of each layer -> cluster_bounds of each unit -> RangeMasks
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from netdissect.activations import ActivationStore, batch_starts
from netdissect.activations.clusters import cluster_bounds
from netdissect.concepts import ConceptData, Size
from netdissect.config import Execution, Progress
from netdissect.dissect.cost_plan import LayerPlan, cells_of
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.dissect.reload import network_of
from netdissect.models import Network, exact_patterns, resolve_layers
from netdissect.result import Result
from netdissect.scoring.formulas.image_rows import MaskRows, UnitRuns, count_mask_rows
from netdissect.scoring.formulas.range_rows import count_range_rows

Floats = npt.NDArray[np.float32]
RowMaps = Sequence[npt.NDArray[np.int32]]

MAX_BYTES = 2**28  # of the activations of some units on all images
STAGE, CLUSTER_STAGE = "activations", "k-means"


class CountedMasks(Protocol):
    """The masks of one layer on any images."""

    def count(self, first: int, row_maps: RowMaps) -> list[MaskRows]:
        """Count the active pixels of images from the index `first` on, by row.

        Parameters
        ----------
        first
            Index of the first image.
        row_maps
            int32 (sh, sw) of each image: row of each pixel of its label map.
        """


@dataclass(frozen=True)
class KeptMasks:
    """The masks of one layer that a run kept, at one quantile.

    Attributes
    ----------
    units
        Units of the layer.
    table
        Its table `masks` at the quantile.
    """

    units: int
    table: pl.LazyFrame

    def count(self, first: int, row_maps: RowMaps) -> list[MaskRows]:
        """See `CountedMasks.count`."""
        of_block = pl.col("image_index").is_between(first, first + len(row_maps) - 1)
        frame = self.table.filter(of_block).sort("image_index", "unit", maintain_order=True).collect()
        edges = np.searchsorted(frame["image_index"].to_numpy(), np.arange(first, first + len(row_maps) + 1))
        columns = [frame[name].to_numpy() for name in ("unit", "start", "length")]
        counted, num_rows = [], 1 + max((int(row_map.max(initial=0)) for row_map in row_maps), default=0)
        for index, row_map in enumerate(row_maps):
            runs = UnitRuns(*(column[edges[index] : edges[index + 1]] for column in columns))
            runs.check(self.units, row_map.size)
            counted.append(count_mask_rows(runs, row_map.ravel(), first + index, num_rows))
        return counted


@dataclass(frozen=True, eq=False)
class RangeMasks:
    """The pixels of one layer in each range of activation; range k of unit u has the number u * K + k.

    Attributes
    ----------
    plan
        Of the layer.
    store
        Its activations, dense, batch by batch.
    bounds
        float32 (U, K, 2), smallest and largest activation of each cluster.
    """

    plan: LayerPlan
    store: ActivationStore
    bounds: Floats

    def count(self, first: int, row_maps: RowMaps) -> list[MaskRows]:
        """See `CountedMasks.count`."""
        step, counted, batch, maps = self.plan.config.images_per_batch, list[MaskRows](), -1, np.empty(0, np.float32)
        for image, row_map in enumerate(row_maps, first):
            if image // step != batch:
                batch = image // step
                maps = self.store.read(batch, min(step, self.plan.images - batch * step))
            upsampler = self.plan.grid_to(Size(*row_map.shape))
            counted.append(count_range_rows(maps[image % step], self.bounds, upsampler, row_map, image))
        return counted


@dataclass(frozen=True)
class RangePass:
    """One more pass through the network of a run, whose activations are clustered.

    Attributes
    ----------
    run, data
        The run and its data set.
    clusters
        Ranges of each unit, K.
    network
        Of the run, or its module; None: loaded as the run recorded it.
    execution
        Threads that read images.
    progress
        Called with the stage and the number done and in all.
    """

    run: Result
    data: ConceptData
    clusters: int
    network: Network | torch.nn.Module | None
    execution: Execution
    progress: Progress | None = None

    def store_bytes(self, layers: Sequence[str]) -> int:
        """Return the bytes of the activations of some layers."""
        infos = [self.run.layer(layer).info for layer in layers]
        return sum(4 * len(self.data) * info.units * info.height * info.width for info in infos)

    def masks(self, layers: Sequence[str], folder: Path) -> dict[str, RangeMasks]:
        """Store the activations of some layers in a folder, and cluster those of each unit.

        An interrupted pass is continued where the folder is the same.

        Raises
        ------
        NetworkError
            If the network of the run cannot be loaded, or is another one.
        """
        network, config = network_of(self.run.info, self.network, folder=self.run.folder), self.run.info.config
        traced = resolve_layers(network, exact_patterns(layers), config.assumed)
        source = DissectionInputs.of(network, self.data, traced, config, self.execution)
        plans = [LayerPlan(layer, network.preprocessing.size, len(self.data), config) for layer in traced]
        stores = [self._store(folder / str(index), plan) for index, plan in enumerate(plans)]
        starts, done = batch_starts(len(self.data), config.images_per_batch), min(store.records for store in stores)
        for number, batch in enumerate(forward(source, starts[done:]), done):
            for layer, store in zip(traced, stores, strict=True):
                if store.records == number:
                    store.append(batch.dense(layer.name).cpu().numpy(), np.empty(0, np.float32))
            self._report(STAGE, batch.start + len(batch.rows), len(self.data))
        return {
            plan.layer.name: RangeMasks(plan, store, np.stack(list(self._bounds(plan, store))))
            for plan, store in zip(plans, stores, strict=True)
        }

    def _store(self, path: Path, plan: LayerPlan) -> ActivationStore:
        """Open the activations of a layer; those that an interrupted pass has stored are kept."""
        store = ActivationStore(path, plan.layer.units, cells_of(plan.layer), dense=True)
        step, image_bytes = plan.config.images_per_batch, plan.dense_bytes // plan.images
        store.resume(image_bytes * min(step, plan.images - start) for start in batch_starts(plan.images, step))
        return store

    def _bounds(self, plan: LayerPlan, store: ActivationStore) -> Iterator[Floats]:
        """Yield the ranges of each unit; as many units are read at a time as memory allows."""
        units, step = plan.layer.units, plan.config.images_per_batch
        at_a_time = max(MAX_BYTES * units // plan.dense_bytes, 1)
        for start in range(0, units, at_a_time):
            parts = [
                store.read(batch, min(step, plan.images - batch * step))[:, start : start + at_a_time].copy()
                for batch in range(store.records)
            ]
            for index, values in enumerate(np.moveaxis(np.concatenate(parts), 1, 0), start + 1):
                yield cluster_bounds(values.ravel(), self.clusters)
                self._report(f"{CLUSTER_STAGE} {plan.layer.name}", index, units)

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(stage, done, total)
