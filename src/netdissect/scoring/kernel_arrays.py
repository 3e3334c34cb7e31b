"""Arrays that the compiled loops of `netdissect.scoring.kernel` read and write, in named tuples.

Numba unpacks tuples at no cost. Its cache does not notice when two fields of one type are swapped here: edit
`netdissect.scoring.kernel` too.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.scoring.upsampling import Upsampler, UpsamplingAxis

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NONE, ANNOTATED, OVERLAP = range(3)
"""In which categories a mask counts; see `netdissect.config.Protocol`."""


class AxisArrays(NamedTuple):
    """The arrays of an axis: uint64 (cells + 1,) and twice float64 (pixels,).

    Pixel indices are unsigned: the compiler vectorizes loops in which no index can be negative.
    """

    start: npt.NDArray[np.uint64]
    lower_weight: Floats
    upper_weight: Floats

    @classmethod
    def of(cls, axis: UpsamplingAxis) -> Self:
        """Return the arrays of an axis."""
        return cls(axis.start.astype(np.uint64), axis.lower_weight, axis.upper_weight)


class UpsamplerArrays(NamedTuple):
    """The arrays of an `Upsampler`."""

    rows: AxisArrays
    columns: AxisArrays
    round_rows: bool

    @classmethod
    def of(cls, upsampler: Upsampler) -> Self:
        """Return the arrays of an upsampler."""
        return cls(AxisArrays.of(upsampler.rows), AxisArrays.of(upsampler.columns), upsampler.round_rows)


class Counting(NamedTuple):
    """Thresholds and rules of counting.

    Attributes
    ----------
    thresholds
        float32 (Q, U), rising along Q; a pixel is active if its interpolated value is strictly above.
    order
        int64 (Q,): row of `thresholds` of each quantile.
    further_rows
        int64 (Q - Q', U): row of each mask after the first Q' quantiles in the counts of these; -1: it is not counted,
        because it equals one that is. See `netdissect.scoring.sparse.count_rows`.
    record_images_for
        Number of leading quantiles for which the masks of single images are returned.
    list_runs_for
        Number of leading quantiles for which the runs of masks are returned.
    category_of
        int64 (C,): primary category of each label.
    restriction
        `NONE`, `ANNOTATED` or `OVERLAP`.
    """

    thresholds: npt.NDArray[np.float32]
    order: Ints
    further_rows: Ints
    record_images_for: int
    list_runs_for: int
    category_of: Ints
    restriction: int


class LabelArrays(NamedTuple):
    """Labels of a batch of B images, one image after the other.

    Attributes
    ----------
    index_map
        int32 (B, sh, sw): label set of each pixel; see `netdissect.concepts.label_sets`.
    label_ids
        int64 (n,): labels that occur.
    image_level
        int64 (W,): indices of image-level labels among the labels of their image.
    categories
        int64 (k,): primary categories of the labels of each image.
    set_labels
        int64 (b,): indices of the labels of each label set among the labels of their image, set after set.
    set_ends
        int64 (K,): end of each label set in the `set_labels` of its image.
    starts
        int64 (5, B + 1): start of each image in these five arrays, and the end of the last.
    """

    index_map: npt.NDArray[np.int32]
    label_ids: Ints
    image_level: Ints
    categories: Ints
    set_labels: Ints
    set_ends: Ints
    starts: Ints


class ImageArrays(NamedTuple):
    """The part of `LabelArrays` of one image."""

    index_map: npt.NDArray[np.int32]
    label_ids: Ints
    image_level: Ints
    categories: Ints
    set_labels: Ints
    set_ends: Ints


class Scratch(NamedTuple):
    """Arrays reused from map to map.

    Attributes
    ----------
    above
        uint8 (h + 1, w + 1): 1 where a cell is above the threshold; the last row and column are 0.
    wide_rows
        float64 (2, sw): two rows of cells, interpolated.
    values
        float32 (sw,): one row of pixels.
    set_counts
        int32 (Q, K): pixels of each label set; 0 between calls.
    met
        bool (K,): whether a label set was met on a map; False between calls.
    met_sets
        int64 (K,): the label sets that were met.
    mask_pixels
        int64 (Q, U): pixels of each mask on the current image.
    label_pixels
        int32 (Q, U, n): intersection with each of its labels; undefined where a mask is empty.
    run_rows
        int64 (L,): row of the thresholds of each quantile whose runs are listed.
    num_runs
        int64 (L,): number of runs of the current unit so far.
    runs
        int64 (L, most, 2): first pixel and length of each of its runs.
    """

    above: npt.NDArray[np.uint8]
    wide_rows: Floats
    values: npt.NDArray[np.float32]
    set_counts: npt.NDArray[np.int32]
    met: npt.NDArray[np.bool_]
    met_sets: Ints
    mask_pixels: Ints
    label_pixels: npt.NDArray[np.int32]
    run_rows: Ints
    num_runs: Ints
    runs: Ints

    @classmethod
    def of(cls, shape: tuple[int, ...], counting: Counting, upsampler: UpsamplerArrays, labels: LabelArrays) -> Self:
        """Return the arrays for a batch of cells of this shape, (B, U, h, w)."""
        quantiles, (units, height, width) = len(counting.thresholds), shape[1:]
        num_labels, num_sets = np.diff(labels.starts[0]).max(), np.diff(labels.starts[4]).max()
        pixel_rows, pixel_columns = len(upsampler.rows.lower_weight), len(upsampler.columns.lower_weight)
        return cls(
            np.zeros((height + 1, width + 1), np.uint8),
            np.empty((2, pixel_columns), np.float64),
            np.empty(pixel_columns, np.float32),
            np.zeros((quantiles, num_sets), np.int32),
            np.zeros(num_sets, np.bool_),
            np.empty(num_sets, np.int64),
            np.empty((quantiles, units), np.int64),
            np.empty((quantiles, units, num_labels), np.int32),
            counting.order[: counting.list_runs_for].copy(),
            np.empty(counting.list_runs_for, np.int64),
            # Runs of cells may meet at neighboring pixels, where cells are denser than pixels: each pixel may be a run.
            np.empty((counting.list_runs_for, pixel_rows * pixel_columns, 2), np.int64),
        )


class MaskTables(NamedTuple):
    """What is listed of the masks of a batch, in tables that grow, and how far the batch was counted.

    Attributes
    ----------
    masks
        int64 (., 5): image, quantile, unit, mask pixels, and number of entries of each mask.
    entries
        int64 (., 2): label id and intersection in pixels, mask after mask.
    run_masks
        int64 (., 4): image, quantile, unit, and number of runs of each mask.
    runs
        int64 (., 2): first pixel and length of each run, mask after mask.
    used
        int64 (4,): rows in use of each table.
    next_map
        int64 (2,): image and unit that are counted next.
    """

    masks: Ints
    entries: Ints
    run_masks: Ints
    runs: Ints
    used: Ints
    next_map: Ints

    @classmethod
    def empty(cls) -> Self:
        """Return tables without a row, before the first map."""
        masks, entries, run_masks, runs = (np.empty((0, columns), np.int64) for columns in (5, 2, 4, 2))
        return cls(masks, entries, run_masks, runs, np.zeros(4, np.int64), np.zeros(2, np.int64))

    @staticmethod
    def most_rows(units: int, counting: Counting, scratch: Scratch, labels: LabelArrays) -> tuple[int, int, int, int]:
        """Return how many rows of each table the next image, or the next unit for runs, may need."""
        masks, (listed, most_runs, _) = counting.record_images_for * units, scratch.runs.shape
        return masks, masks * int(np.diff(labels.starts[0]).max()), listed, listed * most_runs

    def rows(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the rows in use of the four tables."""
        masks, entries, run_masks, runs = (table[:used] for table, used in zip(self[:4], self.used, strict=True))
        return masks, entries, run_masks, runs

    def with_capacity(self, most: tuple[int, int, int, int]) -> Self:
        """Return tables with capacity for so many further rows each."""
        tables = []
        for table, rows, more in zip(self[:4], self.rows(), most, strict=True):
            larger = table
            if len(rows) + more > len(table):
                larger = np.empty((max(2 * len(table), len(rows) + more), table.shape[1]), np.int64)
                larger[: len(rows)] = rows
            tables.append(larger)
        masks, entries, run_masks, runs = tables
        return type(self)(masks, entries, run_masks, runs, self.used, self.next_map)


class CellRun(NamedTuple):
    """Neighboring cells of one row that each have a corner above the threshold, interpolated along the row.

    Attributes
    ----------
    row
        Row of cells.
    first, last
        Columns of pixels.
    upper, lower
        Largest cells of this row and of the next.
    """

    row: int
    first: np.uint64
    last: np.uint64
    upper: np.float32
    lower: np.float32


class CountArrays(NamedTuple):
    """The arrays of a `netdissect.scoring.IoUCounts` that a batch adds to."""

    intersection: Ints
    activation: Ints
    firing_map: Ints
    further_intersection: Ints
    further_activation: Ints
