"""What pages show, worked out from results: plain values that a template only has to print.

    LayerTables -> layer_view(), unit_view(), unit_detail()
    runs        -> run_views(), concept_views()

Nothing here writes a file, so that a report on disk and a server show the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netdissect.concepts import Size
from netdissect.config import RULES, SMALL_DATA, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.report import urls
from netdissect.report.label_outlines import concept_outline, read_labels
from netdissect.report.layer_tables import FLOOR, LayerTables, NumberedRun, concept_numbers, known
from netdissect.report.statistics_text import facts_of, layout_of, robustness
from netdissect.result import LayerCount, LayerInfo, RunInfo
from netdissect.result.queries import best_units
from netdissect.result.schema import ATTAINABLE_BESIDE
from netdissect.scoring.metrics import Metric, measured_metrics

CARD_IMAGES = 6
RUNNERS_UP = 4
SOUGHT = 200
"""Units of each layer among which those of a concept are looked for."""


@dataclass(frozen=True)
class Tile:
    """An image with a mask over it.

    Attributes
    ----------
    file
        Its address.
    image
        Its name in the data set.
    mask
        SVG path, in a square of `netdissect.plots.outlines.SIDE`; None: not known.
    value
        What to say of it: the largest activation, or how many pixels.
    """

    file: str
    image: str
    mask: str | None
    value: float | None = None


@dataclass(frozen=True)
class RunnerUp:
    """A concept that a unit also matches."""

    concept: str
    category: str
    iou: float


@dataclass(frozen=True)
class UnitView:
    """One unit, at the run's first quantile.

    Attributes
    ----------
    address
        Its page.
    state
        ``detector``, ``below`` (the IoU does not reach the limit) or ``dead``.
    reason
        Why a silent unit is silent.
    attainable
        Largest IoU that masks of these sizes can reach; 0 without a label.
    sure
        What the run measured of its label: low, high, stability, p_value, ...; may be empty.
    tiles
        Its top images, best first.
    """

    address: str
    unit: int
    label: str | None
    category: str | None
    iou: float
    state: str
    reason: str
    threshold: float
    max_activation: float
    max_attainable_iou: float
    sure: Mapping[str, Any]
    runners: tuple[RunnerUp, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Cell:
    """Detectors and unique detectors of one category by one rule at one quantile, with intervals where known."""

    detectors: int
    unique_detectors: int
    sure: Mapping[str, Any]


@dataclass(frozen=True)
class DetectorCountRow:
    """One category of a layer's table of counts, for each quantile and rule in turn."""

    category: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class LayerView:
    """One layer.

    Attributes
    ----------
    columns
        Quantile and rule of each column of `rows`.
    rows
        A row for each category, then the total.
    limit
        IoU from which on a unit of it is a detector.
    fdr_limit
        The limit by chance; None: not measured.
    facts
        How sure its labels are; see `netdissect.report.statistics_text.facts_of`.
    robust
        Whether its conclusions hold at other quantiles and limits; see `netdissect.report.statistics_text.robustness`.
    layout
        What was not shown of where its cells lie; see `netdissect.report.statistics_text.layout_of`.
    """

    address: str
    run: int
    index: int
    info: LayerInfo
    detectors: int
    dead: int
    unique_detectors: int
    scale: float
    columns: tuple[tuple[float | None, Rule], ...]
    rows: tuple[DetectorCountRow, ...]
    limit: float
    fdr_limit: float | None
    facts: Mapping[str, str]
    robust: tuple[str, ...]
    layout: str

    @property
    def shares(self) -> list[tuple[str, int]]:
        """Unique detectors of each category under the rule top-label at the first quantile."""
        return [(row.category, row.cells[0].unique_detectors) for row in self.rows[:-1]]


