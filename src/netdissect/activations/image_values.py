"""The largest and the mean activation of each unit in each image of a pass.

    RUN/work/<layer>.maxima    float32, images x units, batch by batch
    RUN/work/<layer>.means     likewise, in a run with moments

What depends on an image's rank among all images is known only after the pass; see `activation_range`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect import checksums
from netdissect.activations.array_log import AppendOnlyFile
from netdissect.jit import compiled, compiled_in_place

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK_VALUES = 2**24
"""Values in memory at a time: a sixteenth of a gigabyte."""
SAMPLE_IMAGES, SAMPLE_VALUES, SAMPLE_SEED = 2048, 2**24, 0
"""Images whose maxima a run keeps, at most as many values in a layer, and the seed of their draw."""


class ImageValues(AppendOnlyFile):
    """An append-only file of one value for each image and unit of a layer, batch by batch.

    Parameters
    ----------
    path, offsets
        As for `AppendOnlyFile`.
    units
        Number of units, U.
    """

    def __init__(self, path: Path, units: int, offsets: Sequence[int] = (0,)) -> None:
        super().__init__(path, offsets)
        self.units = units

    def append(self, values: Floats) -> None:
        """Write the values of one batch, float32 (B, U)."""
        self.write([np.ascontiguousarray(values).data])

    def __iter__(self) -> Iterator[Floats]:
        """Read the values of one batch after the other, float32 (B, U)."""
        return (np.frombuffer(self.record(batch), np.float32).reshape(-1, self.units) for batch in range(self.records))

    @property
    def images(self) -> int:
        """Number of images so far."""
        return (self.offsets[-1] - self.records * checksums.BYTES) // (4 * self.units)


def unit_blocks(parts: Sequence[ImageValues]) -> Iterator[tuple[int, Floats]]:
    """Read the values of all images, some units at a time.

    Parameters
    ----------
    parts
        Of each shard, in the order of the images.

    Yields
    ------
    tuple
        The first unit, and float32 (U, n): values of this unit and the next ones in each image.
    """
    images, units = sum(part.images for part in parts), parts[0].units
    step = max(1, BLOCK_VALUES // max(images, 1))
    for first in range(0, units, step):
        block = np.empty((min(step, units - first), images), np.float32)
        done = 0
        for part in parts:
            for batch in part:
                block[:, done : done + len(batch)] = batch[:, first : first + step].T
                done += len(batch)
        yield first, block


def sample_images(images: int, units: int) -> Ints:
    """Return the images whose maxima a run keeps of a layer, rising: all, or a random sample.

    Layers and runs on the same images have one sample, or the wider layer a part of it.

    >>> sample_images(3, 512).tolist(), len(sample_images(63_305, 2048)), len(sample_images(63_305, 65_536))
    ([0, 1, 2], 2048, 256)
    """
    keep = min(SAMPLE_IMAGES, max(SAMPLE_VALUES // units, 1))
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(images)[:keep])


def sampled_maxima(parts: Sequence[ImageValues]) -> Floats:
    """Return the maxima of `sample_images`, float32 (U, n), of parts as in `unit_blocks`."""
    sample = sample_images(sum(part.images for part in parts), parts[0].units)
    return np.concatenate([block[:, sample] for _, block in unit_blocks(parts)])


def largest_values(maps: Floats) -> Floats:
    """Return the largest activation of each map: float32 (B, U) of float32 (B, U, h, w).

    >>> largest_values(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)).tolist()
    [[3.0, 7.0]]
    """
    return _of_each_map(_largest, maps)


def mean_values(maps: Floats) -> Floats:
    """Return the mean activation of each map: float32 (B, U) of float32 (B, U, h, w), summed in float64.

    >>> mean_values(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)).tolist()
    [[1.5, 5.5]]
    """
    return _of_each_map(_mean, maps)


def _of_each_map(compute: Callable[[Floats, Floats], None], maps: Floats) -> Floats:
    """Return what a loop over the cells of maps, (B * U, h * w), writes for each of them."""
    images, units, height, width = maps.shape
    values = np.empty(images * units, np.float32)
    compute(np.ascontiguousarray(maps).reshape(images * units, height * width), values)
    return values.reshape(images, units)


@compiled_in_place
def _largest(cells: Floats, maxima: Floats) -> None:
    for row in range(len(cells)):
        largest = cells[row, 0]
        for value in cells[row]:
            largest = value if value > largest else largest
        maxima[row] = largest


@compiled
def _mean(cells: Floats, means: Floats) -> None:
    for row in range(len(cells)):
        total = 0.0
        for value in cells[row]:
            total += np.float64(value)
        means[row] = total / cells.shape[1]
