"""Images as network inputs, in batches that threads read ahead of the computation; see `image_reader`.

Batches start at multiples of the batch size by image index, also in a resumed run, so a network gets the same batches
in each session. Pillow releases the interpreter lock while it decodes, so threads suffice.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from netdissect.concepts import Size
from netdissect.concepts.broden_files import named_in_index
from netdissect.concepts.image_io import open_image
from netdissect.config import Interpolation
from netdissect.errors import NetworkError

# Whole batches: threads that pass single images wait for the interpreter lock at each image.
PREFETCHED_BATCHES = 3

T = TypeVar("T")
R = TypeVar("R")
Pixels = npt.NDArray[np.uint8]


class InputFormat(Protocol):
    """Format of the input of a network; `netdissect.models.Preprocessing` has it."""

    @property
    def size(self) -> Size:
        """Height and width."""

    @property
    def channels(self) -> int:
        """1: gray, 3: RGB, 4: RGB and alpha."""

    @property
    def interpolation(self) -> Interpolation:
        """Filter with which the whole image is stretched, never cropped."""


class Batch(NamedTuple):
    """Images `start` to `start + len(pixels)` of a data set, uint8 (B, C, H, W), channels last in memory."""

    start: int
    pixels: Pixels


def batch_starts(images: int, batch_size: int) -> range:
    """Return the index of the first image of each batch."""
    return range(0, images, batch_size)


def read_image(path: Path, input_format: InputFormat, *, upright: bool = False) -> Pixels:
    """Decode one image as uint8 (H, W, C) of a network's input; see `fit_to_input`.

    Images of a data set are read as stored, as their label maps are. Photographs of a user are turned `upright` by
    their EXIF orientation.
    """
    with named_in_index(path, "an image", "a whole JPEG or PNG"), open_image(path) as image:
        image.load()
        source_image = ImageOps.exif_transpose(image) if upright else image
    return fit_to_input(source_image, input_format, str(path))


def fit_to_input(image: Image.Image, input_format: InputFormat, origin: str) -> Pixels:
    """Stretch a whole image to the size of a network's input and convert its channels.

    Parameters
    ----------
    image
        The decoded image.
    input_format
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
        If images cannot have that many channels, or this one has no fourth channel.
    """
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(input_format.channels)
    if mode is None or (mode == "RGBA" and not image.has_transparency_data):
        raise NetworkError(
            f"The network takes {input_format.channels} channels (its means and deviations) but "
            f"{origin} is {image.mode}. Expected 1 (gray), 3 (RGB), or 4 where every image has red, green, blue and "
            "alpha; no other channel of an image can be read."
        )
    converted = image.convert(mode)
    if (converted.height, converted.width) != input_format.size:
        size = (input_format.size.width, input_format.size.height)
        filter_ = Image.Resampling[input_format.interpolation.upper()]
        # Band by band: Pillow weights the colors of RGBA by alpha, which is an ordinary channel here.
        converted = Image.merge(mode, [band.resize(size, filter_) for band in converted.split()])
    pixels = np.asarray(converted)
    return pixels[..., None] if input_format.channels == 1 else pixels


def prefetch(function: Callable[[T], R], items: Iterable[T], workers: int, depth: int) -> Iterator[R]:
    """Apply `function` in threads, at most `depth` items ahead, and yield the results in order."""
    with ThreadPoolExecutor(workers, thread_name_prefix="netdissect-decode") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
