"""The table of label sets of a finished run, from the masks of its units and the labels of its data set.

    mask_sources.py, labels of the images -> blocks of images -> label_sets, image_label_sets, mask_rows of a layer

Blocks are kept until all are counted, so that an interrupted pass resumes; they add up in any order of the images.
"""

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.checksums import json_digest, strip_checksum
from netdissect.concepts import ConceptData
from netdissect.config import Execution, Progress
from netdissect.counted import size_text
from netdissect.dissect.choices.count_memory import present_memory
from netdissect.dissect.compose.mask_sources import CountedMasks, KeptMasks, RangePass
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConfigError, ResultError
from netdissect.paths import writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.result.formulas.formula_result import run_digest
from netdissect.result.formulas.formula_schema import IMAGE_LABEL_SETS, LABEL_SETS, MASK_ROWS, RANGES
from netdissect.result.formulas.table_folder import TableFolder
from netdissect.scoring import ImageLabels
from netdissect.scoring.formulas import LabelSetTable
from netdissect.scoring.formulas.image_rows import ImageRows, MaskRows

Ints = npt.NDArray[np.int64]

BLOCK = 512  # images that are counted together, and again after an interruption
STAGE = "label sets"
FORMAT = 1
KIND = "label-sets"
RESUMES = "Free space and run the same command again: what was finished is kept."


@dataclass(frozen=True)
class LabelSets:
    """The tables of label sets of some layers of a run at one quantile.

    Attributes
    ----------
    run
        The run.
    data
        Its data set.
    quantile
        One of its quantiles.
    folder
        Where the tables are.
    """

    run: Result
    data: ConceptData
    quantile: float
    folder: TableFolder

    def image_rows(self) -> ImageRows:
        """Read the label sets of all images."""
        rows = self.folder.scan("label_sets", LABEL_SETS).collect()
        lists = rows["label_ids"]
        bits = {name: 1 << index for index, name in enumerate(self.data.categories)}
        annotated = [sum(bits[name] for name in names) for names in rows["annotated"].to_list()]
        table = LabelSetTable(
            self.data.category_of,
            lists.explode().drop_nulls().to_numpy().astype(np.int32),
            np.append(0, lists.list.len().to_numpy().astype(np.int64).cumsum()),
            np.array(annotated, np.uint64),
            rows["pixels"].to_numpy(),
        )
        entries = self.folder.scan("image_label_sets", IMAGE_LABEL_SETS).collect()
        return ImageRows(table, *(entries[name].to_numpy() for name in IMAGE_LABEL_SETS))

    def label_reader(self, execution: Execution) -> LabelReader:
        """Return what reads the labels of any images of the run."""
        config = self.run.info.config
        cache, size = execution.cache_folder, config.images_per_batch
        return LabelReader(self.data, config.protocol, cache, size, self.data.stamp(), RunLog(None))

    def mask_rows(self, layer: str) -> pl.LazyFrame:
        """Open the active pixels of one layer, by unit."""
        return self.folder.scan(f"mask_rows-{self.layer_number(layer)}", MASK_ROWS)

    def ranges(self, layer: str) -> pl.DataFrame:
        """Read the ranges of activation of the units of one layer."""
        return self.folder.scan(f"ranges-{self.layer_number(layer)}", RANGES).collect()

    def layer_number(self, layer: str) -> int:
        """Return the index of a layer in the run."""
        return list(self.run.layers).index(layer)


def kept_masks(run: Result, layer: str, quantile: float) -> pl.LazyFrame:
    """Return the masks of one layer at one quantile.

    Raises
    ------
    ResultError
        If the run kept none.
    """
    statistics = run.layer(layer).statistics
    if "masks" not in statistics:
        raise ResultError(
            f"the run of {run.info.network.name!r} kept no masks, and formulas are scored on their pixels. Repeat it "
            "with them: netdissect run --config RUN --keep-masks --out NEW (in Python dissect(..., keep_masks=True))."
        )
    return statistics["masks"].filter(pl.col("quantile") == quantile)


def chosen_quantile(run: Result, quantile: float | None) -> float:
    """Return one of the quantiles of a run; None: its first.

    Raises
    ------
    ConfigError
        If it is not one of them.
    """
    quantiles = run.info.config.protocol.quantiles
    if quantile is not None and quantile not in quantiles:
        raise ConfigError(f"the run has no quantile {quantile:g}; it has {', '.join(map('{:g}'.format, quantiles))}.")
    return quantiles[0] if quantile is None else quantile


