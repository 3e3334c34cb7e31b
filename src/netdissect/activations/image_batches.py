"""Decode images and label maps ahead of the computation.

Batches are cut at fixed multiples of the batch size by index row, whatever the resume point, so that a
network sees the same batches in every session. Pillow releases the interpreter lock while it decodes:
threads suffice, and there are no processes to lose.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.dataset import named_in_index
from netdissect.concepts.image_io import open_image
from netdissect.config import Interpolation
from netdissect.errors import NetworkError

# Whole batches, since threads that hand over single images wait for the interpreter's lock at each of them.
PREFETCHED_BATCHES = 3

T = TypeVar("T")
R = TypeVar("R")
Pixels = npt.NDArray[np.uint8]


class InputFormat(Protocol):
    """What is asked of an image as a network's input; `netdissect.models.Preprocessing` is such."""

    @property
    def size(self) -> Size:
        """Height and width."""

    @property
    def channels(self) -> int:
        """1: gray, 3: RGB, 4: RGB and alpha."""

    @property
    def interpolation(self) -> Interpolation:
        """Filter by which the whole image is squashed, never cropped."""


class Batch(NamedTuple):
    """Images `start` to `start + len(pixels)` of a data set, uint8 (B, C, H, W), a pixel's channels side by side."""

    start: int
    pixels: Pixels


def batch_starts(images: int, batch_size: int) -> range:
    """Return the first row of every batch."""
    return range(0, images, batch_size)


def image_batches(data: ConceptData, how: InputFormat, starts: range, *, workers: int = 2) -> Iterator[Batch]:
    """Yield decoded batches in order, the next ones being decoded meanwhile.

    Parameters
    ----------
    data
        The data set.
    how
        The network's preprocessing.
    starts
        First rows, from `batch_starts`; its step is the batch size.
    workers
        Decoding threads.

    Raises
    ------
    ConceptsError
        If an image is missing or cannot be decoded whole.
    """

    def read(start: int) -> Batch:
        return Batch(start, read_images(data, range(start, min(start + starts.step, len(data))), how))

    return prefetch(read, starts, workers, PREFETCHED_BATCHES)


def read_images(data: ConceptData, rows: Iterable[int], how: InputFormat) -> Pixels:
    """Decode some images of a data set as uint8 (B, C, H, W), a pixel's channels side by side; see `read_image`."""
    return np.stack([read_image(data.image_path(row), how) for row in rows]).transpose(0, 3, 1, 2)


def read_image(path: Path, how: InputFormat, *, upright: bool = False) -> Pixels:
    """Decode one image as uint8 (H, W, C) of a network's input; see `fit_to_input`.

    Images of a data set are taken as they are stored, as their label maps; photographs of a user are turned `upright`
    as EXIF says.
    """
    with named_in_index(path, "an image", "a whole JPEG or PNG"), open_image(path) as image:
        image.load()
        source_image = ImageOps.exif_transpose(image) if upright else image
    return fit_to_input(source_image, how, str(path))


def fit_to_input(image: Image.Image, how: InputFormat, origin: str) -> Pixels:
    """Bring a whole image to the size and the channels of a network's input.

    Parameters
    ----------
    image
        As it was decoded.
    how
        The network's preprocessing.
    origin
        Names the image in messages.

    Returns
    -------
    uint8 (H, W, C)
        Not normalized.

    Raises
    ------
    NetworkError
        If images do not have that many channels, or this one has none that would be the fourth.
    """
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(how.channels)
    if mode is None or (mode == "RGBA" and not image.has_transparency_data):
        raise NetworkError(
            f"The network takes {how.channels} channels (as many means and deviations has its preprocessing), but "
            f"{origin} is {image.mode}. Expected 1 (gray), 3 (RGB), or 4 where every image has red, green, blue and "
            "alpha: nothing else in an image says what a further channel shows."
        )
    source_image = image.convert(mode)
    if (source_image.height, source_image.width) != how.size:
        size, filter_ = (how.size.width, how.size.height), Image.Resampling[how.interpolation.upper()]
        # Band by band: Pillow weighs the colors of RGBA by their alpha, which here is a channel like any other.
        source_image = Image.merge(mode, [band.resize(size, filter_) for band in source_image.split()])
    pixels = np.asarray(source_image)
    return pixels[..., None] if how.channels == 1 else pixels


def prefetch(function: Callable[[T], R], items: Iterable[T], workers: int, depth: int) -> Iterator[R]:
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
