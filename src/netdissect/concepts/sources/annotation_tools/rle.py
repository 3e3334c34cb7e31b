"""Masks as run lengths, in the plain and the compressed form of COCO.

Run lengths alternate between pixels outside and inside of the mask, beginning outside, and go down the columns. In the
compressed form each length from the fourth on is stored as the difference to the last but one. A number is a sequence
of characters of five bits each, the lowest first, with a continuation bit and a sign (``rleToString`` of COCO's
``maskApi.c``).

pycocotools is not used, because it leaves pixels beyond the runs uninitialized: a truncated string would give
a mask of random pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts.sources.mask_stacking import Mask

FIRST, BITS, MORE, SIGN = 48, 5, 0x20, 0x10
LONGEST = 7
"""Characters of one length: 35 bits."""


def decode_runs(counts: Any, height: int, width: int) -> Mask:
    """Decode plain (a list) or compressed (a string) run lengths, bool (H, W).

    Raises
    ------
    ValueError, TypeError
        If they are malformed or negative, or do not add up to the size of the image.

    Examples
    --------
    >>> decode_runs([1, 2, 3], 2, 3).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    >>> decode_runs("123", 2, 3).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    lengths = _compressed(counts) if isinstance(counts, str | bytes) else _plain(counts)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError("its run lengths do not add up to the image")
    mask: Mask = np.repeat(np.arange(len(lengths)) % 2 > 0, lengths).reshape(width, height).T
    return mask


def _plain(counts: Sequence[Any]) -> npt.NDArray[np.int64]:
    if not all(isinstance(count, int) and abs(count) < 1 << BITS * LONGEST for count in counts):
        raise ValueError("its run lengths are no whole numbers")
    return np.array(counts, dtype=np.int64)


def _compressed(text: str | bytes) -> npt.NDArray[np.int64]:
    data = text.encode("latin-1", "replace") if isinstance(text, str) else text
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - FIRST
    last = np.flatnonzero(codes & MORE == 0)
    if not len(last) or last[-1] != len(codes) - 1 or codes.min() < 0 or codes.max() >= 2 * MORE:
        raise ValueError("its run lengths are cut short or no run lengths")
    first = np.append(0, last[:-1] + 1)
    positions = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    if positions.max() >= LONGEST:
        raise ValueError("its run lengths are longer than any image")
    values = np.add.reduceat((codes & (MORE - 1)) << (BITS * positions), first)
    values -= np.where(codes[last] & SIGN, np.int64(1) << (BITS * (last - first + 1)), 0)
    for start in (1, 2):
        values[start::2] = np.cumsum(values[start::2])
    return values
