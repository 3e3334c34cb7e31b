"""Views of one unit: plain values that a template prints.

    LayerTables -> unit_view(), unit_detail()

Nothing here writes a file, so that a report on disk and a server show the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netdissect.concepts.machine_masks import MaskNote
from netdissect.plots.overlap import REGION_COLORS
from netdissect.report import urls
from netdissect.report.layer_tables import MIN_LISTED_IOU, LayerTables, known
from netdissect.report.views.masked_images import (
    CARD_IMAGES,
    MaskedImage,
    error_images,
    first_image,
    top_images,
    unit_image,
)
from netdissect.report.views.unit_scores import all_scores, score_parts
from netdissect.scoring.metrics import Metric, measured_metrics
from netdissect.scoring.number_text import iou_text

RUNNERS_UP = 4
TOP_BAND, RANDOM_BAND = "top", "at random"
"""Titles of a unit's images over its range that are at no percentile."""
RANGE_TOP_IMAGES = 4


@dataclass(frozen=True)
class RunnerUp:
    """A concept that a unit also matches."""

    concept: str
    category: str
    iou: float


@dataclass(frozen=True)
class UnitView:
    """One unit, at one of the run's quantiles.

    Attributes
    ----------
    url
        Of its page.
    state
        ``detector``, ``below`` (the IoU does not reach the limit) or ``dead``.
    reason
        Why a dead unit is dead.
    min_iou
        A unit of its layer with at least this IoU is a detector.
    max_attainable_iou
        Largest IoU that masks of these sizes can reach; 0 without a label.
    statistics
        Measured values of its label: iou_ci_low, iou_ci_high, stability, p_value, ...; may be empty.
    runners_up
        The next best concepts.
    top_images
        Those on which it is active, sorted by maximum activation.
    active_images
        Number of images on which it is active, where there are fewer than the run keeps; None: more.
    mask
        Where the masks of its label are from; None: from people, or computed.
    basis_scores
        Its scores in the newest evaluation of bases: active_share, concept, average_precision, ...; may be empty.
    iqr
        Threshold and label of its highest information quality ratio: a row of the table ``iqr``; may be empty.
    """

    url: str
    unit: int
    label: str | None
    category: str | None
    iou: float
    state: str
    reason: str
    min_iou: float
    threshold: float
    max_activation: float
    max_attainable_iou: float
    statistics: Mapping[str, Any]
    runners_up: tuple[RunnerUp, ...]
    top_images: tuple[MaskedImage, ...]
    active_images: int | None = None
    mask: MaskNote | None = None
    basis_scores: Mapping[str, Any] = field(default_factory=dict)
    iqr: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> Mapping[str, Any]:
        """Its scores by which pages sort units."""
        return all_scores(self.basis_scores, self.iqr)

    @property
    def overlap(self) -> Mapping[str, int]:
        """Pixels of the regions of `REGION_COLORS` in its top images; empty: not known."""
        known = [image.pixels for image in self.top_images if image.pixels]
        return {name: sum(pixels[name] for pixels in known) for name in REGION_COLORS} if known else {}


@dataclass(frozen=True)
class RangeBand:
    """Images at one percentile of the maximum activations of a unit; title: the percentile, or how they were drawn."""

    title: str
    images: tuple[MaskedImage, ...]


@dataclass(frozen=True)
class SimilarUnitView:
    """A unit that responds to the same images as another one.

    Attributes
    ----------
    layer, unit
        Where it is.
    url
        Of its page; None: it has none.
    label, category, state
        As in `UnitView`.
    correlation
        Of their maximum activations over images.
    image
        Its first top image; None: it has none.
    """

    layer: str
    unit: int
    url: str | None
    label: str | None
    category: str | None
    state: str
    correlation: float
    image: MaskedImage | None


