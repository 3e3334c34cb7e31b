"""The table of label sets image by image: halves, resamples and permutations of the images are sums of its entries.

    ImageLabels -> label_sets_of        masks, index map -> count_mask_rows        -> ImageRows, MaskRows of a block
    ImageRows.join -> the table of all images; ImageRows.of_images -> that of a half

Source: Mu and Andreas 2020 for the formulas that are scored on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.errors import ConceptsError, ResultError
from netdissect.jit import compiled
from netdissect.scoring.formulas.active_rows import ActiveRows
from netdissect.scoring.formulas.label_set_table import LabelSetTable
from netdissect.scoring.iou_counter import ImageLabels

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int32]
UInts = npt.NDArray[np.uint32]

MAX_CATEGORIES = 64  # bits of `LabelSetTable.annotated`


class MaskRows(NamedTuple):
    """The active pixels of masks of single images by row of a table of label sets, N entries.

    Attributes
    ----------
    units, image_index, rows, active
        uint32 (N,): unit, image, row and active pixels, at least 1.
    """

    units: UInts
    image_index: UInts
    rows: UInts
    active: UInts

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join entries of one table, by unit, then image, then row."""
        joined = cls(*(np.concatenate([[], *arrays]).astype(np.uint32) for arrays in zip(*parts, strict=True)))
        order = np.lexsort((joined.rows, joined.image_index, joined.units))
        return cls(*(array[order] for array in joined))

    def moved(self, new_rows: Ints) -> Self:
        """Return the same entries in a merged table; see `LabelSetTable.merge`."""
        return self._replace(rows=new_rows[self.rows].astype(np.uint32))

    def of_unit(self, unit: int) -> Self:
        """Return the entries of one unit."""
        start, stop = np.searchsorted(self.units, [unit, unit + 1])
        return type(self)(*(array[start:stop] for array in self))

    def of_images(self, chosen: Bools, new_rows: Ints) -> ActiveRows:
        """Sum the entries of one unit over the chosen images, bool (images,), in a table with other rows."""
        entries = chosen[self.image_index]
        return ActiveRows.of(new_rows[self.rows[entries]], self.active[entries])


@dataclass(frozen=True, eq=False)
class ImageRows:
    """The pixels of single images by row of a table of label sets, N entries; adds up over images.

    Attributes
    ----------
    table
        Of all these images.
    image_index, rows, pixels
        uint32 (N,): image, row and pixels, by image and row.
    """

    table: LabelSetTable
    image_index: UInts
    rows: UInts
    pixels: UInts

    @classmethod
    def of(cls, images: Sequence[ImageLabels], first: int, category_of: Ints) -> tuple[Self, list[Ints]]:
        """Find the label sets of some images of one data set, of which the first has the index `first`.

        Returns
        -------
        image_rows
            The images.
        rows_of_sets
            For each image, int64 (K,): row of each of its label sets.
        """
        singles = [label_sets_of(image, category_of) for image in images]
        table, rows_of_sets = LabelSetTable.merge(singles) if singles else (LabelSetTable.zeros(category_of), [])
        image_index = np.repeat(np.arange(first, first + len(images)), [len(single) for single in singles])
        rows, pixels = (
            np.concatenate([[], *parts]).astype(np.int64)
            for parts in (rows_of_sets, [single.pixels for single in singles])
        )
        # Sets of one image can hold the same labels in other channels, or more than once.
        keys, place = np.unique(image_index * max(len(table), 1) + rows, return_inverse=True)
        sums = np.bincount(place, pixels, len(keys)).astype(np.uint32)
        images_of_keys, rows_of_keys = np.divmod(keys, max(len(table), 1))
        return cls(table, images_of_keys.astype(np.uint32), rows_of_keys.astype(np.uint32), sums), rows_of_sets

    @classmethod
    def join(cls, parts: Sequence[Self]) -> tuple[Self, list[Ints]]:
        """Add blocks of images, at least one, in the order of their images.

        Returns
        -------
        joined
            All images.
        new_rows
            For each part, int64 (R,): where the rows of its table are now.
        """
        table, new_rows = LabelSetTable.merge([part.table for part in parts])
        moved = [places[part.rows] for part, places in zip(parts, new_rows, strict=True)]
        image_index, rows, pixels = (
            np.concatenate(arrays).astype(np.uint32)
            for arrays in ([part.image_index for part in parts], moved, [part.pixels for part in parts])
        )
        order = np.lexsort((rows, image_index))
        return cls(table, image_index[order], rows[order], pixels[order]), new_rows

    def __add__(self, other: Self) -> Self:
        return self.join([self, other])[0]

    def of_images(self, chosen: Bools) -> tuple[LabelSetTable, Ints]:
        """Return the table of some images.

        Parameters
        ----------
        chosen
            bool (images,).

        Returns
        -------
        table
            Its rows are those with pixels.
        new_rows
            int64 (R,): where each row is in it; -1 where it has no pixels.
        """
        entries = chosen[self.image_index]
        pixels = np.bincount(self.rows[entries], self.pixels[entries], len(self.table)).astype(np.int64)
        kept = np.flatnonzero(pixels)
        new_rows = np.full(len(self.table), -1)
        new_rows[kept] = np.arange(len(kept))
        return replace(self.table.subset(kept), pixels=pixels[kept]), new_rows

    def pixels_by_image(self, covered: Bools, images: int) -> Ints:
        """Return the pixels of the covered rows, bool (R,), of each image, int64 (images,)."""
        entries = covered[self.rows]
        return np.bincount(self.image_index[entries], self.pixels[entries], images).astype(np.int64)


