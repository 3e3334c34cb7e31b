"""Linear explanations: the mean activation of a unit as a sparse linear combination of shares of concepts.

    shares (N, C), half of the images -> ShareMoments --+
    activations (N, U), the same half -> UnitMoments  --+-> select_terms -> fit -> LinearModels
    moments of the other half, LinearModels             ---> heldout_scores

Concepts are chosen one after the other, each time the one with which the least-squares fit correlates most with the
unit, up to ten, as long as the correlation rises by the tolerance. Everything follows from centered second moments: of
concepts with concepts once, and of concepts with units. Constant and rare concepts are no candidates.

Source: Oikarinen and Weng 2024 :cite:p:`oikarinen2024linear`, who choose among ten concepts that a sparse linear model
proposes; here every concept is tried.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_TERMS, TOLERANCE = 10, 0.02
LEAST_IMAGES = 5
"""A candidate occurs in at least so many images of the half on which concepts are chosen."""
UNITS_AT_ONCE = 256
COLLINEAR = 1e-9
"""Share of its variance that a concept must have left beside the chosen ones."""


class ShareMoments(NamedTuple):
    """Moments of the shares of C concepts over some images.

    Attributes
    ----------
    images
        Number of images.
    means
        float64 (C,).
    covariance
        float64 (C, C), divided by the number of images.
    candidates
        bool (C,): concepts that may be chosen.
    """

    images: int
    means: Floats
    covariance: Floats
    candidates: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, shares: "scipy.sparse.csr_array") -> Self:
        """Sum up shares, float64 (N, C)."""
        images = shares.shape[0]
        means = np.asarray(shares.sum(axis=0)).ravel() / max(images, 1)
        covariance = (shares.T @ shares).toarray() / max(images, 1) - np.multiply.outer(means, means)
        frequent = shares.count_nonzero(axis=0) >= LEAST_IMAGES
        return cls(images, means, covariance, frequent & (np.diagonal(covariance) > 1e-12 * means))


class UnitMoments(NamedTuple):
    """Moments of the mean activations of U units over the same images.

    Attributes
    ----------
    means, variances
        float64 (U,), divided by the number of images.
    covariance
        float64 (U, C): of each unit with the share of each concept.
    """

    means: Floats
    variances: Floats
    covariance: Floats

    @classmethod
    def of(cls, shares: "scipy.sparse.csr_array", activations: npt.NDArray[np.float32]) -> Self:
        """Sum up activations, float32 (U, N), and their products with shares, float64 (N, C)."""
        images = max(activations.shape[1], 1)
        means = activations.sum(axis=1, dtype=np.float64) / images
        centered = activations - means[:, None]
        variances = np.einsum("un,un->u", centered, centered) / images
        # What rounding leaves of a constant is no variance.
        varies = variances > 1e-14 * means**2
        covariance = np.where(varies[:, None], np.asarray(centered @ shares) / images, 0.0)
        return cls(means, np.where(varies, variances, 0.0), covariance)

    def units(self, chosen: slice) -> "UnitMoments":
        """Return the moments of some units."""
        return UnitMoments(*(array[chosen] for array in self))


class Terms(NamedTuple):
    """The concepts of the explanation of each unit, in the order in which they were chosen.

    Attributes
    ----------
    concepts
        int64 (U, 10): index of the concept; -1 after the last.
    correlations
        float64 (U, 10): of the least-squares fit of this concept and those before it with the unit, on the images on
        which they were chosen; NaN after the last.
    """

    concepts: Ints
    correlations: Floats


def select_terms(shares: ShareMoments, units: UnitMoments) -> Terms:
    """Choose the concepts of each unit; a constant unit has none."""
    count = len(units.means)
    parts = [
        _select(shares, units.units(slice(first, first + UNITS_AT_ONCE))) for first in range(0, count, UNITS_AT_ONCE)
    ]
    return Terms(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _select(shares: ShareMoments, units: UnitMoments) -> Terms:
    """Choose the concepts of some units: a step of the Cholesky decomposition of the covariance for each of them."""
    count, every = len(units.means), np.arange(len(units.means))
    concepts = np.full((count, MAX_TERMS), -1, np.int64)
    correlations = np.full((count, MAX_TERMS), np.nan)
    residual, own = units.covariance.copy(), np.diagonal(shares.covariance)
    free = np.tile(own, (count, 1))  # variance of each concept that the chosen ones leave
    directions = np.zeros((count, MAX_TERMS, len(own)))
    explained, active = np.zeros(count), units.variances > 0
    for term in range(MAX_TERMS):
        possible = shares.candidates & (free > COLLINEAR * own)
        gains = np.divide(residual**2, free, out=np.full_like(free, -1.0), where=possible)
        best = gains.argmax(axis=1)
        total = np.divide(explained + gains[every, best], units.variances, out=np.zeros(count), where=active)
        correlation, before = np.sqrt(np.clip(total, 0, 1)), correlations[:, term - 1] if term else np.zeros(count)
        active &= (gains[every, best] > 0) & ((correlation - before >= TOLERANCE) | (term == 0))
        if not active.any():
            break
        concepts[active, term], correlations[active, term] = best[active], correlation[active]
        scale = np.sqrt(np.where(active, free[every, best], 1.0))
        known = np.einsum("ut,utc->uc", directions[every, :, best], directions)
        direction = np.where(active[:, None], (shares.covariance[best] - known) / scale[:, None], 0.0)
        directions[:, term] = direction
        explained += np.where(active, gains[every, best], 0.0)
        residual -= direction * (residual[every, best] / scale)[:, None]
        free -= direction**2
    return Terms(concepts, correlations)


class LinearModels(NamedTuple):
    """One linear function of the shares of some concepts for each unit.

    Attributes
    ----------
    concepts
        int64 (U, T): index of the concept; -1: none.
    weights
        float64 (U, T): activation for a share of 1; 0 where there is no concept.
    intercepts
        float64 (U,): activation where all these shares are 0.
    """

    concepts: Ints
    weights: Floats
    intercepts: Floats


def fit(shares: ShareMoments, units: UnitMoments, concepts: Ints) -> LinearModels:
    """Fit the mean activation of each unit to the shares of its concepts, (U, T), by least squares.

    >>> data = scipy.sparse.csr_array(np.array([[0.0], [0.0], [0.5], [0.5]]))
    >>> activations = np.array([[1, 1, 4, 4]], np.float32)
    >>> fit(ShareMoments.of(data), UnitMoments.of(data, activations), np.array([[0]]))[1:]
    (array([[6.]]), array([1.]))
    """
    weights = np.zeros(concepts.shape)
    for unit, of_unit in enumerate(concepts):
        chosen = of_unit[of_unit >= 0]
        covariance = shares.covariance[np.ix_(chosen, chosen)]
        weights[unit, of_unit >= 0] = np.linalg.lstsq(covariance, units.covariance[unit, chosen])[0]
    intercepts = units.means - (weights * shares.means[concepts]).sum(axis=1)
    return LinearModels(concepts, weights, intercepts)


def standardized_weights(models: LinearModels, shares: ShareMoments, units: UnitMoments) -> Floats:
    """Return weights in standard deviations, float64 (U, T): of the activation for one of the share of the concept.

    Parameters
    ----------
    models
        Fitted on the images of these moments.
    shares, units
        Moments of shares and activations.

    Notes
    -----
    The weight of a rare concept is large because its shares are small; these do not depend on the scale of either.

    >>> data = scipy.sparse.csr_array(np.array([[0.0], [0.0], [0.5], [0.5]]))
    >>> moments = ShareMoments.of(data), UnitMoments.of(data, np.array([[1, 1, 4, 4]], np.float32))
    >>> standardized_weights(fit(*moments, np.array([[0]])), *moments)
    array([[1.]])
    """
    of_shares = np.maximum(np.diagonal(shares.covariance), 0)[models.concepts]
    of_units = np.where(units.variances > 0, units.variances, 1.0)
    return models.weights * np.sqrt(of_shares / of_units[:, None])


class LinearScores(NamedTuple):
    """How well linear functions predict the mean activations of units on other images, float64 (U,).

    Attributes
    ----------
    correlations
        Pearson correlation of prediction and mean activation; NaN if one is constant.
    r2
        1 - squared error / squared deviation from the mean of these images: below 0 if the mean predicts better; NaN if
        the unit is constant.
    """

    correlations: Floats
    r2: Floats


def heldout_scores(models: LinearModels, shares: ShareMoments, units: UnitMoments) -> LinearScores:
    """Score linear functions on the images of these moments."""
    concepts, weights = models.concepts, models.weights
    of_terms = np.take_along_axis(units.covariance, np.maximum(concepts, 0), axis=1)
    covariance = (weights * of_terms).sum(axis=1)
    pairs = shares.covariance[concepts[:, :, None], concepts[:, None, :]]
    predicted = np.einsum("us,ust,ut->u", weights, pairs, weights)
    offset = units.means - models.intercepts - (weights * shares.means[concepts]).sum(axis=1)
    error = units.variances - 2 * covariance + predicted + offset**2
    varies = units.variances > 0
    both = varies & (predicted > 1e-14 * np.maximum(units.variances, offset**2))
    scale = np.sqrt(np.where(both, units.variances * predicted, np.nan))
    r2 = 1 - error / np.where(varies, units.variances, np.nan)
    return LinearScores(np.clip(covariance / scale, -1, 1), r2)