@dataclass(frozen=True)
class UnitDetail:
    """What a unit's own page shows in addition to its `UnitView`.

    Attributes
    ----------
    concepts
        Concepts with an IoU of at least `netdissect.report.layer_tables.MIN_LISTED_IOU`, best first: the columns of a
        score and its statistics.
    linear_terms
        The concepts of its linear explanation, in the order in which they were chosen: rows of the table
        ``linear_explanations``; empty: not measured, or the unit is constant.
    other_quantiles
        Its labels at the run's other quantiles: quantile, label, iou.
    histogram
        bin_low, bin_high and count of its activations; empty: not measured.
    firing_map
        How often it is active at each cell, by y and x; empty: not measured, or a layer of one cell.
    false_positives, false_negatives
        Images where it is active without its concept, and where its concept is without it: most pixels first.
    activation_range
        Images over its whole range with their scored masks, the top ones first; empty: not kept, or the unit is dead.
    similar_units
        Units of its layer that respond to the same images, best first, then those of other layers; empty: not kept,
        or the unit is dead or has the same maximum on all images.
    similar_images
        Number of images over which units of the layer are compared.
    overlap
        Pixels of the regions of `REGION_COLORS` in all images of the run; empty: no concept.
    previous_unit, next_unit
        Units next to it that have a page; None: it is the first or the last.
    """

    concepts: tuple[Mapping[str, Any], ...]
    linear_terms: tuple[Mapping[str, Any], ...]
    other_quantiles: tuple[Mapping[str, Any], ...]
    histogram: tuple[Mapping[str, Any], ...]
    firing_map: tuple[tuple[int, ...], ...]
    false_positives: tuple[MaskedImage, ...]
    false_negatives: tuple[MaskedImage, ...]
    activation_range: tuple[RangeBand, ...]
    similar_units: tuple[SimilarUnitView, ...]
    similar_images: int
    overlap: Mapping[str, int]
    previous_unit: int | None
    next_unit: int | None

    @property
    def metrics(self) -> tuple[Metric[Any], ...]:
        """Extra metrics that the run measured for its leading concepts: columns of `concepts`."""
        return measured_metrics(self.concepts)


@dataclass(frozen=True)
class UnitRows:
    """All units of a layer as columns, for a list: the highest IoU first.

    Attributes
    ----------
    labels, categories
        Each label of a unit, and its category.
    unit
        Its number.
    label
        Position of its label in `labels`; -1: no concept.
    iou
        Its IoU, as it is written.
    state
        As in `UnitView`.
    page
        1: it has a page; 0: not.
    scores
        Its scores by which pages sort units, as they are written, by their short names; empty: not measured.
    """

    labels: tuple[str, ...]
    categories: tuple[str, ...]
    unit: tuple[int, ...]
    label: tuple[int, ...]
    iou: tuple[str, ...]
    state: tuple[str, ...]
    page: tuple[int, ...]
    scores: Mapping[str, tuple[str, ...]]


def unit_rows(tables: LayerTables) -> UnitRows:
    """Return all units of a layer, also those that are not chosen."""
    frame = tables.labels.sort("iou", "unit", descending=[True, False])
    named = dict(frame.select("label", "category").drop_nulls().unique(maintain_order=True).iter_rows())
    positions = {name: position for position, name in enumerate(named)}
    return UnitRows(
        labels=tuple(named),
        categories=tuple(named.values()),
        unit=tuple(frame["unit"]),
        label=tuple(positions.get(name, -1) for name in frame["label"]),
        iou=tuple(iou_text(iou, tables.min_iou) for iou in frame["iou"]),
        state=tuple(_state(*row) for row in frame.select("dead", "detector").iter_rows()),
        page=tuple(int(unit in tables.units_with_page) for unit in frame["unit"]),
        scores=_written_scores(tables, frame["unit"].to_list()),
    )


