"""Views of runs, layers and concepts: plain values that a template prints.

    LayerTables -> layer_view()
    runs        -> run_views(), concept_views(), difference_views()

Nothing here writes a file, so that a report on disk and a server show the same. Views of units are in `unit_views`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from netdissect.config import RULES, SMALL_DATA, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.report import urls
from netdissect.report.layer_tables import LayerTables, NumberedRun, concept_indices, known
from netdissect.report.statistics_text import layer_facts, layout_text, robustness
from netdissect.report.views.basis_views import BasisTable, basis_table
from netdissect.report.views.unit_scores import SCORES, score_column
from netdissect.result import LayerCount, LayerInfo, RunInfo, count_difference, difference_sentence
from netdissect.result.queries import bar_end, best_units
from netdissect.result.schema import SMALL_DATA_ATTAINABLE
from netdissect.result.summary import LayerFindings, findings_of_layer, headline, leading, null_note
from netdissect.scoring import count_detectors

COUNT_KEYS = ("quantile", "rule", "category")
CANDIDATE_UNITS = 200
"""Units of each layer among which the best units of a concept are searched."""


@dataclass(frozen=True)
class CategoryCount:
    """Detectors and unique detectors of one category by one rule at one quantile, with intervals where measured."""

    detectors: int
    unique_detectors: int
    statistics: Mapping[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """Counts with their intervals and nulls, for the copy menu."""
        own = {"detectors": self.detectors, "unique_detectors": self.unique_detectors}
        return own | {name: value for name, value in self.statistics.items() if name not in COUNT_KEYS}


@dataclass(frozen=True)
class DetectorCountRow:
    """One category of a layer's table of counts, for each quantile and rule in turn."""

    category: str
    counts: tuple[CategoryCount, ...]


@dataclass(frozen=True)
class LayerView:
    """One layer.

    Attributes
    ----------
    findings
        Its unique detectors with interval and null, in the words of the terminal, and its best units.
    pages
        Number of its units that have a page.
    bar_end
        IoU at which the bars of its units end.
    columns
        Quantile and rule of each column of `rows`.
    rows
        A row for each category, then the total.
    min_iou
        A unit with at least this IoU is a detector.
    at_own_limit
        Whether this is the run's limit: `findings`, `facts` and `robustness` are of that one.
    fdr_limit
        Lowest IoU at which the false discovery rate under the permutation null is at most 5 %; 1: none; None: not
        measured.
    facts
        Statistics of its labels; see `netdissect.report.statistics_text.layer_facts`.
    robustness
        Whether its conclusions hold at other quantiles and limits; see
        `netdissect.report.statistics_text.robustness`.
    layout
        Result of the layout check; see `netdissect.report.statistics_text.layout_text`.
    bases
        Metrics of the layer and of its bases; None: not measured.
    scores
        Keys of `SCORES` that some of its units have: by these a page sorts them.
    """

    url: str
    run: int
    index: int
    info: LayerInfo
    detectors: int
    dead: int
    unique_detectors: int
    findings: LayerFindings
    pages: int
    bar_end: float
    columns: tuple[tuple[float | None, Rule], ...]
    rows: tuple[DetectorCountRow, ...]
    min_iou: float
    at_own_limit: bool
    fdr_limit: float | None
    facts: Mapping[str, str]
    robustness: tuple[str, ...]
    layout: str
    bases: BasisTable | None
    scores: tuple[str, ...]

    @property
    def unique_by_category(self) -> list[tuple[str, int]]:
        """Unique detectors of each category under the rule top-label at the first quantile."""
        return [(row.category, row.counts[0].unique_detectors) for row in self.rows[:-1]]


@dataclass(frozen=True)
class RunView:
    """One run and its layers.

    Attributes
    ----------
    headline
        Network, images and definition of a detector, as in the terminal.
    null_note
        How the permutation null, or q-values, would be measured; empty: they are.
    """

    index: int
    name: str
    info: RunInfo
    layers: tuple[LayerView, ...]
    headline: str
    null_note: str

    @property
    def lead(self) -> str:
        """The count of the layer with most unique detectors, in words; empty: no layers."""
        return "".join(each.sentence for each in leading([layer.findings for layer in self.layers], 1))

    @property
    def limits(self) -> dict[str, float]:
        """Minimum IoU of a detector in each layer."""
        return {layer.info.name: layer.min_iou for layer in self.layers}


