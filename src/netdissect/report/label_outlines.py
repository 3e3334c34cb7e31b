"""Labels of single images: which concepts an image bears, and where."""

import numpy as np

from netdissect.concepts import ConceptData, Labels
from netdissect.errors import ConceptsError
from netdissect.plots.outlines import outline

SPECK = 24
"""Parts of a concept of a smaller area, in a square of 128 x 128, are not drawn."""


def read_labels(data: ConceptData, row: int) -> Labels | None:
    """Read the labels of one image; None if they cannot be read."""
    try:
        return data.labels(row)
    except ConceptsError:
        return None


def present(labels: Labels) -> list[int]:
    """List the label numbers that an image bears."""
    return [number for number in np.unique(np.append(labels.label_channels, labels.image_level)).tolist() if number]


def concept_outline(labels: Labels, number: int) -> str:
    """Outline a concept in an image, as `plots.outlines.outline` does; an image-level label covers it."""
    if number in labels.image_level or not len(labels.label_channels):
        return outline(np.ones((1, 1)), 0.5)
    return outline((labels.label_channels == number).any(axis=0), 0.5, SPECK)