def _written_scores(tables: LayerTables, units: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return the scores of units by their short names, each as text or empty."""
    every = LayerTables(tables.run, tables.index)  # also of units that are not chosen
    scores = (all_scores(every.basis_scores.get(unit, {}), every.iqr.get(unit, {})) for unit in units)
    parts = [{part.name: part.text for part in score_parts(of_unit)} for of_unit in scores]
    names = dict.fromkeys(name for of_unit in parts for name in of_unit)
    return {name: tuple(of_unit.get(name, "") for of_unit in parts) for name in names}


def _state(dead: bool, detector: bool) -> str:
    return "dead" if dead else "detector" if detector else "below"


def unit_view(tables: LayerTables, unit: int, images: int = CARD_IMAGES) -> UnitView:
    """Return the view of one unit with at most `images` of its top images."""
    row, run = tables.units[unit], tables.run
    masks = run.result.info.data.masks
    scores = tables.scores.get(unit, [])
    own = next((score for score in scores if score["concept"] == row["label"]), None)
    others = [score for score in scores if score["concept"] != row["label"]][:RUNNERS_UP]
    return UnitView(
        **{name: row[name] for name in ("unit", "label", "category", "iou", "threshold", "max_activation")},
        url=urls.unit(run.index, tables.index, unit),
        state=_state(row["dead"], row["detector"]),
        reason=_why_dead(tables, row["max_activation"]) if row["dead"] else "",
        min_iou=tables.min_iou,
        max_attainable_iou=own["max_attainable_iou"] if own else 0.0,
        statistics=known(tables.unit_statistics.get(unit)),
        runners_up=tuple(RunnerUp(score["concept"], score["category"], score["iou"]) for score in others),
        top_images=() if row["dead"] else top_images(tables, unit, images),
        active_images=None if row["dead"] else tables.active_images(unit),
        mask=None if masks is None else masks.note(row["label"], row["category"]),
        basis_scores=tables.basis_scores.get(unit, {}),
        iqr=tables.iqr.get(unit, {}),
    )


def unit_detail(tables: LayerTables, unit: int) -> UnitDetail:
    """Return what a unit's own page shows in addition to `unit_view`."""
    previous_unit, next_unit = tables.units_with_page.neighbors(unit)
    return UnitDetail(
        concepts=tuple(_scores(tables, unit)),
        linear_terms=tuple(tables.linear_terms.get(unit, ())),
        other_quantiles=tuple(tables.other_quantiles.get(unit, ())),
        histogram=tuple(tables.histograms.get(unit, ())),
        firing_map=_firing_map(tables, unit),
        false_positives=error_images(tables, unit, "false positive"),
        false_negatives=error_images(tables, unit, "false negative"),
        activation_range=_activation_range(tables, unit),
        similar_units=(similar := _similar_units(tables, unit)),
        similar_images=tables.run.co_activation.images(tables.name) if similar else 0,
        overlap=_overlap(tables, unit),
        previous_unit=previous_unit,
        next_unit=next_unit,
    )


def _activation_range(tables: LayerTables, unit: int) -> tuple[RangeBand, ...]:
    rows = tables.range_images.get(unit)
    if not rows or tables.units[unit]["dead"]:
        return ()
    bands: dict[str, list[MaskedImage]] = {}
    threshold = float(tables.scored_thresholds[unit])  # of lower ones not all cells are kept
    for row in rows:
        title = RANDOM_BAND if row["percentile"] is None else f"{row['percentile']:g} %"
        bands.setdefault(title, []).append(unit_image(tables, row, row["map"], threshold))
    bands = {TOP_BAND: list(top_images(tables, unit, RANGE_TOP_IMAGES))} | bands
    return tuple(RangeBand(title, tuple(images)) for title, images in bands.items())


def _similar_units(tables: LayerTables, unit: int) -> tuple[SimilarUnitView, ...]:
    run = tables.run
    if not run.co_activation.is_known(tables.name):
        return ()
    found = []
    for similar in run.co_activation.nearest(tables.name, unit):
        other = run.complete_layers[similar.layer]
        row = other.labels.row(similar.unit, named=True)
        found.append(
            SimilarUnitView(
                layer=similar.layer,
                unit=similar.unit,
                url=urls.unit(run.index, other.index, similar.unit) if similar.unit in other.units_with_page else None,
                label=row["label"],
                category=row["category"],
                state=_state(row["dead"], row["detector"]),
                correlation=similar.correlation,
                image=first_image(other, similar.unit),
            )
        )
    return tuple(found)


def _scores(tables: LayerTables, unit: int) -> list[dict[str, Any]]:
    label = tables.units[unit]["label"]
    return [
        score | known(tables.score_statistics.get((unit, score["concept"])))
        for score in tables.scores.get(unit, [])
        if score["iou"] >= MIN_LISTED_IOU or score["concept"] == label
    ]


def _overlap(tables: LayerTables, unit: int) -> dict[str, int]:
    """Return the pixels of the regions of a unit and its label over all images."""
    label = tables.units[unit]["label"]
    for score in tables.scores.get(unit, []):
        if score["concept"] == label:
            both = score["intersection"]
            return {
                "overlap": both,
                "unit only": score["mask_pixels"] - both,
                "concept only": score["concept_pixels"] - both,
            }
    return {}


def _firing_map(tables: LayerTables, unit: int) -> tuple[tuple[int, ...], ...]:
    height, width = tables.info.height, tables.info.width
    cells = tables.firing_maps.get(unit)
    if not cells or height * width == 1:
        return ()
    counts = [[0] * width for _ in range(height)]
    for cell in cells:
        counts[cell["y"]][cell["x"]] = cell["count"]
    return tuple(map(tuple, counts))


def _why_dead(tables: LayerTables, maximum: float) -> str:
    """Explain a unit without activations above its threshold."""
    allowed = tables.quantile * tables.run.result.info.data.images * tables.info.height * tables.info.width
    if maximum <= 0:
        return "Its activation never exceeds zero on these images: the unit is dead and cannot be a detector."
    if allowed < 1:
        return (
            "There are too few activations for any of them to exceed a threshold at this quantile: the unit cannot be "
            "a detector."
        )
    return (
        "Too many of its activations equal its maximum (the unit is constant or saturated): none exceeds the "
        "threshold, so the unit is never active and cannot be a detector."
    )