@dataclass(frozen=True)
class DifferenceView:
    """The difference of the unique detectors of one layer between the first run and another one, in words."""

    layer: str
    left: str
    right: str
    sentence: str


@dataclass(frozen=True)
class MatchingUnit:
    """A unit that matches a concept.

    Attributes
    ----------
    min_iou
        A unit of its layer with at least this IoU is a detector.
    label
        The unit's label: the concept, or another.
    """

    run: NumberedRun
    index: int
    layer: str
    unit: int
    iou: float
    min_iou: float
    label: str | None
    detector: bool

    @property
    def url(self) -> str | None:
        """The unit's page; None: it has none."""
        return self.run.unit_url(self.index, self.unit)


@dataclass(frozen=True)
class ConceptView:
    """One concept over all layers and runs.

    Attributes
    ----------
    index
        Its position among the concepts of all runs.
    data
        For each run that has it: label_id, images, pixel_share, max_attainable_iou, ``small_data_attainable``
        (attainable IoU at the quantile 0.02 if the data set is small, else None) and ``run``.
    detectors
        For each layer of each run in turn, how many units detect it.
    total
        Units over all layers and runs that detect it; those of a layer that is the same as an earlier one count once.
    best
        Its best units anywhere, detectors or not, best first.
    """

    index: int
    concept: str
    category: str
    data: tuple[Mapping[str, Any], ...]
    detectors: tuple[int, ...]
    total: int
    best: tuple[MatchingUnit, ...]

    @property
    def url(self) -> str:
        """Its page."""
        return urls.concept(self.index)


def run_views(runs: Sequence[NumberedRun]) -> list[RunView]:
    """Return the views of all runs, with the counts of their layers."""
    return [
        RunView(
            run.index,
            run.name,
            run.result.info,
            tuple(layer_view(LayerTables(run, index)) for index in range(len(run.result.layers))),
            headline(run.result),
            null_note(run.result),
        )
        for run in runs
    ]


def difference_views(runs: Sequence[NumberedRun]) -> list[DifferenceView]:
    """Compare the layers that the first run shares with each other one, if the limits of a detector agree.

    Counts are those of the rule top-label at the first quantile of the first run; see `PairedDifference`.
    """
    first, *others = runs
    quantile = first.quantile
    return [
        DifferenceView(
            name, first.name, run.name,
            difference_sentence(
                count_difference(first.result, run.result, (name, name), quantile=quantile, rule="top-label")
            ),
        )
        for run in others
        if quantile in run.result.info.config.protocol.quantiles
        for name in first.result.layers
        if name in run.result.layers and first.result.info.min_iou(name) == run.result.info.min_iou(name)
    ]  # fmt: skip


def layer_view(tables: LayerTables) -> LayerView:
    """Return the view of one layer without its units."""
    run = tables.run
    entries = [entry for pair in zip(*(_counts(tables, rule) for rule in RULES), strict=True) for entry in pair]
    own = next(entry.count for entry in entries if entry.quantile == tables.quantile)
    categories = (*run.result.info.data.categories, "total")
    return LayerView(
        url=urls.layer(run.index, tables.index),
        run=run.index,
        index=tables.index,
        info=tables.info,
        detectors=own.detectors["total"],
        dead=int(tables.layer.units.filter(pl.col("quantile") == tables.quantile)["dead"].sum()),
        unique_detectors=own.unique_detectors["total"],
        findings=findings_of_layer(run.result, tables.name, tables.quantile),
        pages=len(tables.units_with_page),
        bar_end=bar_end(run.result, tables.name, tables.quantile, tables.min_iou),
        columns=tuple((entry.quantile, entry.count.rule) for entry in entries),
        rows=tuple(
            DetectorCountRow(name, tuple(_category_count(entry, name, tables) for entry in entries))
            for name in categories
        ),
        min_iou=tables.min_iou,
        at_own_limit=tables.at_own_limit,
        fdr_limit=run.result.info.fdr_limits.get(tables.name),
        facts=layer_facts(run.result, tables.name, tables.quantile),
        robustness=tuple(robustness(run.result, tables.name)),
        layout=layout_text(run.result.info, tables.info),
        bases=basis_table(tables),
        scores=tuple(name for name in SCORES if score_column(run, tables.name, name) is not None),
    )


