"""Read the files of Broden's layout: index.csv, label.csv, category.csv, c_<category>.csv and label maps.

A cell of ``index.csv`` holds label ids of the whole image, paths of label maps, or both, separated by ``;``. Each label
map of a cell is a channel. The id 0 means unlabeled. A pixel of a label map encodes its label id as R + 256 * G.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts.csv_numbers import real_number, whole_number
from netdissect.concepts.image_io import GRAY_STEPS, UNREADABLE, open_image
from netdissect.concepts.labels import Concept, Size
from netdissect.csv_cells import plain
from netdissect.errors import ConceptsError
from netdissect.paths import check_name, check_regular, contained

LARGEST_LABEL = 2**16 - 1
"""The largest value of R + 256 * G."""


LONGEST_SIDE = 2**16
"""Largest height or width of an image or label map, in pixels."""


INDEX_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")


LABEL_COLUMNS = ("number", "name", "category", "frequency", "coverage", "syns")


CATEGORY_COLUMNS = ("name", "first", "last", "count", "frequency")


CODE_COLUMNS = ("code", "number", "name", "frequency", "coverage")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One row of ``index.csv``: an image and its labels.

    Attributes
    ----------
    image
        Path below ``images/``.
    split
        ``train`` or ``val``.
    size
        Height and width of the label maps in pixels.
    label_maps
        Paths of the label maps below ``images/``, one a channel, in column order.
    image_level
        Label ids of the whole image.
    """

    image: str
    split: str
    size: Size
    label_maps: tuple[str, ...]
    image_level: tuple[int, ...]


@contextmanager
def named_in_index(path: Path, file_type: str, expected: str) -> Iterator[None]:
    """Replace the errors of reading a file that ``index.csv`` names by one that says how to repair it.

    Parameters
    ----------
    path
        The file.
    file_type, expected
        What the file is read as, and the form that is expected.

    Raises
    ------
    ConceptsError
        In place of the error that Pillow raises.
    """
    try:
        yield
    except FileNotFoundError:
        raise ConceptsError(
            f"{path} is named in index.csv but does not exist. Restore the file or rebuild the data set."
        ) from None
    except UNREADABLE as error:
        raise ConceptsError(
            f"{path} cannot be read as {file_type} ({error}). Expected {expected}; restore the file or rebuild the "
            "data set."
        ) from error


