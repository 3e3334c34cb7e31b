"""Hand out the world: one labeled sample, a data set on disk, or training pictures in memory.

Training pictures carry scene labels and nothing else; objects, parts, materials, textures and colors
are known only to the data set that units are compared with.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from netdissect.concepts.synthetic.scenes import SCENE_NAMES
from netdissect.concepts.synthetic.world import draw

BLOCK = 64  # pictures in one task of a worker

Count = Callable[[int, int], None]
"""Called as `progress(done, total)`."""


def training_set(
    images: int, *, size: int = 96, seed: int = 1, workers: int | None = None, progress: Count | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw scenes in memory.

    Parameters
    ----------
    images
        How many.
    size
        Pixels of the square pictures.
    seed
        Take another one than the data set's that units are compared with.
    workers
        Processes; None: one for each processor. The pictures are the same for any number.
    progress
        Told of every block.

    Returns
    -------
    uint8 (N, size, size, 3), int64 (N,)
        Pictures, and the index of each one's scene in `SCENE_NAMES`.
    """
    pictures = np.empty((images, size, size, 3), dtype=np.uint8)
    scenes = np.empty(images, dtype=np.int64)
    starts = range(0, images, BLOCK)
    work = partial(_scenes, stop=images, size=size, seed=seed)
    for start, (block, names) in zip(starts, _each(work, starts, workers), strict=True):
        pictures[start : start + BLOCK] = block
        scenes[start : start + BLOCK] = names
        if progress:
            progress(min(start + BLOCK, images), images)
    return pictures, scenes


def _scenes(start: int, stop: int, size: int, seed: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    drawn = [draw(index, seed, size, swatch_share=0.0) for index in range(start, min(start + BLOCK, stop))]
    return np.stack([one.picture for one in drawn]), [SCENE_NAMES.index(one.scene or "") for one in drawn]


def _each(
    work: Callable[[int], tuple[npt.NDArray[np.uint8], list[int]]], items: Sequence[int], workers: int | None
) -> Iterator[tuple[npt.NDArray[np.uint8], list[int]]]:
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(items) == 1:
        yield from map(work, items)
        return
    # Fresh interpreters: forking a process whose threads hold locks (torch, BLAS) can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items)
