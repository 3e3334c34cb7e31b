"""What the report's page shows, worked out from a result: plain values that a template only has to print."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from netdissect.config import RULES, Rule
from netdissect.result import LayerCount, LayerInfo, Result
from netdissect.show.findings import best_scores, best_units, detected_concepts, layer_units, run_min_iou
from netdissect.show.palette import category_colors

RUNNERS_UP = 4
LISTED_UNITS = 8


@dataclass(frozen=True)
class Runner:
    """A concept that a unit also matches."""

    concept: str
    category: str
    iou: float


@dataclass(frozen=True)
class OtherLevel:
    """A unit's label at another of the run's quantiles."""

    quantile: float
    label: str | None
    iou: float


@dataclass(frozen=True)
class UnitView:
    """One unit, at the run's first quantile.

    Attributes
    ----------
    anchor
        Its place on the page.
    state
        ``detector``, ``below`` (the IoU does not reach the limit) or ``silent``.
    reason
        Why a silent unit is silent.
    numbers
        Its best concept's row of scores: iou, attainable, intersection, activation, truth; None without a label.
    images
        Names of its top images that are shown, best first.
    picture
        Address of their sheet, relative to the page; None without one.
    """

    anchor: str
    unit: int
    label: str | None
    category: str | None
    iou: float
    state: str
    reason: str
    threshold: float
    maximum: float
    numbers: dict[str, Any] | None
    runners: tuple[Runner, ...]
    others: tuple[OtherLevel, ...]
    images: tuple[str, ...]
    picture: str | None = None
    size: tuple[int, int] = (0, 0)

    def with_picture(self, picture: str, size: tuple[int, int]) -> "UnitView":
        """Return the same unit with a sheet of its top images, `size` being its width and height."""
        return replace(self, picture=picture, size=size)


@dataclass(frozen=True)
class CountRow:
    """Detectors and unique detectors of one category, for each quantile and rule in turn."""

    category: str
    pairs: tuple[tuple[int, int], ...]


@dataclass
class LayerView:
    """One layer."""

    index: int
    info: LayerInfo
    units: list[UnitView]
    columns: list[tuple[float | None, str]]
    rows: list[CountRow]
    unique: int
    charts: dict[str, str] = field(default_factory=dict)

    @property
    def detectors(self) -> int:
        """Units that detect a concept at the first quantile."""
        return sum(unit.state == "detector" for unit in self.units)

    @property
    def silent(self) -> int:
        """Units that are never on at the first quantile."""
        return sum(unit.state == "silent" for unit in self.units)

    @property
    def scale(self) -> float:
        """IoU at the right end of the units' meters."""
        return max(0.1, *(unit.iou for unit in self.units), 0.1)


@dataclass(frozen=True)
class ConceptView:
    """One concept over all layers.

    Attributes
    ----------
    found
        For each layer, its detectors: pairs of anchor and unit, best first.
    best
        The best unit anywhere, whether a detector or not: anchor, layer, unit, IoU; None if no unit meets the concept.
    """

    concept: str
    category: str
    images: int
    coverage: float
    attainable: float
    found: tuple[tuple[tuple[str, int], ...], ...]
    best: tuple[str, str, int, float] | None

    @property
    def detectors(self) -> int:
        """Units over all layers that detect it."""
        return sum(map(len, self.found))


def layer_view(result: Result, index: int, shown_images: int) -> LayerView:
    """Work out one layer, `shown_images` top images of each unit."""
    name = list(result.layers)[index]
    quantile, *later = result.info.config.protocol.quantiles
    level = run_min_iou(result)
    maxima = _maxima(result, name, quantile)
    scores = _by_unit(best_scores(result, name, quantile, RUNNERS_UP + 1))
    images = _by_unit(result.layers[name].top.filter(pl.col("rank") < shown_images).sort("unit", "rank"))
    others = _others(result, name, later)
    info = result.layers[name].info
    allowed = quantile * result.info.data.images * info.height * info.width
    units = [
        _unit_view(
            row | {"maximum": maxima[row["unit"]], "anchor": anchor(index, row["unit"]), "allowed": allowed},
            scores.get(row["unit"], []),
            tuple(entry["image"] for entry in images.get(row["unit"], [])),
            others.get(row["unit"], ()),
        )
        for row in layer_units(result, name, quantile, level).iter_rows(named=True)
    ]
    counts: dict[Rule, list[LayerCount]] = {
        rule: [entry for entry in result.detectors(rule) if entry.layer == name] for rule in RULES
    }
    columns, rows = _count_rows(counts, result.info.data.categories)
    unique = counts["top-label"][0].count.unique["total"]
    return LayerView(index, info, units, columns, rows, unique)