def check_memory(needed: int, runs: int) -> None:
    """Check that the masks fit into the memory of the machine, where the system tells its size.

    Raises
    ------
    ResultError
        If they do not.
    """
    present = present_memory()
    if present is not None and needed > present:
        raise ResultError(
            f"the masks have {runs:,} runs of pixels, whose counts by label set take about {size_text(needed)} of "
            f"memory; this machine has {size_text(present)}. Search fewer layers at a time (--layer), or repeat the "
            "run with fewer images (--max-images) or a smaller quantile."
        )


@dataclass(frozen=True)
class LabelSetPass:
    """The pass over the images of a run that makes the tables of label sets.

    Attributes
    ----------
    run, data, quantile
        See `LabelSets`.
    parent
        Folder of all tables of formulas of the run.
    execution
        Threads and label cache.
    progress
        Called with the stage and the number of images done and in all.
    ranges
        Makes masks of ranges of activation; None: the masks at the quantile that the run kept.
    """

    run: Result
    data: ConceptData
    quantile: float
    parent: Path
    execution: Execution
    progress: Progress | None = None
    ranges: RangePass | None = None

    @property
    def folder(self) -> TableFolder:
        """The folder of the tables."""
        inputs = {"format": FORMAT, "run": run_digest(self.run), "quantile": self.quantile}
        if self.ranges:
            inputs |= {"clusters": self.ranges.clusters}
        return TableFolder(self.parent, KIND, inputs)

    def missing(self, layers: Sequence[str]) -> list[str]:
        """Return the layers that have no table yet."""
        found = LabelSets(self.run, self.data, self.quantile, self.folder)
        return [layer for layer in layers if not self.folder.has(f"mask_rows-{found.layer_number(layer)}")]

    def tables(self, layers: Sequence[str]) -> LabelSets:
        """Return the tables of some layers; those that are missing are made.

        Raises
        ------
        ResultError
            If the run kept no masks, a table is damaged or the folder cannot be written.
        ConceptsError
            If the data set changed.
        """
        found, missing = LabelSets(self.run, self.data, self.quantile, self.folder), self.missing(layers)
        if missing:
            blocks = self.folder.path / f"blocks-{json_digest({'layers': missing})[:8]}"
            with writing(blocks, RESUMES):
                blocks.mkdir(parents=True, exist_ok=True)
            paths = list(self._count(self._masks(found, missing, blocks), blocks))
            self._join(found, missing, paths)
            shutil.rmtree(blocks, ignore_errors=True)
        return found

    def _masks(self, found: LabelSets, layers: Sequence[str], folder: Path) -> Mapping[str, CountedMasks]:
        """Return the masks of some layers; those of ranges are read from activations in the folder."""
        if self.ranges is None:
            kept = {layer: kept_masks(self.run, layer, self.quantile) for layer in layers}
            return {layer: KeptMasks(self.run.layer(layer).info.units, table) for layer, table in kept.items()}
        activations = folder / "activations"
        with writing(activations, RESUMES):
            activations.mkdir(parents=True, exist_ok=True)
        masks = self.ranges.masks(layers, activations)
        for layer, of_layer in masks.items():
            self.folder.write(f"ranges-{found.layer_number(layer)}", _range_frame(of_layer.bounds), RANGES)
        return masks

    def _count(self, masks: Mapping[str, CountedMasks], folder: Path) -> Iterator[Path]:
        """Count the images block by block, and yield the file of each block."""
        images = len(self.data)
        reader = LabelSets(self.run, self.data, self.quantile, self.folder).label_reader(self.execution)
        starts = range(0, images, BLOCK)
        paths = [folder / f"{start}.block" for start in starts]
        todo = [start for start, path in zip(starts, paths, strict=True) if not path.exists()]
        labels = reader.read([image for start in todo for image in range(start, min(start + BLOCK, images))])
        for start, path in zip(starts, paths, strict=True):
            if start in todo:
                block = list(islice(labels, min(BLOCK, images - start)))
                _write_block(path, *self._counted(block, start, masks))
            if self.progress:
                self.progress(STAGE, min(start + BLOCK, images), images)
            yield path
        reader.refuse_changed(self.run.info.data.digest)

    def _counted(
        self, images: Sequence[ImageLabels], first: int, masks: Mapping[str, CountedMasks]
    ) -> tuple[ImageRows, list[MaskRows]]:
        """Count one block of images."""
        image_rows, rows_of_sets = ImageRows.of(images, first, self.data.category_of)
        row_maps = [
            rows[image.label_sets.index_map].astype(np.int32) for image, rows in zip(images, rows_of_sets, strict=True)
        ]
        return image_rows, [MaskRows.join(source.count(first, row_maps)) for source in masks.values()]

    def _join(self, found: LabelSets, layers: Sequence[str], paths: Sequence[Path]) -> None:
        """Add the blocks, and write the tables."""
        blocks = [_read_block(path, self.data.category_of, len(layers)) for path in paths]
        image_rows, new_rows = ImageRows.join([block[0] for block in blocks])
        if not self.folder.has("label_sets"):
            self.folder.write("label_sets", _label_set_frame(image_rows.table, self.data.categories), LABEL_SETS)
            entries = {name: getattr(image_rows, attribute) for name, attribute in _ENTRIES.items()}
            self.folder.write("image_label_sets", pl.DataFrame(entries), IMAGE_LABEL_SETS)
        for index, layer in enumerate(layers):
            parts = [block[1][index].moved(rows) for block, rows in zip(blocks, new_rows, strict=True)]
            columns = dict(zip(MASK_ROWS, MaskRows.join(parts), strict=True))
            self.folder.write(f"mask_rows-{found.layer_number(layer)}", pl.DataFrame(columns), MASK_ROWS)


