"""The mask of each unit as runs of active pixels: masks are sparse and compact, so there are few runs.

    IoUCounter.update_batch -> MaskRuns -> MaskFile -> statistics/permutation.py
    MaskRuns.texts -> the table error_images -> read_mask

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (the mask M_k).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.errors import ResultError

UInts = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]

MAX_DIGITS = 10  # of a number of pixels: a forged one must not take long to read


class MaskRuns(NamedTuple):
    """The non-empty masks on one image, m of M, as N runs of pixels.

    A run holds neighboring active pixels of one row. Every active pixel is in one run of its mask.

    Attributes
    ----------
    masks
        uint32 (m,): index of each mask, quantile * units + unit, in any order.
    run_counts
        uint32 (m,): number of its runs.
    starts, lengths
        uint32 (N,): index y * width + x of the first pixel of each run, and its pixels, mask after mask, those of
        one mask in any order.
    """

    masks: UInts
    run_counts: UInts
    starts: UInts
    lengths: UInts

    @classmethod
    def of(cls, masks: npt.NDArray[np.bool_]) -> Self:
        """Return the runs of masks, bool (M, height, width)."""
        padded = np.pad(masks.astype(np.int8), ((0, 0), (0, 0), (1, 1)))
        edges = np.diff(padded, axis=2)
        mask, y, x = (edges > 0).nonzero()
        lengths = (edges < 0).nonzero()[2] - x
        indices, run_counts = np.unique(mask, return_counts=True)
        arrays = (indices, run_counts, y * masks.shape[2] + x, lengths)
        return cls(*(array.astype(np.uint32) for array in arrays))

    @classmethod
    def split(cls, masks: Ints, runs: Ints, images: int, units: int) -> Iterator[Self]:
        """Yield the masks of each image of a batch.

        Parameters
        ----------
        masks
            int64 (4, m): image, quantile, unit and number of runs of each mask, image after image.
        runs
            int64 (2, N): first pixel and length of each run, mask after mask.
        images, units
            Images of the batch, and units.
        """
        image, quantile, unit, run_counts = masks
        mask_ends = np.searchsorted(image, np.arange(images + 1))
        run_ends = np.append(0, run_counts.cumsum())[mask_ends]
        columns = (quantile * units + unit, run_counts, *runs)
        indices, counts, starts, lengths = (column.astype(np.uint32) for column in columns)
        for index in range(images):
            of_masks, of_runs = (slice(*ends[index : index + 2]) for ends in (mask_ends, run_ends))
            yield cls(indices[of_masks], counts[of_masks], starts[of_runs], lengths[of_runs])

    def texts(self, chosen: Sequence[int]) -> dict[int, str]:
        """Write those of the chosen masks that are not empty, by their index.

        A text names numbers of pixels, inactive and active ones in turn, row by row from the top left; inactive ones
        after the last active pixel are left out. `read_mask` reads it.
        """
        stops, texts = self.run_counts.cumsum(dtype=np.int64), {}
        for position in np.flatnonzero(np.isin(self.masks, chosen)).tolist():
            own = slice(stops[position] - self.run_counts[position], stops[position])
            order = np.argsort(self.starts[own])
            starts, lengths = (array[own][order].astype(np.int64) for array in (self.starts, self.lengths))
            inactive = starts - np.append(0, (starts + lengths)[:-1])
            numbers = np.stack([inactive, lengths], axis=1).ravel()
            texts[int(self.masks[position])] = " ".join(map(str, numbers.tolist()))
        return texts


def read_mask(text: str, size: Size) -> npt.NDArray[np.bool_]:
    """Read a mask that `MaskRuns.texts` wrote.

    >>> read_mask("1 2 1 1", Size(2, 3)).astype(int)
    array([[0, 1, 1],
           [0, 1, 0]])

    Parameters
    ----------
    text
        Numbers of pixels, inactive and active ones in turn.
    size
        Of the mask.

    Raises
    ------
    ResultError
        If they are no numbers of pixels of this size.
    """
    pixels = size.height * size.width
    words = text.split()
    numbers = [int(word) for word in words if word.isdecimal() and len(word) < MAX_DIGITS]
    if len(numbers) != len(words) or len(words) % 2 or sum(numbers) > pixels:
        raise ResultError(
            f"a mask of a run is written as {text[:40]!r}, which does not fit {size.height} x {size.width} pixels. "
            "Expected the numbers of its inactive and active pixels in turn; repeat the run."
        )
    active = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
    return np.pad(active, (0, pixels - len(active))).reshape(size)


def check_runs(runs: MaskRuns, num_masks: int, size: Size) -> None:
    """Check that masks and pixels are those of the run: the permutation test uses them as indices.

    Parameters
    ----------
    runs
        Masks of one image, as a file holds them.
    num_masks
        Number of masks on each image.
    size
        Of its label maps.

    Raises
    ------
    ResultError
        If they are not.
    """
    masks, run_counts, starts, lengths = (array.astype(np.int64) for array in runs)
    sound = (
        masks.shape == run_counts.shape == (len(masks),)
        and starts.shape == lengths.shape == (run_counts.sum(),)
        and masks.max(initial=-1) < num_masks
        and starts.max(initial=-1) < size.height * size.width
        and (starts % size.width + lengths).max(initial=0) <= size.width
    )
    if not sound:
        raise ResultError(
            f"the masks of an image do not fit {num_masks} masks on label maps of {size.height} x {size.width} pixels: "
            "a file of the run's folder 'work', or of a shard, is damaged. Remove that folder, and run again."
        )
