"""A part of the compiled loops of the permutation test: where the masks of an image meet labels that are shifted."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.jit import inlined

Ints = npt.NDArray[np.int64]
UInts = npt.NDArray[np.uint32]


class Runs(NamedTuple):
    """Runs of pixels of the masks of one image: run i of the masks is run `scale * (i - first)` here."""

    starts: UInts
    ends: UInts
    first: np.int64
    scale: np.int64


@inlined
def shifted_runs(masks: Any, image: int, shift: Ints, size: tuple[int, int], out: UInts) -> Runs:
    """Return the runs of an image where they meet labels that are shifted: two for each run, since it may be cut."""
    first, last = masks.run_ends[masks.image_ends[image]], masks.run_ends[masks.image_ends[image + 1]]
    if shift[0] == 0 and shift[1] == 0:
        return Runs(masks.starts, masks.ends, np.int64(0), np.int64(1))
    (height, width), starts, ends = size, out[0], out[1]
    for run in range(first, last):
        y, x = np.int64(masks.starts[run]) // width, np.int64(masks.starts[run]) % width
        row, x = (y - shift[0]) % height * width, (x - shift[1]) % width
        end, index = x + np.int64(masks.ends[run]) - np.int64(masks.starts[run]), 2 * (run - first)
        starts[index], ends[index] = row + x, row + (end if end < width else width)
        starts[index + 1], ends[index + 1] = row, row + (end - width if end > width else 0)
    return Runs(starts, ends, first, np.int64(2))
