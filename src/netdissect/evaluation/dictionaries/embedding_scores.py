"""Whether the images of a unit look alike to another model.

    values of images, embeddings -> EmbeddingSums.update -> EmbeddingSums.monosemanticity
    values of images             -> TopImageList.update  -> clarity, redundancy of the embeddings of the top images

Embeddings have length 1 and are those of a model other than the dissected network: its own would agree with its units
by construction.

Sources: monosemanticity, Pach et al. 2025 :cite:p:`pach2025sparse`: the mean cosine of all pairs of images, each
weighted by the product of the values of the unit, scaled to 0..1. Scaling is affine, so that sums of one pass give the
sum over pairs. Clarity and redundancy: Dreyer et al. 2025 :cite:p:`dreyer2025mechanistic`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

AnyFloats = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOP_IMAGES = 25
_BLOCK = 512  # units that are compared with all others at a time


@dataclass(eq=False)
class EmbeddingSums:
    """Sums over images of the values of K units and the embeddings of D numbers; adds up.

    Attributes
    ----------
    images
        Number of images.
    embedding
        float64 (D,).
    value, square, low, high
        float64 (K,): sums of values and of their squares, lowest and highest value.
    products
        float64 (K, D): sums of value times embedding.
    """

    images: int
    embedding: Floats
    value: Floats
    square: Floats
    low: Floats
    high: Floats
    products: Floats

    @classmethod
    def zeros(cls, units: int, size: int) -> Self:
        """Return the sums of no images."""
        ends = np.full(units, np.inf), np.full(units, -np.inf)
        return cls(0, np.zeros(size), np.zeros(units), np.zeros(units), *ends, np.zeros((units, size)))

    def update(self, values: AnyFloats, embeddings: AnyFloats) -> None:
        """Add images: values (B, K) and embeddings of length 1, (B, D)."""
        wide, of_images = values.astype(np.float64), embeddings.astype(np.float64)
        self.images += len(wide)
        self.embedding += of_images.sum(axis=0)
        self.value += wide.sum(axis=0)
        self.square += (wide**2).sum(axis=0)
        self.low = np.minimum(self.low, wide.min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, wide.max(axis=0, initial=-np.inf))
        self.products += wide.T @ of_images

    def __add__(self, other: Self) -> Self:
        sums = self.embedding + other.embedding, self.value + other.value, self.square + other.square
        ends = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return type(self)(self.images + other.images, *sums, *ends, self.products + other.products)

    def monosemanticity(self) -> Floats:
        """Return the score of each unit, float64 (K,); NaN where its values are constant, or above 0 on one image."""
        spread = self.high - self.low
        scale = np.divide(1.0, spread, out=np.full_like(spread, np.nan), where=(spread > 0) & np.isfinite(spread))
        shift = np.where(np.isfinite(scale), -scale * np.where(np.isfinite(self.low), self.low, 0), np.nan)
        total = scale * self.value + shift * self.images
        squares = scale**2 * self.square + 2 * scale * shift * self.value + shift**2 * self.images
        products = scale[:, None] * self.products + shift[:, None] * self.embedding
        pairs = total**2 - squares
        # One image of the value 1 and all others 0: there is no pair, up to rounding.
        defined = np.isfinite(pairs) & (pairs > 1e-9 * total**2)
        similar = (products**2).sum(axis=1) - squares
        return np.asarray(np.divide(similar, pairs, out=np.full_like(pairs, np.nan), where=defined))


@dataclass(eq=False)
class TopImageList:
    """The images of the highest values of each of K units so far, of equal ones the first.

    Attributes
    ----------
    values, images
        float32 (K, n) and int64 (K, n), best first.
    keep
        Number of images of a unit.
    """

    values: npt.NDArray[np.float32]
    images: Ints
    keep: int = TOP_IMAGES

    @classmethod
    def empty(cls, units: int) -> Self:
        """Return lists of no images."""
        return cls(np.empty((units, 0), np.float32), np.empty((units, 0), np.int64))

    def update(self, values: npt.NDArray[np.float32], images: Ints) -> None:
        """Add images whose numbers are above those so far: values (B, K), int64 (B,)."""
        joined = np.concatenate([self.values, values.T], axis=1)
        numbers = np.concatenate([self.images, np.broadcast_to(images, (len(joined), len(images)))], axis=1)
        order = np.argsort(-joined, axis=1, kind="stable")[:, : self.keep]
        self.values, self.images = (np.take_along_axis(part, order, axis=1) for part in (joined, numbers))


def clarity(embeddings: AnyFloats, images: Ints) -> Floats:
    """Return the mean cosine of the embeddings of two top images of each unit, float64 (K,).

    Parameters
    ----------
    embeddings
        (N, D), of length 1.
    images
        int64 (K, n): top images of each unit.

    Notes
    -----
    ``n / (n - 1) * (|mean|^2 - 1 / n)``, as semanticlens computes it, is the mean over pairs.
    """
    count = images.shape[1]
    if count < 2:
        return np.full(len(images), np.nan)
    means = _top_means(embeddings, images)
    return np.asarray((count * (means**2).sum(axis=1) - 1) / (count - 1))


def redundancy(embeddings: AnyFloats, images: Ints) -> Floats:
    """Return the largest cosine of a unit with another one, float64 (K,).

    A unit has the direction of the mean embedding of its top images.
    """
    means = _top_means(embeddings, images)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    directions = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    found = np.full(len(means), np.nan)
    for start in range(0, len(means) if len(means) > 1 else 0, _BLOCK):
        part = directions[start : start + _BLOCK] @ directions.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        found[start : start + len(part)] = part.max(axis=1)
    return found


def _top_means(embeddings: AnyFloats, images: Ints) -> Floats:
    """Return the mean embedding of the top images of each unit, float64 (K, D)."""
    return np.stack([embeddings[rows].mean(axis=0, dtype=np.float64) for rows in images])
