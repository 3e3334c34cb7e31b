"""Read a concept data set in the published Broden layout.

    index.csv, label.csv, category.csv, c_<category>.csv, images/ -> ConceptData -> labels(row)

The files are read as they were published, with their quirks: a cell of ``index.csv`` holds label
numbers (labels of the whole image), paths of label maps, or both; several maps are several channels;
a literal 0 is no label; label = R + 256 * G.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.concepts.content_digests import ContentDigests
from netdissect.concepts.csv_numbers import real_number, whole_number
from netdissect.concepts.image_io import GRAY_STEPS, UNREADABLE, open_image
from netdissect.concepts.labels import Concept, Labels, Size
from netdissect.config import Progress, Split, one_or_more
from netdissect.csv_cells import plain
from netdissect.errors import ConceptsError, ConfigError
from netdissect.paths import check_name, check_regular, contained

LARGEST_LABEL = 2**16 - 1
"""R + 256 * G at most."""
LONGEST_SIDE = 2**16
"""Pixels of a label map's side at most."""
INDEX_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")
LABEL_COLUMNS = ("number", "name", "category", "frequency", "coverage", "syns")
CATEGORY_COLUMNS = ("name", "first", "last", "count", "frequency")
CODE_COLUMNS = ("code", "number", "name", "frequency", "coverage")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image that takes part.

    Attributes
    ----------
    image
        Path below ``images/``.
    split
        ``train`` or ``val``.
    size
        Pixels of the label maps.
    label_maps
        Paths of the label maps below ``images/``, one a channel, in column order.
    image_level
        Label numbers of the whole image.
    """

    image: str
    split: str
    size: Size
    label_maps: tuple[str, ...]
    image_level: tuple[int, ...]


class Subset(NamedTuple):
    """Which part of a data set was opened: what `ConceptData.open` takes, and what repeats it.

    Attributes
    ----------
    categories, split
        None: all.
    max_images
        How many images were drawn; None: all were taken.
    sample_seed
        Seed of the draw.
    """

    categories: tuple[str, ...] | None = None
    split: Split | None = None
    max_images: int | None = None
    sample_seed: int = 0

    def narrowed(self, further: "Subset") -> "Subset":
        """Restrict this part further, to what opening the data set with both would give.

        Raises
        ------
        ConfigError
            If the two contradict each other. Images that were drawn already cannot be drawn from a split, from some
            categories or in another number afterwards.
        """
        drawn = self.max_images is not None
        own, requested = (None if names is None else set(names) for names in (self.categories, further.categories))
        outside = requested is not None and own is not None and not requested <= own
        contradictions = {
            "categories": requested is not None and (requested != own if drawn else outside),
            "split": further.split is not None and further.split != self.split and (drawn or self.split is not None),
            "max_images": drawn and further.max_images not in (None, self.max_images),
            "sample_seed": drawn
            and further.sample_seed != self.sample_seed
            and (further.max_images is not None or further.sample_seed != 0),
        }
        for name, contradicts in contradictions.items():
            if contradicts:
                raise ConfigError(
                    f"the configuration asks for {name}={getattr(further, name)!r}, but the data set was opened with "
                    f"{', '.join(f'{key}={value!r}' for key, value in self._asdict().items())}. Leave {name} out of "
                    "the configuration, or open the whole data set and leave the choice to it."
                )
        draw = self if drawn else further
        return Subset(
            further.categories or self.categories, further.split or self.split, draw.max_images, draw.sample_seed
        )


@dataclass(frozen=True)
class ConceptData:
    """Images and their concepts, opened for reading.

    Attributes
    ----------
    root
        The folder that holds ``index.csv``.
    categories
        The chosen categories, in the order of ``category.csv``.
    concepts
        The concepts of the chosen categories, by rising number.
    rows
        The images that carry a label in a chosen category, in index order.
    subset
        What was opened; None: rows, categories or concepts were chosen by hand, which nothing can repeat.
    cache
        Folder that remembers what the files hold, so that they are read once for `digest`. None: nothing does.
    """

    root: Path
    categories: tuple[str, ...]
    concepts: tuple[Concept, ...]
    rows: tuple[IndexRow, ...]
    cache: Path | None = field(default=None, compare=False, repr=False)
    # A copy with other rows is made without it: see `dataclasses.replace`.
    subset: Subset | None = field(default=None, init=False, compare=False)

    @classmethod
    def open(
        cls,
        root: str | Path,
        *,
        categories: Sequence[str] | None = None,
        split: Split | None = None,
        max_images: int | None = None,
        sample_seed: int = 0,
        cache: Path | None = None,
    ) -> Self:
        """Open the data set below `root`.

        Parameters
        ----------
        root
            Folder in Broden's layout.
        categories
            Read only these columns; primary categories are taken among them. None: all.
        split
            Take only this split. None: both, as the paper does.
        max_images
            Draw this many of the images, in index order.
        sample_seed
            Seed of the draw.
        cache
            Folder that remembers what the files hold, so that they are read once for `digest`.

        Raises
        ------
        ConceptsError
            If a table is missing or contradicts itself, a category is unknown, or no image is left.
        """
        root = Path(root)
        if not (root / "index.csv").is_file():
            raise ConceptsError(
                f"{root} is no concept data set: it holds no index.csv. Expected a folder in Broden's layout "
                "(index.csv, label.csv, category.csv, c_*.csv, images/); 'netdissect concepts build' writes one."
            )
        known = [row["name"] for row in read_table(root / "category.csv", CATEGORY_COLUMNS)]
        chosen = _choose(known, categories, root)
        concepts = _read_concepts(root, chosen)
        rows = [row for row in _read_index(root, chosen) if split is None or row.split == split]
        if not rows:
            raise ConceptsError(
                f"{root / 'index.csv'} has no image with a label in {', '.join(chosen)}"
                + (f" in the split {split!r}" if split else "")
                + ". Choose other categories or splits, or run 'netdissect concepts inspect' on the folder."
            )
        max_images = max_images if max_images is not None and max_images < len(rows) else None
        if max_images is not None:
            drawn = np.random.default_rng(sample_seed).choice(len(rows), size=max_images, replace=False)
            rows = [rows[i] for i in np.sort(drawn)]
        data = cls(root, tuple(chosen), tuple(concepts), tuple(rows), cache)
        named = None if categories is None else one_or_more(categories)
        object.__setattr__(data, "subset", Subset(named, split, max_images, sample_seed))
        return data

    def __len__(self) -> int:
        """Count the images that take part."""
        return len(self.rows)

    @cached_property
    def by_label_id(self) -> dict[int, Concept]:
        """Concepts by label number."""
        return {concept.label_id: concept for concept in self.concepts}

    @cached_property
    def category_of(self) -> npt.NDArray[np.int64]:
        """Index of each label number's primary category, int64 (largest number + 1,); -1 where no concept is."""
        numbers = np.full(self.concepts[-1].label_id + 1, -1, dtype=np.int64)
        for concept in self.concepts:
            numbers[concept.label_id] = self.categories.index(concept.category)
        return numbers

    @cached_property
    def _foreign(self) -> npt.NDArray[np.bool_]:
        """Whether no concept has a label number, which may be 0; the last entry stands for all that are larger."""
        foreign = np.append(self.category_of < 0, True)
        foreign[0] = False
        return foreign

    @property
    def digest(self) -> str:
        """SHA-256 over concepts, the choice of rows, and what their files hold now; see `find_digest`."""
        return self.find_digest()

    def find_digest(self, progress: Progress | None = None, *, anew: bool = False) -> str:
        """Return `digest`: files that nobody touched since they were last read for it are not read again.

        Parameters
        ----------
        progress
            Called with the number of files read and in all, if reading them takes seconds.
        anew
            Read every file, whatever is remembered.
        """
        contents = self._contents.read(progress) if anew else self._contents.digest(progress)
        return hashlib.sha256(f"{self._tables} {contents}".encode()).hexdigest()

    def stamp(self) -> str:
        """Return a digest of the sizes and times of all files as they are now: another one, and one was written."""
        return self._contents.stamp()

    @cached_property
    def _tables(self) -> str:
        """SHA-256 over what was read of the tables."""
        digest = hashlib.sha256(repr(self.categories).encode())
        for concept in self.concepts:
            digest.update(repr(astuple(concept)).encode())
        for row in self.rows:
            digest.update(repr((row.image, row.split, tuple(row.size), row.label_maps, row.image_level)).encode())
        return digest.hexdigest()

    @cached_property
    def _contents(self) -> ContentDigests:
        return ContentDigests(
            self.root / "images", [name for row in self.rows for name in (row.image, *row.label_maps)], self.cache
        )

    def image_path(self, row: int) -> Path:
        """Return the file of one image.

        Raises
        ------
        ConceptsError
            If a link leads to it outside of the data set.
        """
        return contained(self.root / "images", self.rows[row].image, self.root / "index.csv")

    def labels(self, row: int) -> Labels:
        """Read the labels of one image.

        Returns
        -------
        Labels
            Occurrences as they stand on disk; `Labels.once` makes sets of them.

        Raises
        ------
        ConceptsError
            If a label map is missing, unreadable, of another size than the index says, or holds a number
            that no table of a chosen category names.
        """
        entry = self.rows[row]
        planes = np.zeros((len(entry.label_maps), *entry.size), dtype=np.int32)
        for plane, name in zip(planes, entry.label_maps, strict=True):
            path = contained(self.root / "images", name, self.root / "index.csv")
            plane[:] = read_label_map(path, entry.size)
            self._check_numbers(plane, path)
        # A number too large for any table stays one when it is cut to the largest that fits.
        whole = np.array([min(number, np.iinfo(np.int32).max) for number in entry.image_level], dtype=np.int32)
        self._check_numbers(whole, self.root / "index.csv")
        return Labels(planes, whole)

    def _check_numbers(self, numbers: npt.NDArray[np.int32], path: Path) -> None:
        # A look into a table for each pixel: sorting a label map takes as long as decoding it.
        # Without a sign a negative number is a large one.
        foreign = self._foreign.take(numbers.view(np.uint32), mode="clip")
        if foreign.any():
            raise ConceptsError(
                f"{path} holds label number {numbers[foreign].min()}, which no c_*.csv of the chosen categories "
                f"({', '.join(self.categories)}) names. Expected 0 (unlabeled) or a number from those tables; "
                "run 'netdissect concepts inspect' to list every such file."
            )


