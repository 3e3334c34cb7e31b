"""Integer counts that add up over images, IoU, labels and detectors.

activation maps -> upsampling.py -> iou_counter.py (kernel.py, or iou_counter_torch.py) -> iou.py -> detectors.py
single images   -> per_image_counts.py, mask_pixels.py -> statistics/
no threshold    -> response_histograms.py -> metrics.py
"""

from netdissect.scoring.detectors import DetectorCount, UnitLabels, count_detectors, largest_counts, passes
from netdissect.scoring.iou import best_concepts, f1, iou
from netdissect.scoring.iou_counter import (
    BatchLabels,
    ConceptTotals,
    ImageLabels,
    IoUCounter,
    IoUCounts,
    concept_counts,
)
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.upsampling import FieldSpan, FieldSpans, Upsampler, make_upsampler

__all__ = [
    "BatchLabels",
    "ConceptTotals",
    "DetectorCount",
    "FieldSpan",
    "FieldSpans",
    "ImageIntersections",
    "ImageLabelCounts",
    "ImageLabels",
    "IoUCounter",
    "IoUCounts",
    "UnitLabels",
    "Upsampler",
    "best_concepts",
    "concept_counts",
    "count_detectors",
    "f1",
    "iou",
    "largest_counts",
    "make_upsampler",
    "passes",
]
