"""Masks of drawn units on the labels of other images: their active pixels by label set in each permutation.

    strata of images of one size and annotation -> masks of one image on the label map of another -> counts

Permutations are those of `netdissect.scoring.statistics.permutation`: images move within their stratum only, so the
pixels of each label set, and those of each mask that count, stay the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import Size
from netdissect.config import Progress
from netdissect.dissect.label_reader import LabelReader
from netdissect.jit import compiled
from netdissect.scoring.formulas import ActiveRows
from netdissect.scoring.formulas.image_rows import ImageRows, UnitRuns, label_sets_of
from netdissect.scoring.formulas.label_set_table import LabelSetTable
from netdissect.scoring.iou_counter import ImageLabels
from netdissect.scoring.statistics.permutation import annotation_strata

Ints = npt.NDArray[np.int64]
UInts = npt.NDArray[np.uint32]

STRATUM = 500  # images permuted among each other: their label maps take about 25 MB
MAX_BYTES = 2**28  # of the counts of all permutations


@dataclass(frozen=True, eq=False)
class PermutedRows:
    """The masks of drawn units of one layer, on permuted images.

    Attributes
    ----------
    units
        The drawn units, rising.
    masks
        Table `masks` of the layer at one quantile.
    images
        Label sets of all images.
    labels
        Reads labels of images.
    seed
        Of the permutations.
    progress
        Called with the stage and the number of images done and in all.
    """

    units: Sequence[int]
    masks: pl.LazyFrame
    images: ImageRows
    labels: LabelReader
    seed: int
    progress: Progress | None = None

    def active(self, permutations: Sequence[int]) -> Iterator[tuple[int, int, ActiveRows]]:
        """Yield the permutation, the unit and its active pixels by row, as many permutations as fit at a time."""
        step = max(MAX_BYTES // (4 * len(self.units) * max(len(self.images.table), 1)), 1)
        for first in range(0, len(permutations), step):
            some = permutations[first : first + step]
            counts = self._counts(some)
            for index, permutation in enumerate(some):
                for unit, by_row in zip(self.units, counts[index], strict=True):
                    rows = np.flatnonzero(by_row)
                    yield permutation, unit, ActiveRows(rows.astype(np.int32), by_row[rows].astype(np.int64))

    def _counts(self, permutations: Sequence[int]) -> UInts:
        """Count the active pixels in some permutations, uint32 (permutations, units, R)."""
        counts = np.zeros((len(permutations), len(self.units), len(self.images.table)), np.uint32)
        runs = self._runs()
        strata = list(annotation_strata(self._strata(), STRATUM, self.seed))
        labels = self.labels.read(np.concatenate(strata).tolist())
        done = 0
        for stratum in strata:
            row_maps = self._row_maps(list(islice(labels, len(stratum))))
            for index, permutation in enumerate(permutations):
                drawn = np.random.default_rng((self.seed, permutation, int(stratum[0]))).permutation(len(stratum))
                for image, other in zip(stratum, drawn, strict=True):
                    of_image = runs[image]
                    of_image.check(len(self.units), len(row_maps[other]))
                    _add_runs(of_image.units, of_image.starts, of_image.lengths, row_maps[other], counts[index])
            done += len(stratum)
            if self.progress:
                self.progress("permuted label sets", done, len(runs))
        return counts

    def _runs(self) -> list[UnitRuns]:
        """Return the masks of the drawn units on each image; units are numbered among these."""
        frame = self.masks.filter(pl.col("unit").is_in(list(self.units))).collect()
        frame = frame.sort("image_index", "unit", maintain_order=True)
        images = len(self.labels.data)
        edges = np.searchsorted(frame["image_index"].to_numpy(), np.arange(images + 1))
        units = np.searchsorted(np.array(self.units), frame["unit"].to_numpy()).astype(np.uint32)
        columns = (units, frame["start"].to_numpy(), frame["length"].to_numpy())
        return [UnitRuns(*(column[start:stop] for column in columns)) for start, stop in pairwise(edges)]

    def _strata(self) -> list[tuple[int, int, int]]:
        """Return size and annotated categories of each image: images of one stratum are alike in both."""
        reader, side = self.labels, self.labels.protocol.segmentation_size
        sizes = [row.size if side is None else Size(side, side) for row in reader.data.rows]
        firsts = np.searchsorted(self.images.image_index, np.arange(len(sizes)))
        annotated = self.images.table.annotated[self.images.rows[firsts]]
        return [(size.height, size.width, int(bits)) for size, bits in zip(sizes, annotated, strict=True)]

    def _row_maps(self, images: Sequence[ImageLabels]) -> list[npt.NDArray[np.int32]]:
        """Return the row of each pixel of some images in the table of all."""
        category_of = self.images.table.category_of
        singles = [label_sets_of(image, category_of) for image in images]
        _, (_, *rows_of_sets) = LabelSetTable.merge([self.images.table, *singles])
        return [
            rows[image.label_sets.index_map.ravel()].astype(np.int32)
            for image, rows in zip(images, rows_of_sets, strict=True)
        ]


@compiled
def _add_runs(units: UInts, starts: UInts, lengths: UInts, row_map: npt.NDArray[np.int32], counts: UInts) -> None:
    for run in range(len(units)):
        by_row = counts[units[run]]
        for pixel in range(starts[run], np.int64(starts[run]) + np.int64(lengths[run])):
            by_row[row_map[pixel]] += np.uint32(1)
