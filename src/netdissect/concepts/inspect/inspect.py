"""Inspect a data set: its content and all its problems.

    root -> inspect_dataset -> Inspection (statistics, problems)

Frequency and coverage are counted from the label maps and compared with the tables.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts.attainable_iou import max_attainable_iou
from netdissect.concepts.broden_files import INDEX_COLUMNS, read_table
from netdissect.concepts.build.parallel import map_in_order
from netdissect.concepts.dataset_folder import dataset_folder
from netdissect.concepts.inspect.contact_sheet import contact_sheet
from netdissect.concepts.inspect.validate import (
    SPLITS,
    DatasetProblem,
    DatasetTables,
    RowFacts,
    TableRow,
    check_row,
    check_tables,
)
from netdissect.config import REPORTED_QUANTILES
from netdissect.progress import ShowProgress, shown

__all__ = [
    "CategoryFacts",
    "ConceptFacts",
    "DatasetProblem",
    "Inspection",
    "contact_sheet",
    "inspect_dataset",
]

COVERAGE_TOLERANCE = 1e-4  # tables are rounded to six decimals; one pixel of 112 x 112 is 8e-5


class CategoryFacts(BaseModel):
    """Statistics of one category."""

    model_config = ConfigDict(frozen=True)

    name: str
    concepts: int = Field(description="Labels of this category in at least one image.")
    images: int = Field(description="Images with any label of this category.")
    splits: dict[str, int] = Field(description="Number of these images in each split.")
    coverage: float = Field(description="Share of pixels with a label of this category, summed over images.")


class ConceptFacts(BaseModel):
    """Frequency and coverage of one label in one category."""

    model_config = ConfigDict(frozen=True)

    label_id: int
    name: str
    category: str
    frequency: int = Field(description="Images with the label.")
    coverage: float = Field(description="Share of pixels with the label, summed over images.")
    share: float = Field(
        description="Share of all pixels with the label: coverage divided by the number of labeled images."
    )
    max_attainable_iou: float = Field(
        description="Largest IoU of the label and a mask of 0.005 of all pixels, under the protocol paper."
    )
    max_attainable_iou_at_0_02: float = Field(
        description="Largest IoU for a mask of 0.02 of all pixels, for small data sets."
    )


class Inspection(BaseModel):
    """Statistics and problems of a data set."""

    model_config = ConfigDict(frozen=True)

    root: str
    images: int = Field(description="Rows of index.csv.")
    labeled: int = Field(description="Images with at least one label; only these take part in a dissection.")
    splits: dict[str, int] = Field(description="Images in each split.")
    sizes: dict[str, int] = Field(description="Number of images of each size, 'HxW, label maps HxW'.")
    turned: int = Field(
        0, description="Images with an EXIF orientation; networks, label maps and reports use them as stored."
    )
    categories: tuple[CategoryFacts, ...] = Field(description="In the order of category.csv.")
    concepts: tuple[ConceptFacts, ...] = Field(description="By category, then falling frequency and coverage.")
    problems: tuple[DatasetProblem, ...]


def inspect_dataset(root: str | Path, *, workers: int | None = None, progress: ShowProgress = None) -> Inspection:
    """Read every table, image and label map below `root`.

    Parameters
    ----------
    root
        Folder in Broden's layout.
    workers
        Processes that read images. None or 1: this process.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called for every image.

    Raises
    ------
    ConceptsError
        If ``index.csv`` cannot be read. All other problems are in `Inspection.problems`.
    """
    root = dataset_folder(root)
    rows = read_table(root / "index.csv", INDEX_COLUMNS)
    tables = check_tables(root, tuple(rows[0]) if rows else None)
    known = {category: frozenset(codes) for category, codes in tables.label_stats.items()}
    facts: list[RowFacts] = []
    with shown(progress) as display:
        for done, one in enumerate(map_in_order(partial(check_row, root=root, known=known), rows, workers), start=1):
            facts.append(one)
            display("images", done, len(rows))
    concepts = _concept_facts(tables, facts)
    problems = [*tables.problems, *_check_index(rows), *(problem for one in facts for problem in one.problems)]
    if not any(one.problems for one in facts):  # otherwise the counts differ for a reason that is already listed
        problems.extend(_disagreements(tables, concepts))
    return Inspection(
        root=str(root),
        images=len(rows),
        labeled=_labeled(facts),
        splits=_splits(rows),
        sizes=dict(Counter(f"{r['ih']}x{r['iw']}, label maps {r['sh']}x{r['sw']}" for r in rows)),
        turned=sum(one.turned for one in facts),
        categories=tuple(_category_facts(category, rows, facts) for category in tables.categories),
        concepts=tuple(concepts),
        problems=tuple(problems),
    )


def _check_index(rows: Sequence[TableRow]) -> Iterable[DatasetProblem]:
    if not rows:
        yield DatasetProblem(file="index.csv", message="has no row. Expected at least one image.")
    for image, times in Counter(row["image"] for row in rows).items():
        if times > 1:
            yield DatasetProblem(file="index.csv", message=f"names the image {image} {times} times. Expected one row.")


def _labeled(facts: Iterable[RowFacts]) -> int:
    return sum(any(one.labeled.values()) for one in facts)


def _splits(rows: Iterable[TableRow]) -> dict[str, int]:
    counts = Counter(row["split"] for row in rows)
    return {split: counts[split] for split in SPLITS}


def _category_facts(category: str, rows: Sequence[TableRow], facts: Sequence[RowFacts]) -> CategoryFacts:
    carrying = [row for row, one in zip(rows, facts, strict=True) if one.labeled.get(category)]
    return CategoryFacts(
        name=category,
        concepts=len({number for one in facts for number in one.coverage.get(category, ())}),
        images=len(carrying),
        splits=_splits(carrying),
        coverage=sum(one.labeled.get(category, 0.0) for one in facts),
    )


def _attainable(tables: DatasetTables, facts: Sequence[RowFacts]) -> dict[int, tuple[float, float]]:
    """Return the largest attainable IoU of each label id for both quantiles, over all its categories."""
    primary: dict[int, str] = {}
    for category in tables.categories:
        for number, (_, coverage) in tables.label_stats[category].items():
            if number not in primary or coverage >= tables.label_stats[primary[number]][number][1]:
                primary[number] = category
    pixels, annotated = Counter[int](), Counter[str]()
    for one in facts:
        pixels.update(one.pixels)
        annotated.update(dict.fromkeys({primary[n] for n in one.pixels if n in primary}, one.area))
    total = sum(one.area for one in facts)
    numbers = list(primary)
    sizes = [pixels[number] for number in numbers], [annotated[primary[number]] for number in numbers]
    found = [max_attainable_iou(sizes[0], sizes[1], total, quantile).tolist() for quantile in REPORTED_QUANTILES]
    return dict(zip(numbers, zip(*found, strict=True), strict=True))


def _concept_facts(tables: DatasetTables, facts: Sequence[RowFacts]) -> list[ConceptFacts]:
    labeled, attainable = max(_labeled(facts), 1), _attainable(tables, facts)
    found: list[ConceptFacts] = []
    for category in tables.categories:
        frequency: Counter[int] = Counter()
        coverage: dict[int, float] = dict.fromkeys(tables.label_stats[category], 0.0)
        for one in facts:
            for number, share in one.coverage.get(category, {}).items():
                frequency[number] += 1
                coverage[number] = coverage.get(number, 0.0) + share
        for number in sorted(coverage, key=lambda n: (-frequency[n], -coverage[n], n)):
            share, reached = coverage[number] / labeled, attainable.get(number, (0.0, 0.0))
            found.append(
                ConceptFacts(
                    label_id=number,
                    name=tables.names.get(number, ""),
                    category=category,
                    frequency=frequency[number],
                    coverage=coverage[number],
                    share=share,
                    max_attainable_iou=reached[0],
                    max_attainable_iou_at_0_02=reached[1],
                )
            )
    return found


def _disagreements(tables: DatasetTables, concepts: Iterable[ConceptFacts]) -> Iterable[DatasetProblem]:
    for concept in concepts:
        frequency, coverage = tables.label_stats[concept.category].get(concept.label_id, (0, 0.0))
        stated_and_counted: Mapping[str, tuple[float, float, float]] = {
            "frequency": (frequency, concept.frequency, 0.0),
            "coverage": (coverage, concept.coverage, COVERAGE_TOLERANCE),
        }
        for what, (stated, counted, tolerance) in stated_and_counted.items():
            if abs(stated - counted) > tolerance:
                yield DatasetProblem(
                    file=f"c_{concept.category}.csv",
                    message=f"says {what} {stated:.9g} of {concept.label_id} ({concept.name}), "
                    f"but by the index and the label maps it is {counted:.9g}.",
                )
