"""How well each word describes each unit, from image means of units and embeddings of images and words.

    unit_vectors -> WordTable (similarity of each image and word, a block of words at a time)
    ImageSample (which images count, how often, and whose embedding they have)
    word_scores(FUNCTIONS[name], FUNCTIONS[name].fits(sample, table)) -> float (U, B)

The four functions and their constants are those of CLIP-Dissect :cite:p:`oikarinen2023clipdissect` as its code has
them. P is the cosine of the embeddings of an image and of a word, P' its softmax over all words.
Two of them depend on what else is scored: soft-WPMI and WPMI on all words and on all units of the layer.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.evaluation.open_vocabulary.label_config import FunctionName

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

TABLE_BYTES = 2**28
"""Of the similarities of all images with one block of words."""
GATHERED = 2**22
"""Numbers that are gathered for some units at a time."""
LEAST_NORM = 1e-3


@dataclass(frozen=True)
class ImageSample:
    """Images of a data set, each counted some number of times.

    Attributes
    ----------
    activations
        float (N, U): mean activation of each unit in each image.
    order
        int (U, N): the images of each unit by falling activation, ties by index; see `rank_images`.
    weights
        int (N,): how often each image counts; 0 and 1 for a part of the images.
    rows
        int (N,): row of the embeddings of each image; a permutation of it is the null hypothesis.
    """

    activations: Floats
    order: npt.NDArray[np.int32]
    weights: Ints
    rows: Ints

    @property
    def size(self) -> int:
        """Number of images, each as often as it counts."""
        return int(self.weights.sum())

    def leading(self, count: int) -> Ints:
        """Return the images of highest activation of each unit, int (U, count), each as often as it counts."""
        many = self.weights[self.order]
        ends = np.minimum(np.cumsum(many, axis=1), count)
        taken = np.diff(ends, axis=1, prepend=0)
        return np.repeat(self.order.ravel(), taken.ravel()).reshape(len(self.order), count).astype(np.int64)


def rank_images(activations: Floats) -> npt.NDArray[np.int32]:
    """Return the images of each unit by falling activation, ties by index, int32 (U, N)."""
    return np.argsort(-activations.T, axis=1, kind="stable").astype(np.int32)


@dataclass(frozen=True)
class WordSpace:
    """Embeddings of images and words, all of length 1.

    Attributes
    ----------
    images, words
        float (N, D) and (W, D).
    """

    images: Floats
    words: Floats

    def blocks(self, units: int = 0) -> Iterator[slice]:
        """Yield blocks of words whose similarities with all images, and with so many units, fit into memory."""
        step = max(1, TABLE_BYTES // (max(len(self.images), units) * 8))
        for start in range(0, len(self.words), step):
            yield slice(start, min(start + step, len(self.words)))

    def cosines(self, words: slice | Ints) -> Floats:
        """Return P of some words, float (N, B)."""
        return np.asarray(self.images @ self.words[words].T)

    @cached_property
    def _normalizers(self) -> dict[float, Floats]:
        return {}

    def softmax(self, words: slice | Ints, factor: float) -> Floats:
        """Return P' of some words, float (N, B): the softmax over all words of the factor times P."""
        if factor not in self._normalizers:
            total = np.full(len(self.images), -np.inf, self.images.dtype)
            for block in self.blocks():
                total = np.logaddexp(total, scipy.special.logsumexp(factor * self.cosines(block), axis=1))
            self._normalizers[factor] = total
        return np.asarray(np.exp(factor * self.cosines(words) - self._normalizers[factor][:, None]))


class SimilarityFunction(Protocol):
    """A function of CLIP-Dissect.

    Attributes
    ----------
    prior
        Factor of log P(D), which is subtracted from the fits; 0: the fits are the scores.
    images_needed
        How many images a sample must have: soft-WPMI and WPMI read as many, those of highest activation.
    """

    @property
    def prior(self) -> float:
        """See the class."""

    @property
    def images_needed(self) -> int:
        """See the class."""

    def table(self, space: WordSpace, words: slice | Ints) -> Floats:
        """Return what `fits` reads of each image and of some words, float (N, B)."""

    def fits(self, sample: ImageSample, table: Floats) -> Floats:
        """Return the fit of each unit and word, float (U, B); -inf for a word that cannot be one's label."""


@dataclass(frozen=True)
class SoftWPMI:
    """Soft weighted pointwise mutual information.

    Notes
    -----
    ``log P(D|t) = sum_i log(1 + p_i (P'_it - 1) + 1e-7)`` over the 100 images i = 0..99 of highest activation, which
    belong to the unit with probability ``p_i = 0.998 - i / 100 * (0.998 - 0.97)``. ``log P(D)`` is the logarithm of the
    mean of ``P(D|t)`` over the units of the layer, for each word. The score is ``log P(D|t) - log P(D)``.
    """

    images_needed: int = 100
    factor: float = 10.0
    prior: float = 1.0
    first: float = 0.998
    last: float = 0.97
    least: float = 1e-7

    def table(self, space: WordSpace, words: slice | Ints) -> Floats:
        """Return P'."""
        return space.softmax(words, self.factor)

    def fits(self, sample: ImageSample, table: Floats) -> Floats:
        """Return the fits of all units and of the words of a table."""
        images = sample.rows[sample.leading(self.images_needed)]
        member = self.first - np.arange(self.images_needed) / self.images_needed * (self.first - self.last)
        fits = np.empty((len(images), table.shape[1]))
        for some in _blocks(len(images), table.shape[1]):
            # One logarithm of the product, which is above 1e-270: each of its hundred factors is at least 0.002.
            product = np.ones_like(fits[some])
            for image, belongs in zip(images[some].T, member, strict=True):
                product *= belongs * table[image].astype(np.float64) + (1 - belongs + self.least)
            fits[some] = np.log(product)
        return fits


