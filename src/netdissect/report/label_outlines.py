"""Labels of single images: which concepts an image contains, and their outlines."""

from functools import lru_cache

import numpy as np

from netdissect.concepts import ConceptData, Labels
from netdissect.errors import ConceptsError
from netdissect.plots.outlines import outline

MIN_AREA = 24
"""Parts of a concept with a smaller area, in a square of 128 x 128, are not drawn."""
MAX_LABEL_MAPS_KEPT, MAX_OUTLINES_KEPT = 64, 65_536
"""Of `ConceptOutlines`: labels of images, of about 50 kB each, and outlines, of about 200 bytes."""


def read_labels(data: ConceptData, image_index: int) -> Labels | None:
    """Read the labels of one image; None if they cannot be read."""
    try:
        return data.labels(image_index)
    except ConceptsError:
        return None


def label_ids(labels: Labels) -> list[int]:
    """List the ids of the labels of an image."""
    present = np.unique(np.append(labels.label_channels, labels.image_level)).tolist()
    return [label_id for label_id in present if label_id]


def concept_outline(labels: Labels, label_id: int) -> str:
    """Outline a concept in an image, as `plots.outlines.outline` does; an image-level label covers it."""
    if label_id in labels.image_level or not len(labels.label_channels):
        return outline(np.ones((1, 1)), 0.5)
    return outline((labels.label_channels == label_id).any(axis=0), 0.5, MIN_AREA)


class ConceptOutlines:
    """Outlines of concepts in the images of a data set, each traced once: many units share false negatives.

    Parameters
    ----------
    data
        The data set.
    """

    def __init__(self, data: ConceptData) -> None:
        self._data = data
        self._labels = lru_cache(maxsize=MAX_LABEL_MAPS_KEPT)(self._read)
        self.outline = lru_cache(maxsize=MAX_OUTLINES_KEPT)(self._outline)

    def _read(self, image_index: int) -> Labels | None:
        return read_labels(self._data, image_index)

    def _outline(self, image_index: int, label_id: int) -> str | None:
        """Outline a concept in an image; None if its labels cannot be read."""
        labels = self._labels(image_index)
        return None if labels is None else concept_outline(labels, label_id)
