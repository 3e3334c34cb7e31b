"""From counts to labels: IoU, F1, and the best concepts of each unit.

    intersection, mask and concept pixels -> iou -> best_concepts, leading_concepts, top_category -> detectors.py

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_LEADING = 10  # concepts of a unit


def iou(intersection: Ints, activation: Ints, truth: Ints) -> Floats:
    """Return intersection over union, float64, of integer counts; an empty union gives 0.

    >>> iou(np.array([2171174]), np.array([3044167]), np.array([13092677]))
    array([0.15546508])
    """
    union = activation + truth - intersection
    # int64 / int64 in float64: counts below 2**53 are exact, and so is the rounding of their ratio.
    return _ratio(intersection, union)


def f1(intersection: Ints, activation: Ints, truth: Ints) -> Floats:
    """Return the Dice coefficient 2 I / (A + T), which ranks as IoU does; nothing at all gives 0."""
    total = activation + truth
    return _ratio(2 * intersection, total)


def best_concepts(scores: Floats, categories: Ints, count: int) -> Ints:
    """Find the best concept of each unit in each category.

    Parameters
    ----------
    scores
        float64 (U, C), concepts by rising label number.
    categories
        int64 (C,): primary category of each concept, 0 to `count` - 1.
    count
        How many categories there are.

    Returns
    -------
    int64 (U, count)
        Index of the concept with the largest score (tie: the lowest label number), or -1 where no concept
        of the category intersects the unit.
    """
    best = np.full((len(scores), count), -1, np.int64)
    for category in range(count):
        members = np.flatnonzero(categories == category)
        if len(members):
            winner = members[np.argmax(scores[:, members], axis=1)]
            best[:, category] = np.where(np.take_along_axis(scores, winner[:, None], 1)[:, 0] > 0, winner, -1)
    return best


def leading_concepts(scores: Floats) -> Ints:
    """Return each unit's ten best concepts, those that evidence beside IoU is about.

    Parameters
    ----------
    scores
        float64 (U, C), by label number; 0 where no concept is.

    Returns
    -------
    int64 (U, 10)
        Label numbers, best first (tie: the lowest label number); 0 once no further concept intersects the unit.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_LEADING]
    reached = np.take_along_axis(scores, best, axis=1)
    room = max(NUM_LEADING - scores.shape[1], 0)
    return np.pad(np.where(reached > 0, best, 0), ((0, 0), (0, room)))


def top_category(scores: Floats) -> Ints:
    """Return the category of each unit's best concept, int64 (U,): the later on a tie, -1 where all are 0.

    Parameters
    ----------
    scores
        float64 (U, K): score of the best concept in each category, 0 where there is none.
    """
    if scores.shape[1] == 0:
        return np.full(len(scores), -1, np.int64)
    last = scores.shape[1] - 1 - np.argmax(scores[:, ::-1], axis=1)
    return np.where(scores.max(axis=1) > 0, last, -1)


def _ratio(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), np.float64)
