"""Small versions of a data set's images, for figures and pages."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts import ConceptData, Labels
from netdissect.concepts.image_io import open_image
from netdissect.errors import ConceptsError
from netdissect.paths import contained
from netdissect.result import RunInfo

Pixels = npt.NDArray[np.uint8]

SIDE = 128
"""Height and width of a small image."""
# At this quality an image takes about 4 kB.
QUALITY = 74
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_image(folder: Path, name: str, side: int = SIDE) -> Pixels | None:
    """Read one image stretched to a square, as the network sees it.

    Parameters
    ----------
    folder
        Folder of the image names.
    name
        File name; a name that leads out of the folder is not read.
    side
        Height and width of the returned pixels.

    Returns
    -------
    uint8 (side, side, 3) or None
        None if it cannot be read.
    """
    try:
        with open_image(contained(folder, name, "a table of images")) as image:
            image.draft("RGB", (side, side))
            small = image.convert("RGB").resize((side, side), Image.Resampling.BOX, reducing_gap=3.0)
    except (*UNREADABLE, ConceptsError):
        return None
    return np.asarray(small)


def webp(pixels: Pixels) -> bytes:
    """Encode an image for a page."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def image_folder(root: str | Path, data_root: str | Path | None = None) -> Path:
    """Return the folder of a data set's images: `data_root`, or its ``images/``, if they have moved."""
    folder = Path(root if data_root is None else data_root)
    inner = folder / "images"
    return inner if data_root is None or inner.is_dir() else folder


def open_data(info: RunInfo, data_root: str | Path | None = None) -> ConceptData | None:
    """Open the data set of a run, at `data_root` if it has moved; None if it is missing or differs from the run's."""
    if info.data.chosen_in_python:
        return None
    chosen = info.config
    try:
        data = ConceptData.open(
            info.data.root if data_root is None else data_root,
            categories=chosen.categories,
            split=chosen.split,
            max_images=chosen.max_images,
            sample_seed=chosen.sample_seed,
        )
    except (ConceptsError, OSError):
        return None
    return data if len(data) == info.data.images else None


def read_labels(data: ConceptData, image_index: int) -> Labels | None:
    """Read the labels of one image; None if they cannot be read."""
    try:
        return data.labels(image_index)
    except ConceptsError:
        return None