@dataclass(frozen=True)
class WPMI:
    """Weighted pointwise mutual information.

    Notes
    -----
    ``log P(D|t) = sum_i log(P'_it + 1e-7)`` over the 28 images of highest activation; the score is
    ``log P(D|t) - 0.6 log P(D)``, with ``log P(D)`` as in `SoftWPMI`.
    """

    images_needed: int = 28
    factor: float = 2.0
    prior: float = 0.6
    least: float = 1e-7

    def table(self, space: WordSpace, words: slice | Ints) -> Floats:
        """Return the logarithm of P'."""
        return np.asarray(np.log(space.softmax(words, self.factor) + self.least))

    def fits(self, sample: ImageSample, table: Floats) -> Floats:
        """Return the fits of all units and of the words of a table."""
        images = sample.rows[sample.leading(self.images_needed)]
        fits = np.empty((len(images), table.shape[1]), table.dtype)
        for some in _blocks(len(images), images.shape[1] * table.shape[1]):
            fits[some] = table[images[some]].sum(axis=1)
        return fits


@dataclass(frozen=True)
class RankReorder:
    """Error of the activations when the images are put in the order of the word.

    Notes
    -----
    Of the ``n = int(0.05 N)`` images of highest activation, each gets the activation of its rank by P. The error is the
    mean of ``|a - reordered a|^3``, over that of a random order, over the square root of the mean P; the score is its
    negative. CLIP-Dissect estimates the error of a random order from five of them; here it is its expectation,
    ``sum_ij |a_i - a_j|^3 / n^2``: one factor for each unit, which changes no choice of a word. A word whose mean P is
    not positive has no such score.
    """

    share: float = 0.05
    power: float = 3.0
    scale: float = 0.5
    prior: float = 0.0

    @property
    def images_needed(self) -> int:
        """Those of which two are leading."""
        return math.ceil(2 / self.share)

    def table(self, space: WordSpace, words: slice | Ints) -> Floats:
        """Return P."""
        return space.cosines(words)

    def fits(self, sample: ImageSample, table: Floats) -> Floats:
        """Return the fits of all units and of the words of a table."""
        leading = sample.leading(int(sample.size * self.share))
        falling = np.take_along_axis(sample.activations.T, leading, axis=1).astype(table.dtype)
        images, scores = sample.rows[leading], np.empty((len(leading), table.shape[1]), table.dtype)
        for some in _blocks(len(images), images.shape[1] * table.shape[1]):
            values = table[images[some]]
            activations = falling[some]
            # In the order of P, rising, the word has the activations rising.
            order = np.argsort(values, axis=1, kind="stable")
            moved = np.take_along_axis(activations[:, :, None], order, axis=1) - activations[:, ::-1, None]
            errors = (np.abs(moved) ** self.power).mean(axis=1)
            differences = np.abs(activations[:, :, None] - activations[:, None, :]) ** self.power
            means = values.mean(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                found = -errors / differences.mean(axis=(1, 2))[:, None] / means**self.scale
            scores[some] = np.where((means > 0) & np.isfinite(found), found, -np.inf)
        return scores


@dataclass(frozen=True)
class CosCubed:
    """Cosine of the cubes of centered activations and centered P, over all images.

    Notes
    -----
    See `centered_cubes`.
    """

    prior: float = 0.0
    images_needed: int = 2  # one alone is its own mean

    def table(self, space: WordSpace, words: slice | Ints) -> Floats:
        """Return P."""
        return space.cosines(words)

    def fits(self, sample: ImageSample, table: Floats) -> Floats:
        """Return the fits of all units and of the words of a table."""
        weights = sample.weights.astype(table.dtype)
        of_units = centered_cubes(sample.activations.astype(table.dtype), weights)
        of_words = centered_cubes(table[sample.rows], weights)
        return np.asarray((of_units * weights[:, None]).T @ of_words)


FUNCTIONS: Mapping[FunctionName, SimilarityFunction] = {
    "soft-wpmi": SoftWPMI(),
    "wpmi": WPMI(),
    "rank-reorder": RankReorder(),
    "cos-cubed": CosCubed(),
}


def centered_cubes(values: Floats, weights: Floats) -> Floats:
    """Return the cubes of values less their mean, divided by their norm, (N, K); a norm below 0.001 counts as 0.001.

    Parameters
    ----------
    values
        float (N, K).
    weights
        float (N,): how often each row counts, in mean and norm.
    """
    cubes = (values - weights @ values / weights.sum()) ** 3
    return np.asarray(cubes / np.maximum(np.sqrt(weights @ cubes**2), LEAST_NORM))


def word_scores(function: SimilarityFunction, fits: Floats) -> Floats:
    """Return the scores of all units of a layer and of some words, float (U, B), from their fits.

    Notes
    -----
    Where the factor of the prior is 1, no score exceeds the logarithm of the number of units: the mean of P(D|t) over
    the units is at least the unit's own share of it. A unit that fits a word much better than all others has it.
    """
    if not function.prior:
        return fits
    return np.asarray(fits - function.prior * (scipy.special.logsumexp(fits, axis=0) - np.log(len(fits))))


def _blocks(units: int, numbers: int) -> Iterator[slice]:
    """Yield blocks of units, each with as many numbers as are gathered at a time."""
    step = max(1, GATHERED // numbers)
    for start in range(0, units, step):
        yield slice(start, start + step)
