"""The wall of the first page: the best unit of each concept on its image."""

from collections.abc import Sequence
from dataclasses import dataclass

from netdissect.report.layer_tables import LayerTables
from netdissect.report.views.masked_images import MaskedImage, top_images
from netdissect.report.views.run_views import ConceptView, MatchingUnit

LEAST_TILES = 12
"""Where fewer concepts are detected, the first page has tiles of units below the limit, too."""


@dataclass(frozen=True)
class WallTile:
    """A concept: the best unit with its label in the layers of the networks, and that unit's first image."""

    concept: ConceptView
    best: MatchingUnit
    image: MaskedImage


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
    images = (top_images(tables[each.run.index, each.index], each.unit, 1) for _, each in best)
    return [WallTile(concept, each, first[0]) for (concept, each), first in zip(best, images, strict=True) if first]


def _best_labeled(concept: ConceptView) -> MatchingUnit | None:
    """Return the best unit with this label: a detector if there is one."""
    units = [each for each in concept.best if each.label == concept.concept and each.url and not _virtual(each)]
    return next((each for each in units if each.detector), units[0] if units else None)


def _virtual(unit: MatchingUnit) -> bool:
    return unit.run.result.layer(unit.layer).info.basis_of is not None