@dataclass(frozen=True)
class RunView:
    """One run and its layers."""

    index: int
    name: str
    info: RunInfo
    layers: tuple[LayerView, ...]

    @property
    def limits(self) -> dict[str, float]:
        """IoU from which on a unit of each layer is a detector."""
        return {layer.info.name: layer.limit for layer in self.layers}


@dataclass(frozen=True)
class UnitDetail:
    """What a unit's own page shows beside its `UnitView`.

    Attributes
    ----------
    concepts
        Concepts above `netdissect.report.layer_tables.FLOOR`, best first: the columns of a score, and what is known
        beside.
    metrics
        Those besides IoU that the run measured of its leading concepts: columns of `concepts`.
    others
        Its labels at the run's other quantiles: quantile, label, iou.
    histogram
        low, high and count of its activations; empty: not measured.
    places
        How often it is on at each cell, by row; empty: not measured, or a layer of one cell.
    alarms, misses
        Images where it is on without its concept, and where its concept is without it: most pixels first.
    before, after
        Pages of the units next to it.
    """

    concepts: tuple[Mapping[str, Any], ...]
    metrics: tuple[Metric[Any], ...]
    others: tuple[Mapping[str, Any], ...]
    histogram: tuple[Mapping[str, Any], ...]
    places: tuple[tuple[int, ...], ...]
    alarms: tuple[Tile, ...]
    misses: tuple[Tile, ...]
    before: str | None
    after: str | None


@dataclass(frozen=True)
class FoundUnit:
    """A unit that matches a concept.

    Attributes
    ----------
    labeled
        Whether the concept is the unit's label.
    """

    run: NumberedRun
    index: int
    layer: str
    unit: int
    iou: float
    labeled: bool
    detector: bool

    @property
    def address(self) -> str:
        """The unit's page."""
        return urls.unit(self.run.index, self.index, self.unit)


@dataclass(frozen=True)
class ConceptView:
    """One concept over all layers and runs.

    Attributes
    ----------
    number
        Its number among the concepts of all runs.
    data
        For each run that has it: number, images, coverage and attainable IoU there, ``beside`` (attainable IoU at 0.02
        if the data set is small, else None) and ``run``.
    detectors
        For each layer of each run in turn, how many units detect it.
    best
        Its best units anywhere, detectors or not, best first.
    """

    number: int
    concept: str
    category: str
    data: tuple[Mapping[str, Any], ...]
    detectors: tuple[int, ...]
    best: tuple[FoundUnit, ...]

    @property
    def address(self) -> str:
        """Its page."""
        return urls.concept(self.number)

    @property
    def total(self) -> int:
        """Units over all layers and runs that detect it."""
        return sum(self.detectors)


def run_views(runs: Sequence[NumberedRun]) -> list[RunView]:
    """Work out all runs and the counts of their layers."""
    return [
        RunView(
            run.index,
            run.name,
            run.result.info,
            tuple(layer_view(LayerTables(run, index)) for index in range(len(run.result.layers))),
        )
        for run in runs
    ]


def layer_view(tables: LayerTables) -> LayerView:
    """Work out one layer without its units."""
    run, rows = tables.run, tables.units.values()
    counts: dict[Rule, list[LayerCount]] = {
        rule: [entry for entry in run.result.detectors(rule) if entry.layer == tables.name] for rule in RULES
    }
    entries = [entry for pair in zip(*counts.values(), strict=True) for entry in pair]
    categories = (*run.result.info.data.categories, "total")
    return LayerView(
        address=urls.layer(run.index, tables.index),
        run=run.index,
        index=tables.index,
        info=tables.info,
        detectors=sum(row["detector"] for row in rows),
        dead=sum(row["dead"] for row in rows),
        unique_detectors=entries[0].count.unique_detectors["total"],
        scale=max(0.1, *(row["iou"] for row in rows), 0.1),
        columns=tuple((entry.quantile, entry.count.rule) for entry in entries),
        rows=tuple(
            DetectorCountRow(name, tuple(_cell(entry, name, tables) for entry in entries)) for name in categories
        ),
        limit=tables.min_iou,
        fdr_limit=run.result.info.fdr_limits.get(tables.name),
        facts=facts_of(run.result, tables.name, run.quantile),
        robust=tuple(robustness(run.result, tables.name)),
        layout=layout_of(run.result.info, tables.info),
    )


