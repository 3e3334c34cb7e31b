"""Numbers: integer tallies that add up, IoU, labels and detectors."""

from netdissect.scoring.iou import (
    DetectorCount,
    UnitLabels,
    best_concepts,
    count_detectors,
    f1,
    iou,
    largest_counts,
    passes,
)
from netdissect.scoring.iou_counter import BatchLabels, ConceptTotals, ImageLabels, IoUCounter, IoUCounts, columns_of
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.upsampling import Field, Span, Upsampler, make_upsampler

__all__ = [
    "BatchLabels",
    "ConceptTotals",
    "DetectorCount",
    "Field",
    "ImageIntersections",
    "ImageLabelCounts",
    "ImageLabels",
    "IoUCounter",
    "IoUCounts",
    "Span",
    "UnitLabels",
    "Upsampler",
    "best_concepts",
    "columns_of",
    "count_detectors",
    "f1",
    "iou",
    "largest_counts",
    "make_upsampler",
    "passes",
]
