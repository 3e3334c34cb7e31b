"""From counts to labels: IoU, F1, and the best concepts of each unit.

    intersection, mask and concept pixels -> iou -> best_concepts, leading_concepts, top_category -> detectors.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_LEADING = 10  # concepts of each unit


def iou(intersection: Ints, mask_pixels: Ints, concept_pixels: Ints) -> Floats:
    """Return intersection over union, float64, of integer counts; an empty union gives 0.

    >>> iou(np.array([2171174]), np.array([3044167]), np.array([13092677]))
    array([0.15546508])
    """
    union = mask_pixels + concept_pixels - intersection
    # int64 / int64 in float64: counts below 2**53 are exact, and so is the rounding of their ratio.
    return _ratio(intersection, union)


def f1(intersection: Ints, mask_pixels: Ints, concept_pixels: Ints) -> Floats:
    """Return the Dice coefficient 2 I / (M + C), which ranks as IoU does; 0 where both are empty."""
    total = mask_pixels + concept_pixels
    return _ratio(2 * intersection, total)


def best_concepts(scores: Floats, categories: Ints, count: int) -> Ints:
    """Find the best concept of each unit in each category.

    Parameters
    ----------
    scores
        float64 (U, C), concepts by rising label id.
    categories
        int64 (C,): primary category of each concept, 0 to `count` - 1.
    count
        Number of categories.

    Returns
    -------
    int64 (U, count)
        Index of the concept with the largest score (tie: the lowest label id), or -1 where no concept of the
        category intersects the unit.
    """
    best = np.full((len(scores), count), -1, np.int64)
    for category in range(count):
        members = np.flatnonzero(categories == category)
        if len(members):
            winner = members[np.argmax(scores[:, members], axis=1)]
            best[:, category] = np.where(np.take_along_axis(scores, winner[:, None], 1)[:, 0] > 0, winner, -1)
    return best


def leading_concepts(scores: Floats) -> Ints:
    """Return the ten best concepts of each unit, for which extra metrics and intervals are computed.

    Parameters
    ----------
    scores
        float64 (U, C), by label id; 0 where the id is no concept.

    Returns
    -------
    int64 (U, 10)
        Label ids, best first (tie: the lowest label id); 0 where no further concept intersects the unit.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_LEADING]
    best_scores = np.take_along_axis(scores, best, axis=1)
    padding = max(NUM_LEADING - scores.shape[1], 0)
    return np.pad(np.where(best_scores > 0, best, 0), ((0, 0), (0, padding)))


def top_category(scores: Floats) -> Ints:
    """Return the category of the best concept of each unit, int64 (U,): the later on a tie, -1 where all are 0.

    Parameters
    ----------
    scores
        float64 (U, K): score of the best concept in each category, 0 where there is none.
    """
    if scores.shape[1] == 0:
        return np.full(len(scores), -1, np.int64)
    last = scores.shape[1] - 1 - np.argmax(scores[:, ::-1], axis=1)
    return np.where(scores.max(axis=1) > 0, last, -1)


def _ratio(part: Ints | Floats, total: Ints | Floats) -> Floats:
    return np.asarray(np.divide(part, total, out=np.zeros(np.shape(total)), where=total > 0), np.float64)
