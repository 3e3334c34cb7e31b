"""Thresholds of the information quality ratio, as the program of GAN Dissection (2019) chose them.

    counts at many quantiles -> information_quality -> best_iqr -> a quantile and a concept of each unit

Of a pixel, unit u is active above t or not, and concept c is there or not. With the joint distribution p of the two,

    IQR(u, c, t) = I(u; c) / H(u, c),   I = sum p log(p / (p_row p_column)),   H = - sum p log p

which is 0 where they are independent and 1 where each determines the other. The threshold and the label of a unit are
those of its highest IQR.

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, section 3.1, and its program. That program estimates quantiles and
counts from samples, searches fractions up to 1 and leaves pairs out whose best fraction is above 0.5; here all counts
are exact, and fractions above 0.5 are not searched.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LARGEST_FRACTION = 0.5
FRACTIONS: tuple[float, ...] = tuple(each for each in np.logspace(-3, 0, 100).tolist() if each <= LARGEST_FRACTION)
"""Fractions of a unit's activations above the thresholds that are searched: of 100 from 0.001 to 1, those up to 0.5."""
FEWEST_PIXELS = 1e-3
"""Share of the pixels that a concept has at least."""
AGREEMENT = 0.8
"""Share of the pixels on which unit and concept agree at least, both there or both not."""


class BestIqr(NamedTuple):
    """The threshold and the label of each of U units; where no pair qualifies, `quantile` is -1.

    Attributes
    ----------
    quantile
        int64 (U,): index of the quantile.
    concept
        int64 (U,): index of the concept.
    iqr
        float64 (U,).
    """

    quantile: Ints
    concept: Ints
    iqr: Floats


def information_quality(hits: Ints, active: Ints, concept: Ints, pixels: Ints) -> Floats:
    """Return the information quality ratio of pairs of a mask and a concept.

    Parameters
    ----------
    hits, active, concept, pixels : int64, of shapes that broadcast
        Pixels in both, in the mask, of the concept, and all pixels.

    Returns
    -------
    float64
        0 where the joint entropy is 0, or there are no pixels.

    Examples
    --------
    >>> counts = [np.array(each) for each in ([50, 25], [50, 50], [50, 50], 100)]
    >>> information_quality(*counts).tolist()
    [1.0, 0.0]
    """
    hits, active, concept, pixels = np.broadcast_arrays(hits, active, concept, pixels)
    total = np.maximum(pixels, 1)  # a category may be annotated in no image
    joint = np.stack([hits, active - hits, concept - hits, pixels - active - concept + hits]) / total
    rows = np.stack([active, active, pixels - active, pixels - active]) / total
    columns = np.stack([concept, pixels - concept, concept, pixels - concept]) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(joint > 0, np.log(joint), 0.0)
        mutual = np.where(joint > 0, joint * (logs - np.log(rows) - np.log(columns)), 0.0).sum(axis=0)
        entropy = -(joint * logs).sum(axis=0)
        ratio = np.where(entropy > 0, mutual / entropy, 0.0)
    return np.asarray(np.maximum(ratio, 0.0))


def best_iqr(hits: Ints, active: Ints, concept: Ints, pixels: Ints, thresholds: npt.NDArray[np.float32]) -> BestIqr:
    """Choose the threshold and the label of each unit.

    Parameters
    ----------
    hits : int64 (Q, U, T)
        Pixels of each unit's mask that have each concept, at each quantile, the smallest quantile first.
    active : int64 (Q, U, T)
        Pixels of the masks, in the images that are annotated in the category of the concept.
    concept, pixels : int64 (T,)
        Pixels of the concepts, and all pixels of these images.
    thresholds : float32 (Q, U)
        Of each unit at each quantile.

    Returns
    -------
    BestIqr
        Over pairs whose threshold is above 0, whose concept has a thousandth of the pixels, and which agree on more
        than 0.8 of them. Ties: the smaller quantile, then the first concept.
    """
    ratio = information_quality(hits, active, concept, pixels)
    agree = pixels - active - concept + 2 * hits
    allowed = (agree > AGREEMENT * pixels) & (thresholds > 0)[:, :, None] & (concept >= FEWEST_PIXELS * pixels)
    by_unit = np.where(allowed, ratio, -1.0).transpose(1, 0, 2).reshape(ratio.shape[1], -1)
    if by_unit.shape[1] == 0:
        none = np.zeros(len(by_unit), np.int64)
        return BestIqr(none - 1, none, none.astype(np.float64))
    best = by_unit.argmax(axis=1)
    found = by_unit[np.arange(len(best)), best]
    quantile, label = np.divmod(best, ratio.shape[2])
    return BestIqr(np.where(found < 0, -1, quantile), np.where(found < 0, 0, label), np.maximum(found, 0.0))
