"""Captions made from the labels of a data set: some of the concepts that are visible in an image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.concepts.build.synonyms import SUFFIXES
from netdissect.config import Progress

VISIBLE = 0.01
"""Share of the pixels from which on a concept counts as visible."""
LONGEST = 6
"""Most concepts of a caption."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class VisibleConcepts:
    """Which concepts are visible in which image.

    Attributes
    ----------
    names
        Of C concepts, as words: scenes lose their suffix ``-s`` and colors their ``-c``.
    present
        bool (N, C).
    """

    names: tuple[str, ...]
    present: Bools

    def captions(self, images: npt.NDArray[np.int64], rng: np.random.Generator) -> Bools:
        """Draw a caption for each of some images: one to six of its visible concepts, bool (n, C)."""
        present = self.present[images]
        order = np.where(present, rng.random(present.shape), np.inf).argsort(axis=1).argsort(axis=1)
        length = rng.integers(1, LONGEST + 1, len(images))
        return np.asarray(present & (order < length[:, None]))

    def true_of(self, captions: Bools, images: npt.NDArray[np.int64]) -> Bools:
        """Tell of which image each caption is true: all of its concepts are visible; bool (images, captions)."""
        absent = ~self.present[images]
        missing = absent.astype(np.float32) @ captions.T.astype(np.float32)
        return np.asarray(missing == 0)


def word_of(concept: str) -> str:
    """Return a concept as a word.

    >>> word_of("park-s"), word_of("red-c"), word_of("street lamp")
    ('park', 'red', 'street lamp')
    """
    for suffix in SUFFIXES.values():
        concept = concept.removesuffix(suffix)
    return concept


def visible_concepts(data: ConceptData, progress: Progress | None = None) -> VisibleConcepts:
    """Read the labels of all images.

    Parameters
    ----------
    data
        The data set; an image in which nothing is visible has no caption.
    progress
        Receives images (``captions``).
    """
    names = tuple(dict.fromkeys(word_of(concept.name) for concept in data.concepts))
    column = np.zeros(data.concepts[-1].label_id + 1, np.int64)
    for concept in data.concepts:
        column[concept.label_id] = names.index(word_of(concept.name))
    present = np.zeros((len(data), len(names)), np.bool_)
    for index in range(len(data)):
        labels = data.labels(index)
        counts = np.bincount(labels.label_channels.ravel(), minlength=len(column))
        seen = np.flatnonzero(counts >= VISIBLE * np.prod(data.rows[index].size))
        ids = np.concatenate([seen, labels.image_level])
        present[index, column[ids[ids > 0]]] = True
        if progress:
            progress("captions", index + 1, len(data))
    return VisibleConcepts(names, present)
