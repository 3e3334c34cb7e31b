"""Co-activation of units: Pearson's correlation of their maximum activations over images.

    maxima of units (U, n) -> correlations(), nearest_units(), best_matches(), map_units()

Units that respond to the same images correlate, whatever their scales. Sums are exact, so that no order of images,
number of threads or block size changes a bit: see `standardized`.

Source: Li et al. 2016 :cite:p:`li2016convergent`, section 3, correlate the activations of units within and between
networks; here a unit's activation on an image is its maximum, by which top images are chosen, too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Maxima = npt.NDArray[np.float32]

FRACTION_BITS = 26
"""Bits of a standardized value: products have 52, so that float64 holds sums of them exactly."""
CONSTANT = 1e-9
"""A unit whose values deviate less, relative to the largest, is constant: a nonzero deviation is one of rounding."""
UNITS_AT_ONCE = 1024


class UnitMap(NamedTuple):
    """A layer's units in two dimensions.

    Attributes
    ----------
    points
        Coordinates of each unit on the first two principal components, float64 (U, 2); 0 for constant units.
    explained
        Share of the variance of all units that each component explains, float64 (2,).
    """

    points: Floats
    explained: Floats


def standardized(maxima: Maxima) -> Floats:
    """Return the values of each unit with mean 0 and length 1.

    Parameters
    ----------
    maxima
        float32 (U, n): a value of each unit for each image.

    Returns
    -------
    float64 (U, n)
        Multiples of 2 ** -26; 0 for a constant unit. Products of two rows are multiples of 2 ** -52 whose sums stay
        below 2, so that they are exact in float64 and do not depend on the order of addition.
    """
    centered = maxima.astype(np.float64) - maxima.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.sqrt(np.square(centered).sum(axis=1, keepdims=True))
    constant = length <= CONSTANT * (1 + np.abs(maxima).max(axis=1, keepdims=True, initial=0))
    unit_length = np.where(constant, 0.0, centered / np.where(constant, 1.0, length))
    return np.asarray(np.ldexp(np.rint(np.ldexp(unit_length, FRACTION_BITS)), -FRACTION_BITS))


def correlations(left: Maxima, right: Maxima) -> Floats:
    """Return the correlation of every unit of a layer with every unit of another one on the same images.

    Parameters
    ----------
    left, right
        float32 (U, n), (V, n): a value of each unit for each image.

    Returns
    -------
    float64 (U, V)
        0 for a constant unit. Exact to about 1e-7.

    >>> correlations(np.float32([[1, 2, 3]]), np.float32([[2, 4, 6], [3, 2, 1], [5, 5, 5]])).round(6).tolist()
    [[1.0, -1.0, 0.0]]
    """
    return np.asarray(standardized(left) @ standardized(right).T)


def nearest_units(left: Floats, right: Floats, count: int, own: Ints | None = None) -> tuple[Ints, Floats]:
    """Return for each unit of a layer the units of highest correlation of another layer, or of its own.

    Parameters
    ----------
    left, right
        `standardized` maxima of both layers on the same images, float64 (U, n), (V, n).
    count
        Number of units, K.
    own
        If both are of one layer, the row of each unit in `right`, int64 (U,): a unit is not near to itself.

    Returns
    -------
    tuple
        Units, int64 (U, K), best first, ties by number, and their correlations, float64 (U, K). -1 and 0 where there
        are fewer: constant units have no correlation.
    """
    count = min(count, len(right))
    units, values = np.full((len(left), count), -1, np.int64), np.zeros((len(left), count))
    varies, own_varies = (np.asarray(each.any(axis=1)) for each in (right, left))
    for first in range(0, len(left), UNITS_AT_ONCE):
        block = left[first : first + UNITS_AT_ONCE] @ right.T
        block[:, ~varies] = -np.inf
        for unit in first + np.flatnonzero(own_varies[first : first + UNITS_AT_ONCE]):
            found = block[unit - first]
            if own is not None:
                found[own[unit]] = -np.inf
            least = np.partition(found, len(found) - count)[len(found) - count]
            candidates = np.flatnonzero((found >= least) & np.isfinite(found))
            best = candidates[np.argsort(-found[candidates], kind="stable")][:count]
            units[unit, : len(best)], values[unit, : len(best)] = best, found[best]
    return units, values


class BestMatches(NamedTuple):
    """For each unit of a layer its best match in another layer.

    Attributes
    ----------
    units
        int64 (U,); -1: the unit is constant, or all others are.
    correlations
        float64 (U,); 0 where there is no match.
    mutual
        bool (U,): whether each is the best match of the other.
    """

    units: Ints
    correlations: Floats
    mutual: npt.NDArray[np.bool_]


def best_matches(left: Floats, right: Floats) -> BestMatches:
    """Match the units of a layer with those of another layer, whose units may be matched more than once.

    Parameters
    ----------
    left, right
        `standardized` maxima of both layers on the same images, float64 (U, n), (V, n).
    """
    (nearest, values), (back, _) = nearest_units(left, right, 1), nearest_units(right, left, 1)
    units, back = nearest[:, 0], back[:, 0]
    return BestMatches(units, values[:, 0], (units >= 0) & (back[units] == np.arange(len(units))))


def map_units(maxima: Maxima) -> UnitMap:
    """Return the first two principal components of a layer's units, each a point in the space of images.

    Near points are units that respond to the same images. Units are standardized, and their mean is subtracted: the
    first component is not the response to all images. The sign of a component is that of its largest coordinate,
    which is positive.

    Parameters
    ----------
    maxima
        float32 (U, n): a value of each unit for each image.
    """
    rows = standardized(maxima)
    varies = rows.any(axis=1)
    points, explained = np.zeros((len(rows), 2)), np.zeros(2)
    if varies.any():
        centered = rows[varies] - rows[varies].mean(axis=0)
        # Of the smaller of both Gram matrices: a wide layer has more units than there are images.
        of_images = centered.shape[0] > centered.shape[1]
        gram = centered.T @ centered if of_images else centered @ centered.T
        ends = max(len(gram) - 2, 0), len(gram) - 1
        values, vectors = (part[..., ::-1] for part in eigh(gram, subset_by_index=ends))
        leading = values.clip(0)
        coordinates = centered @ vectors if of_images else vectors * np.sqrt(leading)
        largest = np.abs(coordinates).argmax(axis=0)
        signs = np.where(coordinates[largest, np.arange(len(leading))] < 0, -1.0, 1.0)
        points[varies, : len(leading)] = coordinates * signs
        explained[: len(leading)] = leading / max(np.trace(gram), np.finfo(np.float64).tiny)
    return UnitMap(points, explained)
