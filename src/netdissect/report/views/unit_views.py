"""Views of one unit: plain values that a template prints.

    LayerTables -> unit_view(), unit_detail()

Nothing here writes a file, so that a report on disk and a server show the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.plots.outlines import mask_path, view_box
from netdissect.plots.overlap import REGION_COLORS, ConceptMask, ImageConcept, Mask
from netdissect.report import urls
from netdissect.report.layer_tables import MIN_LISTED_IOU, LayerTables, known
from netdissect.report.views import ConceptView, MatchingUnit
from netdissect.scoring.mask_runs import read_mask
from netdissect.scoring.metrics import Metric, measured_metrics
from netdissect.scoring.number_text import iou_text

PAGE_IMAGES, CARD_IMAGES, CONCEPT_IMAGES = 25, 6, 4
"""Top images of a unit on its own page, on its card in a layer's page, and on a concept's page."""
LEAST_TILES = 12
"""Where fewer concepts are detected, the first page has tiles of units below the limit, too."""
RUNNERS_UP = 4
TOP_BAND, RANDOM_BAND = "top", "at random"
"""Titles of a unit's images over its range that are at no percentile."""
RANGE_TOP_IMAGES = 4


@dataclass(frozen=True)
class MaskedImage:
    """An image with the masks of a unit and of its concept over it.

    Attributes
    ----------
    url
        Of the image file.
    image
        Its name in the data set.
    size
        Height and width of the grid on which masks are scored.
    unit
        Outline of the unit's mask by `netdissect.plots.outlines.mask_path`; None: not known.
    concept
        Mask of the concept; None: not known, or no concept.
    label_id
        Label id of the concept in the data set; 0: no concept.
    value
        The largest activation, or a number of pixels.
    pixels
        Pixels of the regions of `netdissect.plots.overlap.REGION_COLORS`, as they count in the IoU, each pixel once;
        empty: not known.
    """

    url: str
    image: str
    size: Size
    unit: str | None = None
    concept: ConceptMask | None = None
    label_id: int = 0
    value: float | None = None
    pixels: Mapping[str, int] = field(default_factory=dict)

    @property
    def view_box(self) -> str:
        """The box of its paths."""
        return view_box(self.size)

    @property
    def index(self) -> int:
        """Index of the image in the data set."""
        return urls.image_index(self.url)


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
        Sorted by maximum activation.
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
    metrics
        Extra metrics that the run measured for its leading concepts: columns of `concepts`.
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
    metrics: tuple[Metric[Any], ...]
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


@dataclass(frozen=True)
class WallTile:
    """A concept: the best unit with its label in the layers of the networks, and that unit's first image."""

    concept: ConceptView
    best: MatchingUnit
    image: MaskedImage


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
    """

    labels: tuple[str, ...]
    categories: tuple[str, ...]
    unit: tuple[int, ...]
    label: tuple[int, ...]
    iou: tuple[str, ...]
    state: tuple[str, ...]
    page: tuple[int, ...]


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
    )


def _state(dead: bool, detector: bool) -> str:
    return "dead" if dead else "detector" if detector else "below"


def unit_view(tables: LayerTables, unit: int, images: int = CARD_IMAGES) -> UnitView:
    """Return the view of one unit with at most `images` of its top images."""
    row, run = tables.units[unit], tables.run
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
        top_images=() if row["dead"] else _top_images(tables, unit, images),
    )


def wall_tiles(concepts: Sequence[ConceptView]) -> list[WallTile]:
    """Return a tile for each concept that a unit with a page detects, the highest IoU first.

    Where few concepts are detected, units below the limit follow under their labels. Units of virtual layers are no
    units of a network: they are left out.
    """
    labeled = [(concept, unit) for concept in concepts if (unit := _best_labeled(concept))]
    ranked = sorted(labeled, key=lambda pair: (not pair[1].detector, -pair[1].iou))
    best = [pair for rank, pair in enumerate(ranked) if pair[1].detector or rank < LEAST_TILES]
    chosen: dict[tuple[int, int], set[int]] = {}
    for _, each in best:
        chosen.setdefault((each.run.index, each.index), set()).add(each.unit)
    runs = {each.run.index: each.run for _, each in best}
    tables = {(run, index): LayerTables(runs[run], index, chosen=units) for (run, index), units in chosen.items()}
    images = (_top_images(tables[each.run.index, each.index], each.unit, 1) for _, each in best)
    return [WallTile(concept, each, first[0]) for (concept, each), first in zip(best, images, strict=True) if first]


def _best_labeled(concept: ConceptView) -> MatchingUnit | None:
    """Return the best unit with this label: a detector if there is one."""
    units = [each for each in concept.best if each.label == concept.concept and each.url and not _virtual(each)]
    return next((each for each in units if each.detector), units[0] if units else None)


def _virtual(unit: MatchingUnit) -> bool:
    return unit.run.result.layer(unit.layer).info.basis_of is not None


def unit_detail(tables: LayerTables, unit: int) -> UnitDetail:
    """Return what a unit's own page shows in addition to `unit_view`."""
    scores = _scores(tables, unit)
    previous_unit, next_unit = tables.units_with_page.neighbors(unit)
    return UnitDetail(
        concepts=tuple(scores),
        metrics=measured_metrics(scores),
        other_quantiles=tuple(tables.other_quantiles.get(unit, ())),
        histogram=tuple(tables.histograms.get(unit, ())),
        firing_map=_firing_map(tables, unit),
        false_positives=_error_images(tables, unit, "false positive"),
        false_negatives=_error_images(tables, unit, "false negative"),
        activation_range=_activation_range(tables, unit),
        similar_units=(similar := _similar_units(tables, unit)),
        similar_images=tables.run.co_activation.images(tables.name) if similar else 0,
        overlap=_overlap(tables, unit),
        previous_unit=previous_unit,
        next_unit=next_unit,
    )