def concept_views(result: Result) -> list[ConceptView]:
    """Work out the concepts: those with most detectors first, then by best IoU."""
    quantile, level = result.info.config.protocol.quantiles[0], run_min_iou(result)
    found = [
        {row["concept"]: row["units"] for row in detected_concepts(result, name, quantile, level).to_dicts()}
        for name in result.layers
    ]
    best: dict[str, tuple[str, str, int, float]] = {}
    for index, name in enumerate(result.layers):
        for concept, unit, iou in best_units(result, name, quantile).rows():
            if concept not in best or iou > best[concept][3]:
                best[concept] = (anchor(index, unit), name, unit, iou)
    views = [
        ConceptView(
            **{key: row[key] for key in ("concept", "category", "images", "coverage", "attainable")},
            found=tuple(
                tuple((anchor(index, unit), unit) for unit in units.get(row["concept"], ()))
                for index, units in enumerate(found)
            ),
            best=best.get(row["concept"]),
        )
        for row in result.concepts.iter_rows(named=True)
    ]
    return sorted(views, key=lambda view: (-view.detectors, -(view.best[3] if view.best else 0), view.concept))


def anchor(layer: int, unit: int) -> str:
    """Return a unit's place on the page."""
    return f"u{layer}-{unit}"


def legend(result: Result) -> dict[str, str]:
    """Return the color of each category."""
    return category_colors(result.info.data.categories)


def _unit_view(
    row: dict[str, Any], scores: list[dict[str, Any]], images: tuple[str, ...], others: tuple[OtherLevel, ...]
) -> UnitView:
    own = next((entry for entry in scores if entry["concept"] == row["label"]), None)
    runners = [entry for entry in scores if entry["concept"] != row["label"]][:RUNNERS_UP]
    state = "silent" if row["silent"] else "detector" if row["detector"] else "below"
    return UnitView(
        **{key: row[key] for key in ("anchor", "unit", "label", "category", "iou", "threshold", "maximum")},
        state=state,
        reason=_why_silent(row["maximum"], row["allowed"]) if row["silent"] else "",
        numbers=own,
        runners=tuple(Runner(entry["concept"], entry["category"], entry["iou"]) for entry in runners),
        others=others,
        images=() if row["silent"] else images,
    )


def _why_silent(maximum: float, allowed: float) -> str:
    """Explain a unit without activations above its threshold, of which it may have `allowed`."""
    if maximum <= 0:
        return "It never rises above zero on these pictures, so it is never on: a dead unit is no detector."
    if allowed < 1:
        return "There are too few activations for any to lie above a threshold at this quantile: it is no detector."
    return (
        "Too many of its activations equal its maximum (it is constant or saturated), so none lies above its "
        "threshold and it is never on: no detector."
    )


def _maxima(result: Result, layer: str, quantile: float) -> dict[int, float]:
    thresholds = result.layers[layer].thresholds.filter(pl.col("quantile") == quantile)
    return dict(thresholds.select("unit", "maximum").rows())


def _by_unit(frame: pl.DataFrame) -> dict[int, list[dict[str, Any]]]:
    parts: dict[int, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        parts.setdefault(row["unit"], []).append(row)
    return parts


def _others(result: Result, layer: str, quantiles: Sequence[float]) -> dict[int, tuple[OtherLevel, ...]]:
    rows = result.layers[layer].units.select("quantile", "unit", "label", "iou").rows()
    levels: dict[int, tuple[OtherLevel, ...]] = {}
    for level in quantiles:
        for quantile, unit, label, iou in rows:
            if quantile == level:
                levels[unit] = (*levels.get(unit, ()), OtherLevel(quantile, label, iou))
    return levels


def _count_rows(
    counts: dict[Rule, list[LayerCount]], categories: Sequence[str]
) -> tuple[list[tuple[float | None, str]], list[CountRow]]:
    """Return the columns (quantile and rule) and the rows of a layer's table of counts."""
    quantiles = [entry.quantile for entry in counts["top-label"]]
    entries = [
        entry for quantile in quantiles for rule in RULES for entry in counts[rule] if entry.quantile == quantile
    ]
    rows = [
        CountRow(name, tuple((entry.count.detectors[name], entry.count.unique[name]) for entry in entries))
        for name in (*categories, "total")
    ]
    return [(entry.quantile, entry.count.rule) for entry in entries], rows
