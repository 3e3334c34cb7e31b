"""Semantic masks of Roboflow: a folder for each split, with images and masks.

    DIR/{train,valid,test}/a_jpg.rf.0a1b.jpg          or DIR/a_jpg.rf.0a1b.jpg
                           a_jpg.rf.0a1b_mask.png     gray, the pixel is the value
                           _classes.csv               Pixel Value, Class

The value 0 is ``background`` or ``unlabeled``, which is no class.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.class_tables import ClassTable
from netdissect.concepts.sources.readers import read_text
from netdissect.concepts.sources.source import find_files
from netdissect.errors import SourceError

TABLE = "_classes.csv"
MASK_ENDING = "_mask"
LARGEST = 65535
UNLABELED = frozenset({"background", "unlabeled"})
"""Names of the value 0 in exports, by their age."""


def roboflow_folders(root: Path) -> list[Path]:
    """List the folders of an export: `root` itself, or those in it that hold the table of classes."""
    return [folder for folder in (root, *sorted(root.glob("*/"))) if (folder / TABLE).is_file()]


def roboflow_pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, the image and the mask of each pair; for a missing file the path where it should be.

    Raises
    ------
    SourceError
        If two images have the same name.
    """
    files = [path for path in find_files(folder) if path.parent == folder]
    masks = {path.stem.removesuffix(MASK_ENDING): path for path in files if _is_mask(path)}
    images: dict[str, Path] = {}
    for path in files:
        if not _is_mask(path) and images.setdefault(path.stem, path) != path:
            raise SourceError(f"{images[path.stem]} and {path} have the same name. Expected one image a name.")
    for name in sorted(images.keys() | masks.keys()):
        yield name, images.get(name, folder / f"{name}.jpg"), masks.get(name, folder / f"{name}{MASK_ENDING}.png")


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() == ".png" and path.stem.endswith(MASK_ENDING)


def read_roboflow_classes(path: Path) -> ClassTable:
    """Read the name of each value.

    Raises
    ------
    SourceError
        If the table has other columns, or a value is not a whole number or is repeated.
    """
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(read_text(path, "Roboflow's table of classes")), skipinitialspace=True)
        if any(cell.strip() for cell in row)
    ]
    if not rows or [cell.lower() for cell in rows[0]] != ["pixel value", "class"]:
        raise SourceError(
            f"{path} has the header {','.join(rows[0]) if rows else ''!r}. Expected 'Pixel Value, Class', as Roboflow "
            "writes it; restore the file."
        )
    names: dict[int, str] = {}
    for row in rows[1:]:
        value = whole_number(row[0])
        if len(row) != 2 or value is None or value > LARGEST or value in names:
            raise SourceError(
                f"{path} holds the row {','.join(row)!r}. Expected a value from 0 to {LARGEST} that stands once, and "
                "its class; correct the row, with quotes around a name that holds a comma."
            )
        names[value] = "" if value == 0 and row[1].lower() in UNLABELED else row[1]
    if not any(names.values()):
        raise SourceError(f"{path} names no class but the background. Expected rows such as '1, car'.")
    return ClassTable(named_apart(names), origin=str(path))