def read_label_map(path: Path, size: Size) -> npt.NDArray[np.int32]:
    """Read one label map: label id = R + 256 * G, int32 (sh, sw); an indexed or gray PNG holds R alone.

    Raises
    ------
    ConceptsError
        If the file is missing, unreadable or not of `size`.
    """
    expected = "a complete PNG whose pixels are label ids (R + 256 * G)"
    with named_in_index(path, "a label map", expected), open_image(path) as image:
        if (image.height, image.width) != size:
            raise ConceptsError(
                f"{path} is {image.height} x {image.width} pixels (height x width) but index.csv says "
                f"{size.height} x {size.width}. Rebuild the data set or correct sh and sw in index.csv."
            )
        rawmode = str(image.tile[0].args) if image.tile and image.format == "PNG" else ""
        if ";16" in rawmode and image.mode != "I;16":
            raise ConceptsError(f"{path} has 16 bits a channel. Expected {expected}, of 8 bits; write it anew.")
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        step = GRAY_STEPS.get(int(rawmode[2:]), 1) if rawmode in ("L;2", "L;4") else 1
        return pixels.astype(np.int32) // step
    numbers = pixels[:, :, 1].astype(np.int32)  # before multiplying: uint8 would wrap
    numbers *= 256
    numbers += pixels[:, :, 0]
    return numbers


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV table with a header that holds at least `columns`.

    Raises
    ------
    ConceptsError
        If the file is missing, is not UTF-8 text, lacks a column or a value, or has a row longer than its header.
    """
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin it with a mark
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = [column for column in columns if column not in header]
            if missing:
                raise ConceptsError(
                    f"{path} lacks the column {missing[0]!r}; its header is {','.join(header)!r}. Expected at least "
                    f"{','.join(columns)!r}, as in the published Broden."
                )
            rows = []
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise ConceptsError(
                        f"{path}, line {reader.line_num}: the row is shorter than the header. Expected "
                        f"{len(header)} fields; the file may be truncated, restore it or rebuild the data set."
                    )
                if None in row:
                    raise ConceptsError(
                        f"{path}, line {reader.line_num}: the row is longer than the header. Expected {len(header)} "
                        "fields; put quotes around a field that holds a comma."
                    )
                rows.append({name: cell and plain(cell) for name, cell in row.items()})
            return rows
    except FileNotFoundError:
        raise ConceptsError(
            f"{path} does not exist. A data set in Broden's layout needs it; rebuild the data set with "
            "'netdissect concepts build' or restore the file."
        ) from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ConceptsError(
            f"{path} cannot be read as a CSV table ({error}). Expected UTF-8 text with the columns "
            f"{','.join(columns)!r}."
        ) from error


def read_concepts(root: Path, categories: Sequence[str]) -> list[Concept]:
    """Read the concepts of these categories, by rising label id, each with its primary category.

    Raises
    ------
    ConceptsError
        If a table is missing or has a value that cannot be read, or no table names a concept.
    """
    synonyms = {
        _number(row["number"], root / "label.csv"): tuple(s.strip() for s in row["syns"].split(";") if s.strip())
        for row in read_table(root / "label.csv", LABEL_COLUMNS)
    }
    best: dict[int, Concept] = {}
    for category in categories:
        path = contained(root, f"c_{category}.csv", root / "category.csv")
        for row in read_table(path, CODE_COLUMNS):
            number, coverage = _label(row["number"], path), _real(row["coverage"], path)
            if number == 0:
                continue
            if number in best and best[number].coverage > coverage:
                continue
            frequency = _number(row["frequency"], path)
            names = synonyms.get(number, ())
            best[number] = Concept(number, row["name"], category, frequency, coverage, names)
    if not best:
        raise ConceptsError(
            f"{root} has no concept in {', '.join(categories) or 'any category'}: every c_*.csv is empty. "
            "Expected at least one labeled concept; rebuild the data set."
        )
    return [best[number] for number in sorted(best)]


def read_index(root: Path, categories: Sequence[str]) -> Iterable[IndexRow]:
    """Yield the rows of ``index.csv`` that have a label in one of these categories.

    Raises
    ------
    ConceptsError
        If the table cannot be read, a size is not positive or too large, or a path leads out of the data set.
    """
    path = root / "index.csv"
    for row in read_table(path, (*INDEX_COLUMNS, *categories)):
        maps: list[str] = []
        whole: list[int] = []
        for category in categories:
            for item in filter(None, (part.strip() for part in row[category].split(";"))):
                number = whole_number(item)
                if number is not None:
                    whole.append(number)
                else:
                    maps.append(check_name(item, root / "images", path))
        labels = tuple(number for number in whole if number)
        if maps or labels:
            size = Size(read_side(row, "sh", path), read_side(row, "sw", path))
            yield IndexRow(check_name(row["image"], root / "images", path), row["split"], size, tuple(maps), labels)


def _number(text: str, path: Path) -> int:
    number = whole_number(text)
    if number is None:
        raise ConceptsError(
            f"{path} holds {text[:80]!r} where a whole number was expected. Restore or rebuild the table."
        )
    return number


def _label(text: str, path: Path) -> int:
    number = _number(text, path)
    if number > LARGEST_LABEL:  # arrays are indexed by label id
        raise ConceptsError(
            f"{path} holds the label id {text.strip()[:80]}. Expected at most {LARGEST_LABEL}, the largest value of a "
            "pixel of a label map; restore or rebuild the table."
        )
    return number


def read_side(row: dict[str, str], column: str, path: Path) -> int:
    """Return a height or width from a row of ``index.csv``, in pixels.

    Raises
    ------
    ConceptsError
        If it is not a positive whole number, or too large.
    """
    number = _number(row[column], path)
    if not 0 < number <= LONGEST_SIDE:  # checked before memory is allocated
        raise ConceptsError(
            f"{path} gives {row['image']} the {column} {row[column].strip()[:80]}. Expected "
            f"from 1 to {LONGEST_SIDE} pixels; restore or rebuild the table."
        )
    return number


def _real(text: str, path: Path) -> float:
    number = real_number(text)
    if number is None:
        raise ConceptsError(f"{path} holds {text[:80]!r} where a number was expected. Restore or rebuild the table.")
    return number