_OF_TABLE = ("label_ids", "offsets", "annotated", "table_pixels")
_ENTRIES = {"image_index": "image_index", "row": "rows", "pixels": "pixels"}


def _range_frame(bounds: npt.NDArray[np.float32]) -> pl.DataFrame:
    """Return one row for each unit and range; bounds are null where a unit has fewer."""
    units, ranges, _ = bounds.shape
    low, high = (pl.Series(bounds[:, :, side].ravel()).fill_nan(None) for side in (0, 1))
    return pl.DataFrame(
        {
            "unit": np.repeat(np.arange(units), ranges),
            "range": np.tile(np.arange(ranges), units),
            "range_low": low,
            "range_high": high,
        }
    )


def _label_set_frame(table: LabelSetTable, categories: Sequence[str]) -> pl.DataFrame:
    rows = len(table)
    label_ids = [table.label_ids[table.offsets[row] : table.offsets[row + 1]] for row in range(rows)]
    annotated = [
        [name for index, name in enumerate(categories) if bits >> index & 1] for bits in table.annotated.tolist()
    ]
    return pl.DataFrame(
        {"row": np.arange(rows), "label_ids": label_ids, "annotated": annotated, "pixels": table.pixels},
        schema_overrides={"label_ids": pl.List(pl.Int32), "annotated": pl.List(pl.String)},
    )


def _write_block(path: Path, image_rows: ImageRows, mask_rows: Sequence[MaskRows]) -> None:
    """Write one block of images: complete, or not at all."""
    table, arrays = image_rows.table, dict[str, Any]()
    arrays |= dict(zip(_OF_TABLE, (table.label_ids, table.offsets, table.annotated, table.pixels), strict=True))
    arrays |= {name: getattr(image_rows, attribute) for name, attribute in _ENTRIES.items()}
    for index, of_layer in enumerate(mask_rows):
        arrays |= {f"{index}.{name}": array for name, array in of_layer._asdict().items()}
    with writing(path, RESUMES):
        write_whole(path, lambda file: np.savez(file, **arrays), checksum=True)


def _read_block(path: Path, category_of: Ints, layers: int) -> tuple[ImageRows, list[MaskRows]]:
    """Read one block of images."""
    try:
        with np.load(io.BytesIO(strip_checksum(path.read_bytes())), allow_pickle=False) as file:
            table = LabelSetTable(category_of, *(file[name] for name in _OF_TABLE))
            image_rows = ImageRows(table, *(file[name] for name in _ENTRIES))
            of_layers = (f"{index}.{{}}".format for index in range(layers))
            return image_rows, [MaskRows(*(file[name(field)] for field in MaskRows._fields)) for name in of_layers]
    except (OSError, ValueError, KeyError) as error:
        raise ResultError(
            f"{path} is damaged ({error}): it holds label sets that were counted before an interruption. Remove this "
            "file, and run the same command again."
        ) from error
