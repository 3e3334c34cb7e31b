"""How well a mask of a given size can agree with a concept of another, at best."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def attainable_iou(activation: float | Floats, truth: float | Floats) -> Floats:
    """Return the largest IoU that sets of these sizes can reach: min(a, t) / max(a, t); 0 of two empty sets.

    A mask holds about a fraction q of all locations, whatever the concept: at q = 0.005 a concept that
    covers an eighth of the pixels cannot pass 0.04.

    >>> float(attainable_iou(0.005, 0.125))
    0.04
    """
    smaller, larger = np.minimum(activation, truth), np.maximum(activation, truth)
    return np.asarray(np.divide(smaller, larger, out=np.zeros(np.shape(larger)), where=larger > 0), np.float64)
