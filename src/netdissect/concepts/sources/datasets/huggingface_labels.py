"""Names of the values in a column of a Hugging Face data set, for masks and for labels of whole images."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netdissect.concepts.build.sample import Channel
from netdissect.concepts.build.synonyms import keep_apart, named_apart
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.class_tables import ClassTable, read_class_table
from netdissect.concepts.sources.list_columns import check_cells, parse_separator, split_cell
from netdissect.concepts.sources.readers import read_table, read_text
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

ID_TO_LABEL = "id2label.json"
UNLABELED = frozenset(
    {"", "-", "background", "ignore", "n/a", "none", "other", "others", "unknown", "unlabeled", "unlabelled", "void"}
)
"""Names of the value 0 that mean unlabeled."""
TRUTH = {True: ("1", "true", "True"), False: ("0", "false", "False")}


def shift_of(spec: SourceSpec) -> int:
    """Return the number that is added to a value before its name is looked up; 0 if it is not given.

    Raises
    ------
    SourceError
        If it is not a whole number.
    """
    text = spec.options.get("shift", "0").strip()
    if not text.lstrip("+-").isdecimal() or len(text) > 6:
        raise SourceError(
            f"the source {spec.text!r} says shift={text}. Expected a whole number that is added to a value before its "
            "name is looked up: -1 if the value 1 means the name 0."
        )
    return int(text)


def mask_table(features: Mapping[str, Any], mask: str, spec: SourceSpec) -> ClassTable:
    """Return the names of the values of the masks in a column.

    Raises
    ------
    SourceError
        If there are no names, a file of names is wrong, or the names of a model count from 0, so that the values of
        the masks are ambiguous.
    """
    given = spec.options.get("names")
    default_file = spec.folder / ID_TO_LABEL
    path = (
        Path(given)
        if given and given not in features
        else default_file
        if not given and default_file.is_file()
        else None
    )
    if path is None:
        table = ClassTable(names_of_feature(features[given or mask]), origin=f"the column {given or mask}")
    elif path.suffix.lower() in (".csv", ".txt"):
        table = read_class_table(path)
    else:
        table = ClassTable(_read_id_to_label(path), origin=str(path))
        _ask_for_shift(table, spec)
    if not table.names:
        raise SourceError(
            f"the source {spec.text!r} does not say what the values of its masks mean. Expected a file of names: "
            'add ?names=FILE, JSON such as {"1": "wall"} or CSV with value,name.'
        )
    shift, ignore = shift_of(spec), spec.options.get("ignore")
    names = {value - shift: name for value, name in table.names.items() if value >= shift}
    if ignore:
        names[whole_number(ignore) or 0] = ""
    colors = {color: value - shift for color, value in table.colors.items()}
    return ClassTable(names, colors, table.has_values, table.origin)


def check_values(channel: Channel, spec: SourceSpec) -> Channel:
    """Return the channel of a mask.

    Raises
    ------
    SourceError
        If it holds a value that is one beyond names that count from 0: masks then often count from 1.
    """
    beyond = max(channel.names) + 1
    ignored = spec.options.get("ignore")
    if ignored:
        beyond = max((value for value in channel.names if str(value) != ignored), default=0) + 1
    if channel.names.get(0) and beyond not in channel.names and (channel.values == beyond).any():
        raise SourceError(
            f"{channel.origin} holds the value {beyond}, but names stand for 0 ({channel.names[0]!r}) to {beyond - 1}. "
            "Expected a name for each value: add ?shift=-1 if the masks count from 1 (0 is unlabeled), "
            f"or ?ignore={beyond} if that value is unlabeled."
        )
    return channel


def _ask_for_shift(table: ClassTable, spec: SourceSpec) -> None:
    """Refuse id2label of a model that begins with a class: its masks may count from 1 (reduce_labels)."""
    first = table.names.get(0, "")
    if first.strip().lower() in UNLABELED or "shift" in spec.options or whole_number(spec.options.get("ignore", "0")):
        return
    raise SourceError(
        f"{table.origin} calls 0 {first!r}. In masks that models train on with reduced labels (do_reduce_labels, as "
        f"ADE20K's) 0 is unlabeled and 1 is {first!r}, so every name would be one off. Say which: ?shift=-1 if 0 is "
        f"unlabeled and 1 is {first!r}, ?shift=0 if 0 is {first!r}."
    )


@dataclass(frozen=True)
class LabelNames:
    """Names of the labels in a column of whole images.

    Attributes
    ----------
    column
        Name of the column; it is the label of a boolean column without names.
    names
        Name of each label, by the label as text; None if the labels are names.
    spec
        Specification of the source.
    """

    column: str
    names: Mapping[str, str] | None
    spec: SourceSpec

    @classmethod
    def of(cls, table: Any, column: str, spec: SourceSpec) -> "LabelNames":
        """Find the names of a column, and check them against all of its labels if they are single values.

        Raises
        ------
        SourceError
            If labels are numbers without names, lack a name, or look like several labels in a cell.
        """
        names = _label_names(table.features, column, spec)
        ignore = spec.options.get("ignore")
        found = cls(column, names if ignore is None or names is None else {**names, ignore: ""}, spec)
        if type(table.features[column]).__name__ not in ("Value", "ClassLabel"):
            found.check_lists(table.data.column(column).chunks)
            return found
        distinct = [one for one in table.unique(column) if one is not None]
        if names is not None or not all(isinstance(one, str) for one in distinct):
            for one in distinct:
                found.read(one, f"{spec.text}, column {column}")
            return found
        separator = parse_separator(spec)
        check_cells(distinct, separator, f"the column {column}", spec)
        labels = {label for one in distinct for label in split_cell(one, separator)}
        return cls(column, keep_apart(labels) if any(";" in label for label in labels) else None, spec)

    def check_lists(self, chunks: Iterable[Any]) -> None:
        """Refuse lists of two classes that all hold 0 and 1: classes that all images have, or one place a class.

        Raises
        ------
        SourceError
            If they do. Of more than two classes such lists hold a number twice, which `read` refuses.
        """
        if self.names is None or set(self.names) != {"0", "1"}:
            return
        cells = (cell for chunk in chunks for cell in chunk.to_pylist())
        if all(cell in ([0, 1], [1, 0]) and not isinstance(cell[0], bool) for cell in cells):
            raise SourceError(
                f"every list in the column {self.column} of {self.spec.text} holds 0 and 1, as if each place were a "
                "class and 1 meant that it is there. Expected a list of classes, or of booleans; convert the column."
            )

    def read(self, cell: Any, origin: str) -> tuple[str, ...]:
        """Name the labels in a cell: a class, a word, a boolean, or a list of them; negative numbers are none.

        Raises
        ------
        SourceError
            If a label has no name, or the cell is of another kind; `origin` names it.
        """
        cells = cell if isinstance(cell, list) else [cell]
        if isinstance(cell, list) and cells and all(isinstance(one, bool) for one in cells):
            cells = [index for index, holds in enumerate(cells) if holds]
        elif len(set(map(str, cells))) < len(cells) and not any(isinstance(one, str) for one in cells):
            raise SourceError(
                f"{origin} holds {str(cell)[:80]}, in which labels stand twice, as if each place were a class and 1 "
                "meant that it is there. Expected a list of classes, or of booleans; convert the column."
            )
        return tuple(name for one in cells for name in self._names_of(one, origin))

    def _names_of(self, one: Any, origin: str) -> tuple[str, ...]:
        if one is None or (isinstance(one, float) and math.isnan(one)):
            return ()
        if isinstance(one, bool) and self.names is None:
            return (self.column,) if one else ()
        if isinstance(one, bool):
            return (self._find(TRUTH[one], one, origin),)
        if isinstance(one, float) and one.is_integer():
            one = int(one)
        if isinstance(one, int):
            return () if one < 0 else (self._find((str(one + shift_of(self.spec)),), one, origin),)
        if not isinstance(one, str):
            raise SourceError(
                f"{origin} holds {str(one)[:80]!r} ({type(one).__name__}). Expected classes, words, whole numbers or "
                "booleans; name another column."
            )
        parts = split_cell(one, parse_separator(self.spec))
        return tuple(self._find((part,), part, origin) for part in parts) if self.names is not None else parts

    def _find(self, keys: tuple[str, ...], one: Any, origin: str) -> str:
        for key in keys:
            if self.names is not None and key in self.names:
                return self.names[key]
        if self.names is None:
            raise SourceError(
                f"{origin} holds the label {one!r}, and nothing says what it means. Expected a file of names: add "
                '?names=FILE, JSON such as {"1": "wall"} or CSV with value,name.'
            )
        raise SourceError(
            f"{origin} holds the label {one!r}, which has no name. Expected only named labels: add it to the names"
            f"{self._shifted(one)}, or give it an empty name if it is unlabeled."
        )

    def _shifted(self, one: Any) -> str:
        """Name the shift that would give a number a name, if it is one beyond the names."""
        numbers = [number for number in map(whole_number, self.names or ()) if number is not None]
        if not isinstance(one, int) or not numbers:
            return ""
        shift = shift_of(self.spec)
        step = {max(numbers) + 1: -1, min(numbers) - 1: 1}.get(one + shift)
        return f", say ?shift={shift + step} if labels and names differ by one" if step else ""


def names_of_feature(feature: Any) -> dict[int, str]:
    """Return the names of the class labels in a feature, however deep they lie."""
    while not hasattr(feature, "names"):
        inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else None)
        if inner is None:
            return {}
        feature = inner
    return named_apart({value: str(name) for value, name in enumerate(feature.names)})


def _label_names(features: Mapping[str, Any], column: str, spec: SourceSpec) -> dict[str, str] | None:
    given = spec.options.get("names")
    if given and given not in features:
        path = Path(given)
        if path.suffix.lower() != ".csv":
            return _read_names(path)
        rows = read_table(path, ("value", "name"), "a table of labels and their names")
        return named_apart({row["value"].strip(): row["name"].strip() for row in rows})
    own = names_of_feature(features[given or column])
    default_file = spec.folder / ID_TO_LABEL
    if not own and str(getattr(features[column], "dtype", "")).startswith(("int", "uint")) and default_file.is_file():
        return _read_names(default_file)
    return {str(value): name for value, name in own.items()} or None


def _read_names(path: Path) -> dict[str, str]:
    what = 'names of classes, e.g. {"1": "wall"}'
    try:
        content = json.loads(read_text(path, what))
        if isinstance(content, dict) and isinstance(content.get("id2label"), dict):
            content = content["id2label"]  # config.json of a model
        pairs = enumerate(content) if isinstance(content, list) else content.items()
        return named_apart({str(value): str(name or "").strip() for value, name in pairs})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{path} is not in the form of id2label ({error}). Expected {what}; correct the file."
        ) from error


def _read_id_to_label(path: Path) -> dict[int, str]:
    try:
        return {int(value): name for value, name in _read_names(path).items()}
    except ValueError as error:
        raise SourceError(
            f"{path} is not in the form of id2label ({error}). Expected names of whole numbers, e.g. "
            '{"1": "wall"}; correct the file.'
        ) from error
