"""Thresholds of the information quality ratio, as the program of GAN Dissection (2019) chose them.

    counts at many quantiles -> information_quality -> best_iqr -> a quantile and a concept of each unit

Of a pixel, unit u is active above t or not, and concept c is there or not. With the joint distribution p of the two,

    IQR(u, c, t) = I(u; c) / H(u, c),   I = sum p log(p / (p_row p_column)),   H = - sum p log p

which is 0 where they are independent and 1 where each determines the other. The threshold and the label of a unit are
those of its highest IQR.

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, section 3.1, and its program.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEWEST_PIXELS = 1e-3
"""Share of all pixels that a concept has at least."""
AGREEMENT = 0.8
"""Share of the pixels on which unit and concept agree at least, both there or both not."""
LARGEST_QUANTILE = 0.5


class BestIqr(NamedTuple):
    """The threshold and the label of each of U units; where no pair qualifies, `quantile` is -1.

    Attributes
    ----------
    quantile
        int64 (U,): index of the quantile.
    label_id
        int64 (U,).
    iqr
        float64 (U,).
    """

    quantile: Ints
    label_id: Ints
    iqr: Floats


def information_quality(hits: Ints, active: Ints, concept: Ints, pixels: int) -> Floats:
    """Return the information quality ratio of pairs of a mask and a concept.

    Parameters
    ----------
    hits, active, concept : int64, of shapes that broadcast
        Pixels in both, in the mask, and of the concept.
    pixels
        All pixels.

    Returns
    -------
    float64
        0 where the joint entropy is 0.

    Examples
    --------
    >>> information_quality(np.array([50, 25]), np.array([50, 50]), np.array([50, 50]), 100).tolist()
    [1.0, 0.0]
    """
    hits, active, concept = np.broadcast_arrays(hits, active, concept)
    joint = np.stack([hits, active - hits, concept - hits, pixels - active - concept + hits]) / pixels
    rows = np.stack([active, active, pixels - active, pixels - active]) / pixels
    columns = np.stack([concept, pixels - concept, concept, pixels - concept]) / pixels
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(joint > 0, np.log(joint), 0.0)
        mutual = np.where(joint > 0, joint * (logs - np.log(rows) - np.log(columns)), 0.0).sum(axis=0)
        entropy = -(joint * logs).sum(axis=0)
        ratio = np.where(entropy > 0, mutual / entropy, 0.0)
    return np.asarray(np.maximum(ratio, 0.0))


def best_iqr(
    hits: Ints, active: Ints, concept: Ints, pixels: int, thresholds: npt.NDArray[np.float32], quantiles: Floats
) -> BestIqr:
    """Choose the threshold and the label of each unit.

    Parameters
    ----------
    hits : int64 (Q, U, C)
        Pixels of each unit's mask at each quantile that have each label; label 0 is unlabeled.
    active : int64 (Q, U)
        Pixels of the masks.
    concept : int64 (C,)
        Pixels of the labels.
    pixels
        All pixels.
    thresholds : float32 (Q, U)
        Of each unit at each quantile.
    quantiles : float64 (Q,)
        Those above 0.5 are left out.

    Returns
    -------
    BestIqr
        Over pairs whose threshold is above 0, whose concept has a thousandth of all pixels, and which agree on more
        than 0.8 of the pixels. Ties: the smaller quantile, then the lower label id.
    """
    ratio = information_quality(hits, active[:, :, None], concept, pixels)
    agree = pixels - active[:, :, None] - concept + 2 * hits
    allowed = (agree > AGREEMENT * pixels) & (thresholds > 0)[:, :, None] & (concept >= FEWEST_PIXELS * pixels)
    allowed &= (quantiles <= LARGEST_QUANTILE)[:, None, None]
    allowed[:, :, 0] = False
    ratio = np.where(allowed, ratio, -1.0)
    order = np.argsort(quantiles, kind="stable")
    by_unit = ratio[order].transpose(1, 0, 2).reshape(ratio.shape[1], -1)
    best = by_unit.argmax(axis=1)
    found = by_unit[np.arange(len(best)), best]
    quantile, label = np.divmod(best, ratio.shape[2])
    none = found < 0
    return BestIqr(np.where(none, -1, order[quantile]), np.where(none, 0, label), np.where(none, 0.0, found))
