"""Write the tables of a data set: index.csv, label.csv, category.csv, c_<category>.csv.

Frequency and coverage are defined as in the published tables. In ``c_<category>.csv`` they are the number of images
with the label and its share of pixels, summed over images. ``label.csv`` sums over the categories of a label (an image
with "windowpane" as object and as part counts twice). ``category.csv`` sums over the labels of a category.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from netdissect.concepts.broden_files import CATEGORY_COLUMNS, CODE_COLUMNS, INDEX_COLUMNS, LABEL_COLUMNS
from netdissect.concepts.build.rendered import MapFile, Rendered
from netdissect.concepts.build.vocabulary import LabelCount, Vocabulary, VocabularyEntry
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.csv_cells import escaped

Fields = tuple[str | int, ...]


def write_tables(rendered: Sequence[Rendered], folder: Path, vocabulary: Vocabulary, options: WriteOptions) -> None:
    """Write all tables into `folder`.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    area = options.map_size**2
    _write(folder / "label.csv", LABEL_COLUMNS, (_label_row(entry, area) for entry in vocabulary.entries))
    members = {category: _members(category, vocabulary) for category in vocabulary.categories}
    for category, entries in members.items():
        rows = (_code_row(code, entry, category, area) for code, entry in enumerate(entries, start=1))
        _write(folder / f"c_{category}.csv", CODE_COLUMNS, rows)
    _write(folder / "category.csv", CATEGORY_COLUMNS, (_category_row(*pair) for pair in members.items()))
    header = (*INDEX_COLUMNS, *vocabulary.categories)
    _write(folder / "index.csv", header, _index_rows(rendered, vocabulary, options))


def _members(category: str, vocabulary: Vocabulary) -> list[VocabularyEntry]:
    entries = [entry for entry in vocabulary.entries if category in entry.counts]
    return sorted(entries, key=lambda e: (-e.counts[category].images, -e.counts[category].pixels, e.label_id))


def _label_row(entry: VocabularyEntry, area: int) -> Fields:
    categories = sorted(entry.counts.items(), key=lambda pair: (-pair[1].images, pair[0]))
    named = ";".join(f"{category}({count.images})" for category, count in categories)
    coverage = _coverage(entry.total, area)
    return entry.label_id, entry.name, named, entry.total.images, coverage, ";".join(entry.synonyms)


def _code_row(code: int, entry: VocabularyEntry, category: str, area: int) -> Fields:
    count = entry.counts[category]
    return code, entry.label_id, entry.name, count.images, _coverage(count, area)


def _category_row(category: str, entries: Sequence[VocabularyEntry]) -> Fields:
    numbers = [entry.label_id for entry in entries]
    frequency = sum(entry.counts[category].images for entry in entries)
    return category, min(numbers), max(numbers), len(numbers), frequency


def _index_rows(rendered: Iterable[Rendered], vocabulary: Vocabulary, options: WriteOptions) -> Iterator[Fields]:
    numbers = vocabulary.label_ids()
    sizes = (options.size, options.size, options.map_size, options.map_size)
    for one in rendered:
        cells = (_cell(one.items.get(category, ()), numbers) for category in vocabulary.categories)
        yield one.image, one.split, *sizes, *cells


def _cell(items: Iterable[MapFile | str], numbers: Mapping[str, int]) -> str:
    return ";".join(item.path if isinstance(item, MapFile) else str(numbers[item]) for item in items)


def _coverage(count: LabelCount, area: int) -> str:
    return f"{count.pixels / area:.9f}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Fields]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(escaped, header))
        writer.writerows([escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
