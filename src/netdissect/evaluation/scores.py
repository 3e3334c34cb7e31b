"""Scores of a label of a unit at image level, from the unit's activation and the label's presence on each image.

    score(activations, presence) -> float64 (P,)

All functions take P pairs of a unit and a label: `activations` float (N, P), the mean activation of the unit on each
of N images, and `presence` float (N, P), 1 where the image has the label and 0 elsewhere. `correlation`, `cosine` and
`average_precision` also take a graded presence, such as the label's share of the pixels.

A unit is active on the images of its largest activations, by default 0.5 %; see `active_images`.

Source: Oikarinen et al. 2025 :cite:p:`oikarinen2025evaluating`, section 3 and appendix B.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.evaluation.evaluate_config import ACTIVE_SHARE
from netdissect.scoring.iou import f1 as f1_of_counts
from netdissect.scoring.iou import iou as iou_of_counts

AnyFloats = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def active_images(activations: AnyFloats, active_share: float = ACTIVE_SHARE) -> Bools:
    """Tell on which images each unit is active: those of its largest activations.

    Parameters
    ----------
    activations
        float (N, P).
    active_share
        Share of the images, above 0.

    Returns
    -------
    bool (N, P)
        At least ``ceil(active_share * N)`` images of each column: images that tie with the last of them are active,
        too. A unit that is zero on most images can therefore be active on all.

    >>> active_images(np.array([[3.0], [1.0], [2.0], [2.0]]), 0.5).T
    array([[ True, False,  True,  True]])
    """
    count = min(max(math.ceil(active_share * len(activations)), 1), len(activations))
    return np.asarray(activations >= np.partition(activations, -count, axis=0)[-count])


def iou(activations: AnyFloats, presence: AnyFloats, active_share: float = ACTIVE_SHARE) -> Floats:
    """Return the intersection over union of the active images and those with the label.

    >>> activations, presence = np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]])
    >>> iou(activations, presence, 0.5)
    array([0.33333333])
    """
    return iou_of_counts(*_image_counts(activations, presence, active_share))


def f1(activations: AnyFloats, presence: AnyFloats, active_share: float = ACTIVE_SHARE) -> Floats:
    """Return the F1 score of the active images and those with the label: 2 I / (A + L).

    >>> activations, presence = np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]])
    >>> f1(activations, presence, 0.5)
    array([0.5])
    """
    return f1_of_counts(*_image_counts(activations, presence, active_share))


def average_precision(activations: AnyFloats, presence: AnyFloats, active_share: float = ACTIVE_SHARE) -> Floats:
    """Return the average precision with which a label finds the active images of a unit.

    Notes
    -----
    The active images are the truth, and images are ranked by the presence of the label, ties as one step. It is AUPRC
    of the source. With both parts exchanged (its inverse AUPRC) the metric fails the source's sanity checks.

    >>> activations, presence = np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]])
    >>> average_precision(activations, presence, 0.5)
    array([0.5])
    """
    active = active_images(activations, active_share)
    retrieved, hits, total = (np.zeros(presence.shape[1]) for _ in range(3))
    # Level by level: presence has few, and for those a sort of each pair takes eight times as long.
    for level in np.unique(presence)[::-1]:
        tied = presence == level
        new_hits = (tied & active).sum(axis=0)
        retrieved += tied.sum(axis=0)
        hits += new_hits
        total += new_hits * np.divide(hits, retrieved, out=np.zeros_like(hits), where=retrieved > 0)
    return np.asarray(total / hits, np.float64)


def correlation(activations: AnyFloats, presence: AnyFloats) -> Floats:
    """Return Pearson's correlation of activation and presence; 0 where one of them is constant.

    With the label's share of the pixels as presence, on images that had no part in the choice of the label, it is the
    simulation correlation: a label predicts the unit by being there.

    >>> correlation(np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]])).round(4)
    array([0.4472])
    """
    return cosine(_centered(activations), _centered(presence))


def cosine(activations: AnyFloats, presence: AnyFloats) -> Floats:
    """Return the cosine similarity of activation and presence; 0 where one of them is zero on all images.

    >>> cosine(np.array([[3.0], [0.0]]), np.array([[1.0], [1.0]])).round(4)
    array([0.7071])
    """
    left, right = activations.astype(np.float64), presence.astype(np.float64)
    product = np.einsum("np,np->p", left, right)
    lengths = np.sqrt(np.einsum("np,np->p", left, left) * np.einsum("np,np->p", right, right))
    return np.asarray(np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0))


def auroc(activations: AnyFloats, presence: AnyFloats) -> Floats:
    """Return the probability that an image with the label has the larger activation, ties counting half.

    Notes
    -----
    The label is the truth, and images are ranked by activation, as INVERT and CoSy score labels. It is inverse AUC of
    the source, which fails its sanity checks. 0.5 where no image or every image has the label.

    >>> auroc(np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]]))
    array([0.75])
    """
    return auroc_of_ranks(activation_ranks(activations), presence)


def activation_ranks(activations: AnyFloats) -> Floats:
    """Return the rank of each image for each unit, float64 (N, P): 1 for the smallest activation, the mean for ties.

    >>> activation_ranks(np.array([[3.0], [1.0], [1.0], [0.0]])).T
    array([[4. , 2.5, 2.5, 1. ]])
    """
    return np.asarray(scipy.stats.rankdata(activations, axis=0))


def auroc_of_ranks(ranks: AnyFloats, presence: AnyFloats) -> Floats:
    """Return the same as `auroc` from `activation_ranks`, so that a unit is ranked once for all of its labels."""
    present = presence >= 0.5
    positives = present.sum(axis=0)
    pairs = positives * (len(presence) - positives)
    above = (ranks * present).sum(axis=0) - positives * (positives + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full(len(pairs), 0.5), where=pairs > 0))


def mean_activation_difference(activations: AnyFloats, presence: AnyFloats) -> Floats:
    """Return the mean activation on images with the label less that on images without it (MAD).

    It is in the unit of the activations, so that only units of one layer can be compared. The mean over no images is 0.

    >>> mean_activation_difference(np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([[1.0], [1.0], [0.0], [0.0]]))
    array([1.])
    """
    present = presence >= 0.5
    values = activations.astype(np.float64)
    positives = present.sum(axis=0)
    with_label = (values * present).sum(axis=0) / np.maximum(positives, 1)
    without = (values * ~present).sum(axis=0) / np.maximum(len(presence) - positives, 1)
    return np.asarray(with_label - without, np.float64)


def _image_counts(
    activations: AnyFloats, presence: AnyFloats, active_share: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    active, present = active_images(activations, active_share), presence >= 0.5
    return (active & present).sum(axis=0), active.sum(axis=0), present.sum(axis=0)


def _centered(values: AnyFloats) -> Floats:
    """Subtract the mean of each column; a column of one value becomes exact zeros."""
    wide = values.astype(np.float64)
    centered = wide - wide.mean(axis=0)
    return np.where(np.ptp(wide, axis=0) > 0, centered, 0.0)