def _cell(entry: LayerCount, category: str, tables: LayerTables) -> Cell:
    measured = tables.counts.get((entry.quantile or 0.0, entry.count.rule, category))
    return Cell(entry.count.detectors[category], entry.count.unique_detectors[category], known(measured))


def unit_view(tables: LayerTables, unit: int, images: int = CARD_IMAGES) -> UnitView:
    """Work out one unit with so many of its top images."""
    row, run = tables.units[unit], tables.run
    scores = tables.scores.get(unit, [])
    own = next((score for score in scores if score["concept"] == row["label"]), None)
    runners = [score for score in scores if score["concept"] != row["label"]][:RUNNERS_UP]
    state = "dead" if row["dead"] else "detector" if row["detector"] else "below"
    return UnitView(
        **{name: row[name] for name in ("unit", "label", "category", "iou", "threshold", "max_activation")},
        address=urls.unit(run.index, tables.index, unit),
        state=state,
        reason=_why_silent(tables, row["max_activation"]) if row["dead"] else "",
        max_attainable_iou=own["max_attainable_iou"] if own else 0.0,
        sure=known(tables.sure.get(unit)),
        runners=tuple(RunnerUp(score["concept"], score["category"], score["iou"]) for score in runners),
        tiles=() if row["dead"] else _tiles(tables, unit, images),
    )


def unit_detail(tables: LayerTables, unit: int) -> UnitDetail:
    """Work out what a unit's own page shows beside `unit_view`."""
    run, index = tables.run.index, tables.index
    scores = _scores(tables, unit)
    return UnitDetail(
        concepts=tuple(scores),
        metrics=measured_metrics(scores),
        others=tuple(tables.others.get(unit, ())),
        histogram=tuple(tables.histograms.get(unit, ())),
        places=_places(tables, unit),
        alarms=_alarms(tables, unit),
        misses=_misses(tables, unit),
        before=urls.unit(run, index, unit - 1) if unit - 1 in tables.units else None,
        after=urls.unit(run, index, unit + 1) if unit + 1 in tables.units else None,
    )


def concept_views(runs: Sequence[NumberedRun], listed: int = 24) -> list[ConceptView]:
    """Work out the concepts of all runs, each with its best units: those with most detectors first, then by IoU.

    Parameters
    ----------
    runs
        All runs.
    listed
        How many of a concept's units are listed; detectors all are.
    """
    numbers = concept_numbers(runs)
    places = [LayerTables(run, index) for run in runs for index in range(len(run.result.layers))]
    detectors: dict[str, list[int]] = {name: [0] * len(places) for name in numbers}
    found: dict[str, list[FoundUnit]] = {name: [] for name in numbers}
    for place, tables in enumerate(places):
        for concept, unit, iou in best_units(tables.run.result, tables.name, tables.run.quantile, SOUGHT).rows():
            row = tables.units[unit]
            labeled = row["label"] == concept
            hit = labeled and row["detector"]
            found[concept].append(FoundUnit(tables.run, tables.index, tables.name, unit, iou, labeled, hit))
        for row in tables.units.values():
            if row["detector"]:
                detectors[row["label"]][place] += 1
    data: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        small = run.result.info.data.images < SMALL_DATA
        for row in run.result.concepts.iter_rows(named=True):
            beside = row[ATTAINABLE_BESIDE] if small else None
            data.setdefault(row["concept"], []).append(row | {"run": run, "beside": beside})
    views = [
        ConceptView(
            number, name, data[name][0]["category"], tuple(data[name]), tuple(detectors[name]),
            tuple(_listed(found[name], listed)),
        )
        for name, number in numbers.items()
    ]  # fmt: skip
    return sorted(views, key=lambda view: (-view.total, -(view.best[0].iou if view.best else 0), view.concept))