def label_sets_of(image: ImageLabels, category_of: Ints) -> LabelSetTable:
    """Return the label sets of one image as rows, in their order: one row for each set, even if two are the same.

    Labels of the whole image are in each set. A label that a pixel has twice is in its set once.

    Raises
    ------
    ConceptsError
        If the data set has more than 64 categories.
    """
    if category_of.max(initial=-1) >= MAX_CATEGORIES:
        raise ConceptsError(
            f"the data set has {category_of.max() + 1} categories, and formulas are searched over at most "
            f"{MAX_CATEGORIES}. Dissect fewer: --categories."
        )
    sets = image.label_sets
    image_level = np.broadcast_to(sets.image_level, (len(sets.set_sizes), len(sets.image_level)))
    label_ids = np.sort(np.concatenate([sets.label_ids, image_level], axis=1), axis=1)
    distinct = label_ids > 0
    distinct[:, 1:] &= label_ids[:, 1:] != label_ids[:, :-1]
    offsets = np.append(0, distinct.sum(axis=1).cumsum())
    annotated = np.uint64(sum(1 << int(category) for category in image.categories))
    of_rows = np.repeat(annotated, len(sets.set_sizes))
    return LabelSetTable(category_of, label_ids[distinct].astype(np.int32), offsets, of_rows, sets.set_sizes)


class UnitRuns(NamedTuple):
    """The masks of one layer on one image as N runs of active pixels, by unit.

    Attributes
    ----------
    units, starts, lengths
        uint32 (N,): unit, index y * width + x of the first pixel, and pixels of each run.
    """

    units: UInts
    starts: UInts
    lengths: UInts

    def check(self, num_units: int, pixels: int) -> None:
        """Check that units and pixels exist: compiled loops use them as indices.

        Raises
        ------
        ResultError
            If they do not.
        """
        ends = self.starts.astype(np.int64) + self.lengths
        rising = (np.diff(self.units.astype(np.int64)) >= 0).all()
        if not rising or self.units.max(initial=0) >= num_units or ends.max(initial=0) > pixels:
            raise ResultError(
                f"the table 'masks' does not fit {num_units} units and label maps of {pixels:,} pixels: it is not the "
                "one that 'netdissect run --keep-masks' wrote for these images. Repeat the run."
            )


def count_mask_rows(runs: UnitRuns, row_map: Indices, image_index: int, num_rows: int) -> MaskRows:
    """Count the active pixels of each unit by row, on one image.

    Parameters
    ----------
    runs
        Checked by `UnitRuns.check`.
    row_map
        int32 (pixels,): row of each pixel of the label map.
    image_index
        Of the image.
    num_rows
        Number of rows.
    """
    units, rows, active = _count_runs(runs.units, runs.starts, runs.lengths, row_map, num_rows)
    return MaskRows(units, np.full(len(units), image_index, np.uint32), rows, active)


@compiled
def _count_runs(
    units: UInts, starts: UInts, lengths: UInts, row_map: Indices, num_rows: int
) -> tuple[UInts, UInts, UInts]:
    total = np.int64(0)
    for run in range(len(lengths)):
        total += lengths[run]
    counts, touched = np.zeros(num_rows, np.uint32), np.empty(num_rows, np.int32)
    found_units, found_rows, found = np.empty(total, np.uint32), np.empty(total, np.uint32), 0
    found_active = np.empty(total, np.uint32)
    run = 0
    while run < len(units):
        unit, num_touched = units[run], 0
        while run < len(units) and units[run] == unit:
            for pixel in range(starts[run], np.int64(starts[run]) + np.int64(lengths[run])):
                row = row_map[pixel]
                if counts[row] == 0:
                    touched[num_touched] = row
                    num_touched += 1
                counts[row] += np.uint32(1)
            run += 1
        for index in range(num_touched):
            row = touched[index]
            found_units[found], found_rows[found], found_active[found] = unit, row, counts[row]
            counts[row] = 0
            found += 1
    return found_units[:found].copy(), found_rows[:found].copy(), found_active[:found].copy()
