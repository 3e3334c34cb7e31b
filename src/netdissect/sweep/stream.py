"""Decode pictures and label maps ahead of the computation.

Batches are cut at fixed multiples of the batch size by index row, whatever the resume point, so that a
network sees the same batches in every session. Pillow releases the interpreter lock while it decodes:
threads suffice, and there are no processes to lose.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.dataset import named_in_index

# Whole batches, since threads that hand over single images wait for the interpreter's lock at each of them.
BATCHES_AHEAD = 3

T = TypeVar("T")
R = TypeVar("R")
Pixels = npt.NDArray[np.uint8]


class Batch(NamedTuple):
    """Images `start` to `start + len(pixels)` of a data set, uint8 (B, C, H, W), a pixel's channels side by side."""

    start: int
    pixels: Pixels


def batch_starts(images: int, batch_size: int) -> range:
    """Return the first row of every batch."""
    return range(0, images, batch_size)


def image_batches(data: ConceptData, size: Size, channels: int, starts: range, *, workers: int = 2) -> Iterator[Batch]:
    """Yield decoded batches in order, the next ones being decoded meanwhile.

    Parameters
    ----------
    data
        The data set.
    size
        Input size of the network; the whole picture is squashed to it, never cropped.
    channels
        3 (RGB) or 1 (gray).
    starts
        First rows, from `batch_starts`; its step is the batch size.
    workers
        Decoding threads.

    Raises
    ------
    ConceptsError
        If a picture is missing or cannot be decoded whole.
    """

    def read(start: int) -> Batch:
        return Batch(start, read_rows(data, range(start, min(start + starts.step, len(data))), size, channels))

    return ahead(read, starts, workers, BATCHES_AHEAD)


def read_rows(data: ConceptData, rows: Iterable[int], size: Size, channels: int) -> Pixels:
    """Decode some pictures of a data set as uint8 (B, C, H, W), a pixel's channels side by side; see `read_image`."""
    pixels = np.stack([read_image(data.image_path(row), size, channels) for row in rows])
    return pixels[:, None] if channels == 1 else pixels.transpose(0, 3, 1, 2)


def read_image(path: Path, size: Size, channels: int, *, upright: bool = False) -> Pixels:
    """Decode one picture as uint8 (H, W, 3), or (H, W) if gray, squashed (bilinear) to `size` if it has another.

    Pictures of a data set are taken as they are stored, as their label maps; photographs of a user are turned `upright`
    as EXIF says.
    """
    with named_in_index(path, "a picture", "a whole JPEG or PNG"), Image.open(path) as image:
        picture = (ImageOps.exif_transpose(image) if upright else image).convert("RGB" if channels == 3 else "L")
    if (picture.height, picture.width) != size:
        picture = picture.resize((size.width, size.height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def ahead(function: Callable[[T], R], items: Iterable[T], workers: int, depth: int) -> Iterator[R]:
    """Apply `function` in threads, at most `depth` items ahead, and yield the results in order."""
    with ThreadPoolExecutor(workers, thread_name_prefix="netdissect-decode") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
