"""One pass over the images of a run: cells of layers with their concepts, and values of whole images.

    DissectionInputs, CellRequest -> read_cells -> CellFiles.cells, .concepts, .values

Each part of the pass is a file in a folder that is named by the digest of what made it, so that the pass resumes. Units
of a basis are made again from the cells of its layer; only their values of whole images are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import scipy.sparse
from torch import Tensor

from netdissect.activations import batch_starts
from netdissect.checksums import json_digest
from netdissect.concepts import ConceptData, Size
from netdissect.concepts.array_file import NO_ARRAY
from netdissect.config import Progress
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ResultError
from netdissect.evaluation.dictionaries.code_matrix import CellConcepts
from netdissect.models import Layer
from netdissect.paths import writing
from netdissect.result.files import write_whole
from netdissect.scoring import ImageLabels
from netdissect.scoring.cell_moments import LabeledCells
from netdissect.scoring.statistics.holdout import is_held_out

Ints = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]

STAGE = "cells"
PART_IMAGES = 256
MAJORITY = 0.5
"""A concept with a larger share of the pixels of a cell is a concept of the cell."""


@dataclass(frozen=True)
class CellRequest:
    """What a pass keeps.

    Attributes
    ----------
    cells
        Cells of each layer at most: an equal number of each image, drawn by `seed` if not all.
    seed
        Of these cells.
    pool
        How the cells of an image become its value: their mean or their maximum. None: no values are kept.
    """

    cells: int
    seed: int
    pool: Literal["mean", "max"] | None = None


@dataclass(frozen=True)
class CellFiles:
    """What a pass has kept, in files.

    Attributes
    ----------
    folder
        Of the files.
    layers
        Names of the layers of the network, whose cells were kept, and of all layers with values.
    data
        The data set.
    held_out
        bool (images,): which images are held out.
    parts
        Number of files.
    """

    folder: Path
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    data: ConceptData
    held_out: npt.NDArray[np.bool_]
    parts: int

    def cells(self, layer: str) -> npt.NDArray[np.float32]:
        """Return the cells of a layer, float32 (N, U)."""
        return np.concatenate(list(self._arrays(f"cells{self.layers[0].index(layer)}")))

    def concepts(self, layer: str) -> CellConcepts:
        """Return the concepts of these cells, in the order of `ConceptData.concepts`."""
        index = self.layers[0].index(layer)
        images, annotated = list(self._arrays("rows")), list(self._arrays("annotated"))
        of_cells, rows = list(self._arrays(f"image{index}")), list(self._arrays(f"row{index}"))
        starts = np.cumsum([0, *map(len, of_cells)])
        cell = np.concatenate([part.astype(np.int64) + start for part, start in zip(rows, starts, strict=False)])
        concept = np.concatenate(list(self._arrays(f"concept{index}")))
        shape = (int(starts[-1]), len(self.data.concepts))
        present = scipy.sparse.csr_array((np.ones(len(cell), np.bool_), (cell, concept)), shape=shape)
        category_of = [self.data.categories.index(each.category) for each in self.data.concepts]
        image_index = np.concatenate([part[each] for part, each in zip(images, of_cells, strict=True)])
        of_images = np.concatenate([part[each] for part, each in zip(annotated, of_cells, strict=True)])
        return CellConcepts(image_index, present, np.array(category_of), of_images, self.held_out[image_index])

    def values(self, layer: str) -> Iterator[tuple[Ints, npt.NDArray[np.float32]]]:
        """Yield image indices, int64 (B,), and the value of each unit of a layer on each of them, float32 (B, K)."""
        return zip(self._arrays("rows"), self._arrays(f"value{self.layers[1].index(layer)}"), strict=True)

    def _arrays(self, name: str) -> Iterator[npt.NDArray[Any]]:
        return (_read_array(self.folder, index, name) for index in range(self.parts))


def read_cells(
    source: DissectionInputs, request: CellRequest, folder: Path, progress: Progress | None = None
) -> CellFiles:
    """Run the network over the images, and keep what is asked for.

    Parameters
    ----------
    source
        Network, data, layers and configuration, as of a dissection. Of a basis of a layer, that layer is read.
    request
        What is kept.
    folder
        Where; the pass has a folder of its own below it, and resumes there.
    progress
        Receives images.

    Raises
    ------
    NetdissectError
        As a dissection does.
    """
    layers = network_layers(source)
    source = source._replace(layers=[*layers, *(layer for layer in source.layers if layer not in layers)])
    of_pass = folder / f"cells-{_digest(source, request)[:16]}"
    with writing(of_pass, "Choose a folder on a disk with space."):
        of_pass.mkdir(parents=True, exist_ok=True)
    _Pass(source, layers, request, of_pass).run(progress)
    names = tuple(layer.name for layer in layers), tuple(layer.name for layer in source.layers)
    statistics, images = source.config.statistics, np.arange(len(source.data))
    held_out = is_held_out(statistics.stats_seed, images, statistics.holdout_share)
    return CellFiles(of_pass, names, source.data, held_out, -(-len(source.data) // _part_images(source)))


def names_made_of(source: DissectionInputs, layer: str) -> list[str]:
    """Return the layers of a run that are made of the cells of a layer of the network: itself and its bases."""
    bases = source.network.bases
    return [one.name for one in source.layers if (bases[one.name].source if one.name in bases else one.name) == layer]


def network_layers(source: DissectionInputs) -> list[Layer]:
    """Return the layers of the network whose cells the layers of a run are made of."""
    found: dict[str, Layer] = {}
    for layer in source.layers:
        basis = source.network.bases.get(layer.name)
        made_of = layer if basis is None else replace(layer, name=basis.source, units=basis.inputs)
        found[made_of.name] = made_of if basis is None else found.get(made_of.name, made_of)
    return list(found.values())


def _part_images(source: DissectionInputs) -> int:
    size = source.config.images_per_batch
    return size * max(1, PART_IMAGES // size)


def _digest(source: DissectionInputs, request: CellRequest) -> str:
    return json_digest(
        {
            "network": source.network.digest,
            "data": source.data.digest,
            "layers": [layer.name for layer in source.layers],
            "config": source.config.model_dump(mode="json"),
            "request": asdict(request),
        }
    )


class _Pass:
    """A pass over the images, part by part."""

    def __init__(self, source: DissectionInputs, layers: Sequence[Layer], request: CellRequest, folder: Path) -> None:
        self.source, self.request, self.folder = source, request, folder
        size, images = Size(*source.network.preprocessing.size), len(source.data)
        self.plans = [LayerPlan(layer, size, images, source.config) for layer in layers]
        self.cells_per_image = max(1, request.cells // images)
        self.concept_of = np.full(len(source.data.category_of), -1, np.int64)
        self.concept_of[[concept.label_id for concept in source.data.concepts]] = np.arange(len(source.data.concepts))

    def run(self, progress: Progress | None) -> None:
        """Carry out the parts that are not there yet."""
        images, of_part, size = len(self.source.data), _part_images(self.source), self.source.config.images_per_batch
        done = 0
        while done < images and _part_file(self.folder, done // of_part).exists():
            done += of_part
        if done >= images:
            return
        labels, kept = self._labels(range(done, images)), _Part()
        for batch in forward(self.source, batch_starts(images, size)[done // size :]):
            # All of them, since no layer is asked for as sparse maps.
            maps = {name: values for name, values in batch.maps.items() if isinstance(values, Tensor)}
            cells = [self._cells(maps[plan.layer.name]) for plan in self.plans]
            for position, row in enumerate(batch.rows.tolist()):
                kept.add_image(row, next(labels), [of_layer[position] for of_layer in cells], self)
            if self.request.pool is not None:
                kept.add_values([self._pooled(maps[layer.name]) for layer in self.source.layers])
            last = int(batch.rows[-1]) + 1
            if last % of_part == 0 or last == images:
                self._write(kept, (last - 1) // of_part)
                kept = _Part()
            if progress:
                progress(STAGE, last, images)

    def _labels(self, rows: range) -> Iterator[ImageLabels]:
        data, config, cache = self.source.data, self.source.config, self.source.execution.cache_folder
        stamp, log = data.stamp(), RunLog(None)
        return LabelReader(data, config.protocol, cache, config.images_per_batch, stamp, log).read(rows)

    def _cells(self, maps: Tensor) -> npt.NDArray[np.float32]:
        """Return maps as cells, float32 (B, h * w, U)."""
        return np.ascontiguousarray(maps.flatten(2).transpose(1, 2).cpu().numpy())

    def _pooled(self, maps: Tensor) -> npt.NDArray[np.float32]:
        cells = maps.flatten(2)
        pooled = cells.amax(dim=2) if self.request.pool == "max" else cells.double().mean(dim=2).float()
        return np.asarray(pooled.cpu().numpy())

    def _write(self, kept: "_Part", index: int) -> None:
        arrays: Any = kept.arrays()
        with writing(self.folder, "What was finished is kept: free space and run the same command again."):
            write_whole(_part_file(self.folder, index), lambda file: np.savez(file, **arrays))


class _Part:
    """What one file will hold: lists of arrays by name, of which each image adds one."""

    def __init__(self) -> None:
        self._lists: dict[str, list[npt.NDArray[Any]]] = {}
        self._images, self._cells = 0, dict[int, int]()

    def add_image(
        self, row: int, image: ImageLabels, cells: Sequence[npt.NDArray[np.float32]], of_pass: "_Pass"
    ) -> None:
        """Add the cells of an image, float32 (h * w, U) by the position of their layer."""
        annotated = np.zeros(len(of_pass.source.data.categories), np.bool_)
        annotated[image.categories] = True
        self._append({"rows": np.array([row], np.int64), "annotated": annotated[None]})
        for index, plan in enumerate(of_pass.plans):
            labeled = LabeledCells.of(image, plan.grid_to(image.size))
            chosen = _drawn_cells(labeled.counted, of_pass.cells_per_image, (of_pass.request.seed, row))
            position, concept = _cell_concepts(labeled, image, chosen, of_pass.concept_of)
            done = self._cells.get(index, 0)
            arrays = {
                "cells": cells[index][chosen],
                "image": np.full(len(chosen), self._images, np.int32),
                "row": (position + done).astype(np.int32),
                "concept": concept.astype(np.int32),
            }
            self._append({f"{name}{index}": array for name, array in arrays.items()})
            self._cells[index] = done + len(chosen)
        self._images += 1

    def add_values(self, values: Sequence[npt.NDArray[np.float32]]) -> None:
        """Add the values of a batch of images, of each layer."""
        self._append({f"value{index}": of_layer for index, of_layer in enumerate(values)})

    def arrays(self) -> Arrays:
        """Return the arrays of the file."""
        return {name: np.concatenate(parts) for name, parts in self._lists.items()}

    def _append(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, array in arrays.items():
            self._lists.setdefault(name, []).append(array)


def _drawn_cells(counted: Ints, most: int, key: tuple[int, int]) -> Ints:
    """Return the cells of an image that are kept, rising; which depends on the seed and the image alone."""
    if len(counted) <= most:
        return counted
    drawn = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64))).permutation(len(counted))[:most]
    return counted[np.sort(drawn)]


def _cell_concepts(labeled: LabeledCells, image: ImageLabels, chosen: Ints, concept_of: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of a chosen cell, by its position, and a concept that it has, int64 (n,) each."""
    most = labeled.share > MAJORITY
    cell, label = labeled.cell[most], image.label_ids[labeled.label[most]]
    position = np.searchsorted(chosen, cell)
    kept = (position < len(chosen)) & (chosen[np.minimum(position, len(chosen) - 1)] == cell)
    whole = image.label_ids[labeled.whole]
    cells = np.concatenate([position[kept], np.repeat(np.arange(len(chosen)), len(whole))])
    concepts = concept_of[np.concatenate([label[kept], np.tile(whole, len(chosen))])]
    known = concepts >= 0
    return cells[known], concepts[known]


def _part_file(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.npz"


def _read_array(folder: Path, index: int, name: str) -> npt.NDArray[Any]:
    """Read an array of a part; each has a checksum of its own.

    Raises
    ------
    ResultError
        If the file is missing or damaged.
    """
    path = _part_file(folder, index)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            array: npt.NDArray[Any] = part[name]
            return array
    except (*NO_ARRAY, KeyError, BadZipFile) as error:
        raise ResultError(
            f"{path} is damaged ({error}). Remove the folder {folder}, and run the same command again."
        ) from error
