"""Images of a data set as the explorer shows them: small, squashed to a square, kept for the next time."""

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
"""Height and width in which an image is shown."""
QUALITY = 80
KEPT = 2048
"""Images kept, of about 12 kB each."""


class Thumbnails:
    """The images that the runs' tables name, and no other file."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def webp(self, run: OpenRun, row: int) -> bytes:
        """Return one image as a WebP file.

        Raises
        ------
        RequestError
            If no table names it, or it cannot be read.
        """
        key = (run.id, row)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        image = as_dissected(image_path(run, row))
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0)
        data = encoded(small)
        with self._lock:
            self._kept[key] = data
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return data


def image_path(run: OpenRun, row: int) -> Path:
    """Return the file of an index row that a table of top images names.

    Raises
    ------
    RequestError
        If no table names it, or its name leaves the folder.
    """
    name = run.image_names.get(row)
    if name is None:
        raise RequestError(f"no table of the run {run.name!r} names an image of row {row}.")
    return contained(run.images, name, f"the run {run.name!r}", RequestError)


def as_dissected(path: Path) -> Image.Image:
    """Return an image of a data set as the dissection saw it: not turned, whatever EXIF says.

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


def encoded(image: Image.Image | Pixels) -> bytes:
    """Encode an image as WebP."""
    out = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))).save(out, "WEBP", quality=QUALITY)
    return out.getvalue()
