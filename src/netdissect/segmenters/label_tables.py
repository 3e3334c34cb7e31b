"""Names of the classes of a segmenter, and words to search for: from files, or from the model.

    labels file or names of the model -> ClassLabels (labels, and the label id of each class) -> keep_words

A file is a text with a name on each line, or CSV with the column ``name`` and optionally ``value`` (index of the class,
from 0) and ``category``. An empty name means unlabeled.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.close_matches import did_you_mean
from netdissect.concepts import Labels, Size
from netdissect.concepts.build.synonyms import named_apart, split_names
from netdissect.concepts.build.write_options import CATEGORY_SPELLING
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.readers import read_table, read_text
from netdissect.errors import SegmenterError
from netdissect.segmenters.segmenter import LabelMaps, SegmentLabel

UNLABELED_NAMES = frozenset(
    {"", "-", "n/a", "background", "__background__", "unlabeled", "unlabelled", "void", "ignore"}
)
"""Names with which models say that a class is no concept. A file of labels says it with an empty name."""

LARGEST_CLASS = 65_534
"""Label ids, from 1, are written as R + 256 * G."""

EXPECTED = "UTF-8 text with a name on each line, or CSV with the column name and optionally value and category"


@dataclass(frozen=True)
class NamedLabel:
    """A row of a file of labels or words; the category is None if the file has none."""

    name: str
    category: str | None = None


@dataclass(frozen=True)
class ClassLabels:
    """The labels of a segmenter, and the label of each of its classes.

    Attributes
    ----------
    labels
        Label id i is that of ``labels[i - 1]``.
    ids
        Label id of each class of the network; 0: unlabeled.
    """

    labels: tuple[SegmentLabel, ...]
    ids: tuple[int, ...]

    @classmethod
    def of_classes(cls, spec: str, classes: Sequence[SegmentLabel | None]) -> "ClassLabels":
        """Give numbers to the labels of classes; classes of one name and category have one label.

        Raises
        ------
        SegmenterError
            If no class has a label.
        """
        number: dict[SegmentLabel, int] = {}
        ids = tuple(0 if label is None else number.setdefault(label, len(number) + 1) for label in classes)
        if not number:
            raise SegmenterError(
                f"the segmenter {spec!r} names none of its {len(classes)} classes. Expected a name for each concept: "
                "--labels FILE (labels=FILE) with a name on each line, in the order of the classes."
            )
        return cls(tuple(number), ids)

    def label_maps(self, classes: npt.NDArray[np.integer], size: Size) -> LabelMaps:
        """Return the label maps int32 (B, L, h, w) of the classes of pixels, (B, L, H, W), at a size."""
        ids = np.array(self.ids, np.int32)[classes]
        return np.stack([Labels(maps, np.empty(0, np.int32)).resized(size).label_channels for maps in ids])

    def keep_words(self, spec: str, words: Path | None) -> "ClassLabels":
        """Return only the labels that a file of words lists; a category in the file replaces that of the label.

        Raises
        ------
        SegmenterError
            If a word is no label, or the file cannot be read.
        """
        if words is None:
            return self
        known = {
            name: label for label in reversed(self.labels) for name in reversed(split_names(label.name, ""))
        }  # the first label of a name wins
        kept: dict[SegmentLabel, SegmentLabel] = {}
        for word in read_words(words):
            label = known.get(split_names(word.name, "")[0])
            if label is None:
                raise SegmenterError(
                    f"{words} lists the word {word.name!r}, but the segmenter {spec!r} has a fixed list of "
                    f"{len(self.labels)} labels and this is none of them.{did_you_mean(word.name.lower(), known)} "
                    "Correct or remove the word; only a text-prompted model takes any word."
                )
            kept[label] = SegmentLabel(label.name, word.category or label.category)
        classes = [None if i == 0 else kept.get(self.labels[i - 1]) for i in self.ids]
        return ClassLabels.of_classes(spec, classes)


def class_labels(spec: str, own: Mapping[int, str] | None, count: int, file: Path | None) -> ClassLabels:
    """Return the labels of the classes of a network.

    Parameters
    ----------
    spec
        The segmenter, for messages.
    own
        Names of its classes by index, as the model states them; None: it states none.
    count
        Number of classes.
    file
        File of labels, which replaces the names of the model; None: there is none.

    Raises
    ------
    SegmenterError
        If there are no names, the file cannot be read, or it names a class that does not exist.
    """
    if file is not None:
        rows = read_labels(file)
        if max(rows, default=-1) >= count:
            raise SegmenterError(
                f"{file} names the class {max(rows)}, but the segmenter {spec!r} has the {count} classes 0 to "
                f"{count - 1}. Expected at most a name for each class, the first of which has the index 0."
            )
        own = named_apart({index: row.name for index, row in rows.items()})
        category = {index: row.category or "object" for index, row in rows.items()}
        return ClassLabels.of_classes(
            spec, [SegmentLabel(own[i], category[i]) if own.get(i) else None for i in range(count)]
        )
    if own is None or all(name in UNLABELED_NAMES or name == f"LABEL_{index}" for index, name in own.items()):
        raise SegmenterError(
            f"the segmenter {spec!r} does not say what its {count} classes are. Expected a file with their names: "
            "--labels FILE (labels=FILE), a name on each line, in the order of the classes; an empty line for a class "
            "that is no concept."
        )
    # Models list synonyms after commas ("signboard, sign").
    names = named_apart({index: name.replace(", ", ";") for index, name in own.items()})
    placeholders = {index for index, name in own.items() if name.lower() in UNLABELED_NAMES or name == f"LABEL_{index}"}
    return ClassLabels.of_classes(
        spec, [SegmentLabel(names[i]) if i in names and i not in placeholders else None for i in range(count)]
    )


def read_labels(path: Path) -> dict[int, NamedLabel]:
    """Read the names of classes, by the index of the class.

    Raises
    ------
    SegmenterError
        If a value or a category cannot be, or a class is named twice.
    SourceError
        If the file cannot be read.
    """
    found: dict[int, NamedLabel] = {}
    for number, row in enumerate(_rows(path)):
        value = number if row.get("value") is None else whole_number(row["value"] or "")
        if value is None or value > LARGEST_CLASS:
            raise SegmenterError(
                f"{path} gives {row['name']!r} the value {row['value']!r}. Expected the index of its class, a whole "
                f"number from 0 to {LARGEST_CLASS}."
            )
        if value in found:
            raise SegmenterError(f"{path} names the class {value} twice. Expected one name a class; remove a row.")
        found[value] = _named(row, path)
    return found


def read_words(path: Path) -> list[NamedLabel]:
    """Read words, each once; blank lines are skipped.

    Raises
    ------
    SegmenterError
        If there is no word.
    SourceError
        If the file cannot be read.
    """
    words: dict[str, NamedLabel] = {}
    for row in _rows(path):
        if row["name"].strip(" ;"):
            words.setdefault(row["name"].casefold(), _named(row, path))
    if not words:
        raise SegmenterError(f"{path} holds no word. Expected {EXPECTED}.")
    return list(words.values())


def _named(row: Mapping[str, str], path: Path) -> NamedLabel:
    category = row.get("category") or None
    if category is not None and not CATEGORY_SPELLING.fullmatch(category):
        raise SegmenterError(
            f"{path} gives {row['name']!r} the category {category!r}. Expected lower-case letters, digits and "
            "underscores, e.g. object, part or material."
        )
    return NamedLabel(row["name"], category)


def _rows(path: Path) -> Iterable[dict[str, str]]:
    lines = read_text(path, EXPECTED).splitlines()
    header = re.split(r"[,;\t]", lines[0].lower()) if lines else []
    if "name" in (cell.strip() for cell in header):
        for row in read_table(path, ("name",), EXPECTED):
            yield {column: cell.strip() for column, cell in row.items()}
    else:
        yield from ({"name": line.strip()} for line in lines)
