"""How well a mask can agree with a concept at best, which the sizes of both decide.

attainable_iou         of a concept at a quantile, whatever the unit
mask_attainable_iou    of a concept and one unit's own mask
"""

import numpy as np
import numpy.typing as npt

from netdissect.config import Restriction

Floats = npt.NDArray[np.float64]


def max_attainable_iou(
    concept: npt.ArrayLike,
    annotated: npt.ArrayLike,
    pixels: float,
    quantile: float,
    restriction: Restriction = "annotated",
) -> Floats:
    """Return the largest IoU that a mask of a fraction `quantile` of all pixels can reach with a concept.

    Parameters
    ----------
    concept
        Pixels of the concept, or of each of several.
    annotated
        Pixels of the images that are annotated in its category.
    pixels
        Pixels of all images that take part.
    quantile
        Fraction of all activations above a threshold.
    restriction
        Whose mask pixels count; see `netdissect.config.Protocol`.

    Returns
    -------
    float64, of the shape of `concept`; 0 where there is no pixel of it

    Notes
    -----
    A mask holds about ``q P`` of the P pixels. Of these between ``low = max(0, q P - (P - A))`` and ``high = min(q P,
    A)`` lie on the A annotated pixels and count; without restriction all do, and where only masks that overlap the
    category count, ``low`` is 0. A concept of l pixels is matched if ``low <= l <= high``; a larger one reaches
    ``high / l``, a smaller one ``l / low``. Interpolation changes a mask's area by some per cent, and IoUs with it.

    Examples
    --------
    At 0.005 a concept that covers an eighth of the pixels cannot pass 0.04.

    >>> float(max_attainable_iou(125, 1000, 1000, 0.005))
    0.04

    Where only a hundredth of the pixels is annotated, all of the mask may lie there, or next to nothing.

    >>> max_attainable_iou([2, 5, 8], 10, 1000, 0.005)
    array([1.   , 1.   , 0.625])
    """
    size, within, mask = np.asarray(concept, np.float64), np.asarray(annotated, np.float64), quantile * pixels
    low, high = np.maximum(0, mask - (pixels - within)), np.minimum(mask, within)
    if restriction == "none":
        low = high = np.asarray(mask)
    elif restriction == "overlap":
        low = np.zeros(())
    # Between the two ends both are the concept's own size.
    return _ratio(np.minimum(size, high), np.maximum(size, low))


def mask_attainable_iou(mask: npt.ArrayLike, concept: npt.ArrayLike) -> Floats:
    """Return the largest IoU that sets of these sizes can reach: min(m, l) / max(m, l); 0 of two empty sets.

    >>> float(mask_attainable_iou(5, 125))
    0.04
    """
    sizes = np.asarray(mask, np.float64), np.asarray(concept, np.float64)
    return _ratio(np.minimum(*sizes), np.maximum(*sizes))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), np.float64)
