"""The largest IoU of a mask and a concept that their sizes allow.

- `max_attainable_iou`: for a concept and a threshold quantile, for any unit.
- `mask_attainable_iou`: for a concept and the mask of one unit.
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
    """Return the largest IoU with a concept that a mask of a fraction `quantile` of all pixels can reach.

    Parameters
    ----------
    concept
        Pixels of the concept; an array for several concepts.
    annotated
        Pixels of the images that are annotated in its category.
    pixels
        Pixels of all images that take part.
    quantile
        Fraction of all activations above the threshold.
    restriction
        Which mask pixels count; see `netdissect.config.Protocol`.

    Returns
    -------
    float64, of the shape of `concept`; 0 for concepts without a pixel

    Notes
    -----
    A mask has about ``q P`` of the P pixels. Between ``low = max(0, q P - (P - A))`` and ``high = min(q P, A)`` of
    them lie on the A annotated pixels and count. Without restriction ``low = high = q P``. If only masks that overlap
    the category count, ``low`` is 0. For a concept of l pixels the largest IoU is 1 if ``low <= l <= high``,
    ``high / l`` if l is larger, and ``l / low`` if l is smaller. Interpolation changes the area of a mask by some per
    cent, so an IoU can exceed this bound by as much.

    Examples
    --------
    At 0.005 a concept that covers an eighth of the pixels reaches at most 0.04.

    >>> float(max_attainable_iou(125, 1000, 1000, 0.005))
    0.04

    If one per cent of the pixels is annotated, the mask may lie inside the annotated images or outside of them.

    >>> max_attainable_iou([2, 5, 8], 10, 1000, 0.005)
    array([1.   , 1.   , 0.625])
    """
    size, within, mask = np.asarray(concept, np.float64), np.asarray(annotated, np.float64), quantile * pixels
    low, high = np.maximum(0, mask - (pixels - within)), np.minimum(mask, within)
    if restriction == "none":
        low = high = np.asarray(mask)
    elif restriction == "overlap":
        low = np.zeros(())
    # For low <= size <= high the numerator and the denominator equal the size.
    return _ratio(np.minimum(size, high), np.maximum(size, low))


def mask_attainable_iou(mask: npt.ArrayLike, concept: npt.ArrayLike) -> Floats:
    """Return the largest IoU of sets of these sizes: min(m, l) / max(m, l); 0 for two empty sets.

    >>> float(mask_attainable_iou(5, 125))
    0.04
    """
    sizes = np.asarray(mask, np.float64), np.asarray(concept, np.float64)
    return _ratio(np.minimum(*sizes), np.maximum(*sizes))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), np.float64)
