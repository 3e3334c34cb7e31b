"""What the compiled loops of `netdissect.scoring.kernel` read and write: plain arrays, in named tuples.

They are tuples because Numba takes these apart at no cost. Its cache does not notice when fields of one type change
places here: change `netdissect.scoring.kernel` too.
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
    """Those of an axis: uint64 (cells + 1,) and twice float64 (pixels,).

    Pixels are counted without a sign: where no index can be negative, loops become vector code.
    """

    start: npt.NDArray[np.uint64]
    near: Floats
    far: Floats

    @classmethod
    def of(cls, axis: UpsamplingAxis) -> Self:
        """Return those of an axis."""
        return cls(axis.start.astype(np.uint64), axis.lower_weight, axis.upper_weight)


class UpsamplerArrays(NamedTuple):
    """What the compiled loops need of a `Upsampler`."""

    rows: AxisArrays
    columns: AxisArrays
    round_rows: bool

    @classmethod
    def of(cls, grid: Upsampler) -> Self:
        """Return those of a grid."""
        return cls(AxisArrays.of(grid.rows), AxisArrays.of(grid.columns), grid.round_rows)


class Counting(NamedTuple):
    """What is counted.

    Attributes
    ----------
    thresholds
        float32 (Q, U), rising along Q; a pixel is on when its interpolated value is above, strictly.
    order
        int64 (Q,): which of these rows is that of each of the tally's quantiles.
    listed
        At how many quantiles of the tally, the first ones, masks are returned.
    category_of
        int64 (C,): each label's primary category.
    restriction
        `NONE`, `ANNOTATED` or `OVERLAP`.
    """

    thresholds: npt.NDArray[np.float32]
    order: Ints
    listed: int
    category_of: Ints
    restriction: int


class LabelArrays(NamedTuple):
    """Labels of a batch of B images, one image after the other.

    Attributes
    ----------
    kinds
        int32 (B, sh, sw): of which kind each pixel is; see `netdissect.concepts.label_sets`.
    numbers
        int64 (n,): the labels that occur.
    whole
        int64 (W,): where among its image's labels those of the whole image stand.
    categories
        int64 (k,): the primary categories of each image's labels.
    borne
        int64 (b,): where among its image's labels those stand that a pixel of each kind bears, kind after kind.
    ends
        int64 (K,): where in its image's `borne` the labels of each kind end.
    starts
        int64 (5, B + 1): where each image begins in these five arrays, and where the last ends.
    """

    kinds: npt.NDArray[np.int32]
    numbers: Ints
    whole: Ints
    categories: Ints
    borne: Ints
    ends: Ints
    starts: Ints


class ImageArrays(NamedTuple):
    """The part of `LabelArrays` that is of one image."""

    kinds: npt.NDArray[np.int32]
    numbers: Ints
    whole: Ints
    categories: Ints
    borne: Ints
    ends: Ints


class Room(NamedTuple):
    """Arrays to work in.

    Attributes
    ----------
    hot
        uint8 (h + 1, w + 1): which cells are above the threshold; the last row and column are 0.
    across
        float64 (2, sw): two rows of cells, interpolated.
    values
        float32 (sw,): one row of pixels.
    counts
        int32 (Q, K): pixels of each kind; 0 between calls.
    seen
        bool (K,): which kinds were met on a map; False between calls.
    met
        int64 (K,): these kinds.
    mask_pixels
        int64 (Q, U): pixels of each mask on the image at hand.
    label_pixels
        int32 (Q, U, n): of these on each of its labels; anything where a mask is empty.
    """

    hot: npt.NDArray[np.uint8]
    across: Floats
    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int32]
    seen: npt.NDArray[np.bool_]
    met: Ints
    mask_pixels: Ints
    label_pixels: npt.NDArray[np.int32]


class Run(NamedTuple):
    """Neighboring cells of one row, among whose corners one is above the threshold, interpolated along the row.

    Attributes
    ----------
    row
        Which row.
    first, last
        Columns of pixels.
    upper, lower
        The largest cells of this row and of the next.
    """

    row: int
    first: np.uint64
    last: np.uint64
    upper: np.float32
    lower: np.float32


class TallyArrays(NamedTuple):
    """The arrays of a `netdissect.scoring.IoUCounts` that a batch adds to."""

    intersection: Ints
    activation: Ints
    places: Ints
