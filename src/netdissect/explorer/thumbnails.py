"""Thumbnails of the images of a data set: stretched to a square, encoded as WebP, cached in memory."""

from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from netdissect.concepts.image_io import UNREADABLE, open_image
from netdissect.errors import RequestError
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.uploads import Pixels
from netdissect.paths import contained

SIDE = 256
"""Height and width of a thumbnail."""
QUALITY = 80
CACHED = 2048
"""Thumbnails in the cache, of about 12 kB each."""


class Thumbnails:
    """Thumbnails of the images that the runs' tables name, and of no other file."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def webp(self, run: OpenRun, image_index: int) -> bytes:
        """Return the thumbnail of one image as a WebP file.

        Raises
        ------
        RequestError
            If no table names the image, or it cannot be read.
        """
        key = (run.id, image_index)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        image = open_as_dissected(image_path(run, image_index))
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0)
        data = encode_webp(small)
        with self._lock:
            self._cache[key] = data
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return data


def image_path(run: OpenRun, image_index: int) -> Path:
    """Return the file of an image of a run's data set.

    Raises
    ------
    RequestError
        If no table names it, or its name leads out of the folder.
    """
    return contained(run.images, run.image(image_index)[0], f"the run {run.name!r}", RequestError)


def open_as_dissected(path: Path) -> Image.Image:
    """Return an image of a data set as the dissection reads it: EXIF orientation is ignored.

    Raises
    ------
    RequestError
        If it cannot be read.
    """
    try:
        with open_image(path) as image:
            return image.convert("L" if image.mode == "L" else "RGB")
    except UNREADABLE:
        raise RequestError(
            f"the image {path.name!r} cannot be read. Expected it in the data set's folder; start with --data-root "
            "FOLDER if it was moved."
        ) from None


def encode_webp(image: Image.Image | Pixels) -> bytes:
    """Encode an image as WebP."""
    out = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))).save(out, "WEBP", quality=QUALITY)
    return out.getvalue()