def _counts(tables: LayerTables, rule: Rule) -> list[LayerCount]:
    """Count the detectors of a layer at each quantile of the run."""
    result, name = tables.run.result, tables.name
    return [
        LayerCount(name, quantile, count_detectors(result.unit_labels(name, quantile), rule, tables.min_iou))
        for quantile in result.info.config.protocol.quantiles
    ]


def _category_count(entry: LayerCount, category: str, tables: LayerTables) -> CategoryCount:
    statistics = tables.count_statistics.get((entry.quantile or 0.0, entry.count.rule, category))
    return CategoryCount(entry.count.detectors[category], entry.count.unique_detectors[category], known(statistics))


def concept_views(runs: Sequence[NumberedRun], listed: int = 24) -> list[ConceptView]:
    """Return the views of all concepts, each with its best units: most detectors first, then by IoU.

    Parameters
    ----------
    runs
        All runs.
    listed
        How many of a concept's units are listed; detectors all are.
    """
    indices = concept_indices(runs)
    layers = [LayerTables(run, index) for run in runs for index in range(len(run.result.layers))]
    detectors: dict[str, list[int]] = {name: [0] * len(layers) for name in indices}
    matching: dict[str, list[MatchingUnit]] = {name: [] for name in indices}
    repeated = [tables.name in tables.run.result.same_as for tables in layers]
    for layer_index, tables in enumerate(layers):
        for name, unit in _matching_units(tables) if not repeated[layer_index] else ():
            matching[name].append(unit)
        for name, count in tables.labels.filter("detector")["label"].value_counts().rows():
            detectors[name][layer_index] = count
    data = _concept_data(runs)
    views = [
        ConceptView(
            index, name, data[name][0]["category"], tuple(data[name]), tuple(detectors[name]),
            sum(count for count, again in zip(detectors[name], repeated, strict=True) if not again),
            tuple(_listed(matching[name], listed)),
        )
        for name, index in indices.items()
    ]  # fmt: skip
    return sorted(views, key=lambda view: (-view.total, -(view.best[0].iou if view.best else 0), view.concept))


def _matching_units(tables: LayerTables) -> Iterator[tuple[str, MatchingUnit]]:
    """Yield the best units of one layer for each concept."""
    best = best_units(tables.run.result, tables.name, tables.run.quantile, CANDIDATE_UNITS)
    detector = pl.col("label").eq_missing(pl.col("concept")) & pl.col("detector")
    rows = best.join(tables.labels.drop("iou"), on="unit", maintain_order="left").select(
        "concept", "unit", "iou", pl.col("label").cast(pl.String), detector.alias("detector")
    )
    for concept, unit, iou, label, detects_it in rows.rows():
        yield concept, MatchingUnit(tables.run, tables.index, tables.name, unit, iou, tables.min_iou, label, detects_it)


def _concept_data(runs: Sequence[NumberedRun]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each concept in the tables of concepts of all runs."""
    data: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        small = run.result.info.data.images < SMALL_DATA
        for row in run.result.concepts.iter_rows(named=True):
            attainable = row[SMALL_DATA_ATTAINABLE] if small else None
            data.setdefault(row["concept"], []).append(row | {"run": run, "small_data_attainable": attainable})
    return data


def _listed(units: list[MatchingUnit], count: int) -> list[MatchingUnit]:
    """Sort the units of a concept, best first, and keep the first `count` and every detector."""
    ordered = sorted(units, key=lambda unit: -unit.iou)
    return [unit for rank, unit in enumerate(ordered) if rank < count or unit.detector]


def legend(runs: Sequence[NumberedRun]) -> dict[str, str]:
    """Return the color of each category of all runs."""
    return category_colors(list(dict.fromkeys(name for run in runs for name in run.result.info.data.categories)))