def _listed(found: list[FoundUnit], count: int) -> list[FoundUnit]:
    """Order the units of a concept, best first, and keep the first ones and every detector."""
    ordered = sorted(found, key=lambda each: -each.iou)
    return [each for place, each in enumerate(ordered) if place < count or each.detector]


def legend(runs: Sequence[NumberedRun]) -> dict[str, str]:
    """Return the color of each category of all runs."""
    return category_colors(list(dict.fromkeys(name for run in runs for name in run.result.info.data.categories)))


def _tiles(tables: LayerTables, unit: int, count: int) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            urls.image(tables.run.data, row["image_index"]),
            row["image"],
            _outline(tables, unit, row),
            row["max_activation"],
        )
        for row in tables.top.get(unit, [])[:count]
    )


def _scores(tables: LayerTables, unit: int) -> list[dict[str, Any]]:
    label = tables.units[unit]["label"]
    scores = [score for score in tables.scores.get(unit, []) if score["iou"] >= FLOOR or score["concept"] == label]
    return [score | known(tables.sure_scores.get((unit, score["concept"]))) for score in scores]


def _places(tables: LayerTables, unit: int) -> tuple[tuple[int, ...], ...]:
    height, width = tables.info.height, tables.info.width
    cells = tables.places.get(unit)
    if not cells or height * width == 1:
        return ()
    counts = [[0] * width for _ in range(height)]
    for cell in cells:
        counts[cell["y"]][cell["x"]] = cell["count"]
    return tuple(map(tuple, counts))


def _alarms(tables: LayerTables, unit: int) -> tuple[Tile, ...]:
    """Show false alarms; the mask is known where the image is among the unit's top images."""
    data = tables.run.dataset
    rows = tables.alarms.get(unit, ()) if data is not None else ()
    known = {row["image_index"]: row for row in tables.top.get(unit, ())}
    masks = [_outline(tables, unit, known[row["image_index"]]) if row["image_index"] in known else None for row in rows]
    return tuple(_tile_of(tables.run, row, mask) for row, mask in zip(rows, masks, strict=True))


def _misses(tables: LayerTables, unit: int) -> tuple[Tile, ...]:
    """Show misses, the concept outlined."""
    data, tiles = tables.run.dataset, []
    if data is not None:
        for row in tables.misses.get(unit, ()):
            labels = read_labels(data, row["image_index"])
            mask = None if labels is None else concept_outline(labels, row["label_id"])
            tiles.append(_tile_of(tables.run, row, mask))
    return tuple(tiles)


def _tile_of(run: NumberedRun, row: Mapping[str, Any], mask: str | None) -> Tile:
    name = run.dataset.rows[row["image_index"]].image if run.dataset is not None else ""
    return Tile(urls.image(run.data, row["image_index"]), name, mask, row["pixels"])


def _outline(tables: LayerTables, unit: int, top: Mapping[str, Any]) -> str:
    """Outline a unit's mask on one of its top images."""
    cells, labels = tables.layer.top_maps[unit, top["rank"]], Size(top["label_height"], top["label_width"])
    return tables.masks.outline(cells, tables.units[unit]["threshold"], labels)


def _why_silent(tables: LayerTables, maximum: float) -> str:
    """Explain a unit without activations above its threshold."""
    allowed = tables.run.quantile * tables.run.result.info.data.images * tables.info.height * tables.info.width
    if maximum <= 0:
        return "It never rises above zero on these images, so it is never on: a dead unit is no detector."
    if allowed < 1:
        return "There are too few activations for any to lie above a threshold at this quantile: it is no detector."
    return (
        "Too many of its activations equal its maximum (it is constant or saturated), so none lies above its "
        "threshold and it is never on: no detector."
    )
