"""Pixels of the label sets of an image in blocks that the same cells determine.

Where a threshold is 0 and no activation is below it, all pixels of a block are active, or none of them: a mask is
counted without interpolation.

    label sets of a batch, upsampler -> label_blocks -> LabelBlocks -> sparse_kernel.py
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts.label_sets import LabelSetMap
from netdissect.jit import compiled
from netdissect.scoring.upsampling import Upsampler

Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]

SMALLEST_PIXEL = 1e-37
"""Interpolated values above this are not rounded to 0 in float32."""


class LabelBlocks(NamedTuple):
    """The blocks of the B images of a batch, whose label maps have one size.

    Attributes
    ----------
    rows, columns
        int64 (2 h + 1,) and (2 w + 1,): first pixel of the parts of each cell along both axes; see
        `netdissect.scoring.upsampling.UpsamplingAxis.part_starts`.
    starts
        int64 (B, 4 h w + 1): first entry of each block, four for each cell: its pixels that this cell alone determines,
        those between it and the next cell of its row, between it and that of its column, and between all four.
    label_sets, pixels
        int32 (n,): label set of each entry, and its pixels in the block.
    least
        float64 (1,): activations above this give no pixel that is rounded to 0; infinity where no block is uniform.
    """

    rows: Ints
    columns: Ints
    starts: Ints
    label_sets: Counts
    pixels: Counts
    least: npt.NDArray[np.float64]


def label_blocks(images: Sequence[LabelSetMap], upsampler: Upsampler) -> LabelBlocks:
    """List the blocks of a batch; there are none to be used where a pixel has no weight of its cell."""
    rows, columns = upsampler.rows.part_starts, upsampler.columns.part_starts
    least_weight = upsampler.rows.least_weight * upsampler.columns.least_weight
    if least_weight == 0:
        starts, none = np.zeros((len(images), 1), np.int64), np.empty(0, np.int32)
        return LabelBlocks(rows, columns, starts, none, none, np.array([np.inf]))
    parts = [_list_blocks(image.index_map, rows, columns, len(image.set_sizes)) for image in images]
    ends, label_sets, pixels = zip(*parts, strict=True)
    begins = np.cumsum([0, *map(len, label_sets)])[:-1]
    return LabelBlocks(
        rows,
        columns,
        np.stack(ends) + begins[:, None],
        np.concatenate(label_sets),
        np.concatenate(pixels),
        np.array([SMALLEST_PIXEL / least_weight]),
    )


@compiled
def _list_blocks(index_map: Counts, rows: Ints, columns: Ints, num_sets: int) -> tuple[Ints, Counts, Counts]:
    """Count the pixels of each label set in each block of an image."""
    starts = np.zeros(len(rows) * len(columns), np.int64)
    label_sets, pixels = np.empty(index_map.size, np.int32), np.empty(index_map.size, np.int32)
    entry_of, entries, block = np.full(num_sets, -1, np.int64), np.int64(0), np.int64(0)
    for i in range(0, len(rows) - 1, 2):
        for j in range(0, len(columns) - 1, 2):
            for part in range(4):
                row, column, first = i + part // 2, j + part % 2, entries
                for y in range(rows[row], rows[row + 1]):
                    for x in range(columns[column], columns[column + 1]):
                        label_set = index_map[y, x]
                        if entry_of[label_set] < first:
                            entry_of[label_set] = entries
                            label_sets[entries], pixels[entries] = label_set, 0
                            entries += 1
                        pixels[entry_of[label_set]] += 1
                block += 1
                starts[block] = entries
    return starts[: block + 1], label_sets[:entries], pixels[:entries]