def read_concept_masks(tables: LayerTables, units: Iterable[int]) -> None:
    """Read the masks of the concepts of some units in the images that their pages show, each image once.

    A view reads what is missing for its unit; for all units of a layer together this takes a fraction of the time.
    """
    if tables.run.concept_masks is None:
        return
    sources = (tables.top, *tables.error_images.values())
    shown = ((unit, row) for unit in units for rows in sources for row in rows.get(unit, ())[:PAGE_IMAGES])
    wanted = (_image_concept(tables, unit, row) for unit, row in shown)
    tables.run.concept_masks.read(each for each in wanted if each is not None)


def _image_concept(tables: LayerTables, unit: int, row: Mapping[str, Any]) -> ImageConcept | None:
    """Return a unit's concept in an image; None if the unit has none."""
    label = tables.units[unit]["label"]
    return None if label is None else ImageConcept(row["image_index"], tables.label_ids[label], _size(tables, row))


def _size(tables: LayerTables, row: Mapping[str, Any]) -> Size:
    return tables.masks.size(Size(row["label_height"], row["label_width"]))


def _concept_mask(tables: LayerTables, unit: int, row: Mapping[str, Any]) -> ConceptMask | None:
    concept, masks = _image_concept(tables, unit, row), tables.run.concept_masks
    return None if concept is None or masks is None else masks.mask(concept)


def _top_images(tables: LayerTables, unit: int, count: int) -> tuple[MaskedImage, ...]:
    images = []
    for row in tables.top.get(unit, [])[:count]:
        labels = Size(row["label_height"], row["label_width"])
        mask = tables.masks.mask(tables.layer.top_maps[unit, row["rank"]], tables.units[unit]["threshold"], labels)
        images.append(_masked_image(tables, unit, row | {"value": row["max_activation"]}, mask))
    return tuple(images)


def _masked_image(tables: LayerTables, unit: int, row: Mapping[str, Any], mask: Mask) -> MaskedImage:
    """Draw the masks of a unit and of its concept on an image."""
    concept = _concept_mask(tables, unit, row)
    return MaskedImage(
        urls.image(tables.run.data_index, row["image_index"]),
        row["image"],
        Size(*mask.shape),
        mask_path(mask),
        concept,
        tables.label_ids[label] if (label := tables.units[unit]["label"]) else 0,
        row["value"],
        {} if concept is None else concept.contribution(mask),
    )


def _activation_range(tables: LayerTables, unit: int) -> tuple[RangeBand, ...]:
    rows = tables.range_images.get(unit)
    if not rows or tables.units[unit]["dead"]:
        return ()
    bands: dict[str, list[MaskedImage]] = {}
    threshold = float(tables.scored_thresholds[unit])  # of lower ones not all cells are kept
    for row in rows:
        title = RANDOM_BAND if row["percentile"] is None else f"{row['percentile']:g} %"
        bands.setdefault(title, []).append(_unit_image(tables, row, row["map"], threshold))
    bands = {TOP_BAND: list(_top_images(tables, unit, RANGE_TOP_IMAGES))} | bands
    return tuple(RangeBand(title, tuple(images)) for title, images in bands.items())


def _unit_image(
    tables: LayerTables, row: Mapping[str, Any], cells: npt.NDArray[np.float32], threshold: float
) -> MaskedImage:
    """Draw the mask of a unit alone on an image."""
    mask = tables.masks.mask(cells, threshold, Size(row["label_height"], row["label_width"]))
    url = urls.image(tables.run.data_index, row["image_index"])
    return MaskedImage(url, row["image"], Size(*mask.shape), mask_path(mask), value=row["max_activation"])


def _first_image(tables: LayerTables, unit: int) -> MaskedImage | None:
    """Return a unit's first top image with its scored mask; None: it has none."""
    row = tables.first_images.get(unit)
    if row is None:
        return None
    if "view" not in row:  # it is shown next to many units
        row["view"] = _unit_image(tables, row, tables.layer.top_maps[unit, 0], float(tables.scored_thresholds[unit]))
    view: MaskedImage = row["view"]
    return view


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
                image=_first_image(other, similar.unit),
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


def _error_images(tables: LayerTables, unit: int, error: str) -> tuple[MaskedImage, ...]:
    """Return the false positives or the false negatives of a unit; none without the data set."""
    data, images = tables.run.dataset, []
    if data is None:
        return ()
    for row in tables.error_images.get(error, {}).get(unit, ()):
        mask = read_mask(row["mask"], Size(row["label_height"], row["label_width"]))
        shown = {"image": data.rows[row["image_index"]].image, "value": row["pixels"]}
        images.append(_masked_image(tables, unit, row | shown, mask))
    return tuple(images)


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