@contextmanager
def named_in_index(path: Path, kind: str, expected: str) -> Iterator[None]:
    """Say what to do about a file that ``index.csv`` names and Pillow cannot read.

    Parameters
    ----------
    path
        The file.
    kind, expected
        What it was read as, and what such a file looks like.

    Raises
    ------
    ConceptsError
        In place of what Pillow raises.
    """
    try:
        yield
    except FileNotFoundError:
        raise ConceptsError(
            f"{path} is named in index.csv but does not exist. Restore the file or rebuild the data set."
        ) from None
    except UNREADABLE as error:
        raise ConceptsError(
            f"{path} cannot be read as {kind} ({error}). Expected {expected}; restore the file or rebuild the data set."
        ) from error


def read_label_map(path: Path, size: Size) -> npt.NDArray[np.int32]:
    """Read one label map: label = R + 256 * G, int32 (sh, sw); an indexed or gray PNG holds R alone.

    Raises
    ------
    ConceptsError
        If the file is missing, unreadable or not of `size`.
    """
    expected = "a whole PNG whose pixels are label numbers (R + 256 * G)"
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


def _choose(known: Sequence[str], requested: Sequence[str] | None, root: Path) -> list[str]:
    if requested is None:
        return list(known)
    chosen = one_or_more(requested)
    for name in chosen:
        if name not in known:
            raise ConceptsError(
                f"{root} has no category {name!r}; it has {', '.join(known)}. Name one or more of these."
            )
    return [name for name in known if name in chosen]


def _read_concepts(root: Path, categories: Sequence[str]) -> list[Concept]:
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
            f"{root} names no concept in {', '.join(categories) or 'any category'}: every c_*.csv is empty. "
            "Expected at least one labeled concept; rebuild the data set."
        )
    return [best[number] for number in sorted(best)]


def _read_index(root: Path, categories: Sequence[str]) -> Iterable[IndexRow]:
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
    if number > LARGEST_LABEL:  # tables by label number are made for it
        raise ConceptsError(
            f"{path} holds the label number {text.strip()[:80]}. Expected at most {LARGEST_LABEL}, what a pixel of a "
            "label map can hold; restore or rebuild the table."
        )
    return number


def read_side(row: dict[str, str], column: str, path: Path) -> int:
    """Return a height or width that a row of ``index.csv`` gives, in pixels.

    Raises
    ------
    ConceptsError
        If it is none.
    """
    number = _number(row[column], path)
    if not 0 < number <= LONGEST_SIDE:  # before memory is taken for it
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
