"""Numbers: integer tallies that add up, IoU, labels and detectors."""

from netdissect.score.grid import Field, Grid, Span, grid
from netdissect.score.labels import Count, UnitLabels, best_concepts, count_detectors, f1, iou, largest_counts, passes
from netdissect.score.overlaps import Overlaps, Presence
from netdissect.score.tally import BatchLabels, ImageLabels, Tallier, Tally, Truth, columns_of

__all__ = [
    "BatchLabels",
    "Count",
    "Field",
    "Grid",
    "ImageLabels",
    "Overlaps",
    "Presence",
    "Span",
    "Tallier",
    "Tally",
    "Truth",
    "UnitLabels",
    "best_concepts",
    "columns_of",
    "count_detectors",
    "f1",
    "grid",
    "iou",
    "largest_counts",
    "passes",
]
