"""The folder of a data set, and what is said where something else was named."""

import os
from itertools import islice
from pathlib import Path

from netdissect.errors import ConceptsError

INDEX_FILE = "index.csv"
LAYOUT = f"({INDEX_FILE}, label.csv, category.csv, c_*.csv, images/)"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SEARCHED = 1000
"""Largest number of entries of a folder that are searched for a hint."""


def dataset_folder(root: object) -> Path:
    """Return a folder that holds a data set in Broden's layout.

    Raises
    ------
    ConceptsError
        If it is no path, or the folder has no ``index.csv``. It says what was found in its place, and where the data
        set is if it is one folder above or below.
    """
    if not isinstance(root, (str, os.PathLike)):
        raise ConceptsError(
            f"The data is a {type(root).__name__}. Expected a netdissect.ConceptData, or the folder of a data set as "
            "text or Path: images whose pixels are labeled with concepts, which a DataLoader or Dataset does not have. "
            "Write one from labeled images with 'netdissect concepts build' (in Python netdissect.build_dataset)."
        )
    folder = Path(root)
    if not (folder / INDEX_FILE).is_file():
        found, remedy = _found(folder)
        raise ConceptsError(
            f"{folder} is not a concept data set: {found}. Expected a folder in Broden's layout {LAYOUT}; {remedy}."
        )
    return folder


def _found(folder: Path) -> tuple[str, str]:
    """Return what a folder is, and what to do."""
    written = "'netdissect concepts build' writes one"
    if not folder.is_dir():
        remedy = f"{folder.parent} is one" if (folder.parent / INDEX_FILE).is_file() else written
        return "it is a file" if folder.exists() else "there is no such folder", remedy
    other = _other_kind(folder)
    if other is not None:
        return other
    if _has_images(folder):
        return f"it holds images, but no {INDEX_FILE} with their labels", f"{written} from images and their labels"
    return f"it has no {INDEX_FILE}", written


def is_image_folder(folder: Path) -> bool:
    """Tell whether a folder holds images alone: it is neither a data set nor near one, no run and no labeled images."""
    return (
        folder.is_dir() and not (folder / INDEX_FILE).is_file() and _other_kind(folder) is None and _has_images(folder)
    )


def _other_kind(folder: Path) -> tuple[str, str] | None:
    """Return what a folder is that is no data set and holds more than images, and what to do."""
    near = _data_set_near(folder)
    if near is not None:
        return f"it has no {INDEX_FILE}", f"{near} is one"
    if (folder / "run.json").is_file() or (folder / "config.json").is_file():
        return f"it is a run, which holds results and has no {INDEX_FILE}", "name the data set of the run"
    if (folder / "classes.csv").is_file() and (folder / "masks").is_dir():
        return (
            f"it holds labeled images and has no {INDEX_FILE}",
            f"write one from these with 'netdissect concepts build masks:{folder} --out NEW'",
        )
    return None


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in islice(folder.iterdir(), SEARCHED))


def _data_set_near(folder: Path) -> Path | None:
    """Return the data set one or two folders above, or one below; None: there is none."""
    below = (entry for entry in islice(folder.iterdir(), SEARCHED) if entry.is_dir())
    above = islice(folder.absolute().parents, 2)
    return next((entry for entry in (*above, *below) if (entry / INDEX_FILE).is_file()), None)
