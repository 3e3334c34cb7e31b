"""All metrics at image level, of pairs of a unit and a concept.

ImageLevel(activations, shares, held_out).score(metric, Pairs(units, concepts)) -> float64 (P,)
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.evaluation.evaluate_config import ACTIVE_SHARE
from netdissect.evaluation.label_metrics import IMAGE_SCORES, LabelMetric
from netdissect.evaluation.scores import AnyFloats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PAIRS = 256  # whose images are in memory together


class Pairs(NamedTuple):
    """P pairs of a unit and a concept.

    Attributes
    ----------
    units, concepts
        int64 (P,): columns of activations and of shares.
    """

    units: Ints
    concepts: Ints


@dataclass(frozen=True, eq=False)
class ImageLevel:
    """What a run knows of the units of one layer and of its concepts, image by image.

    Attributes
    ----------
    activations
        float (N, U): mean activation of each unit on each image.
    shares
        float (N, C): share of the pixels of each image that have each concept, in the order of `Result.concepts`.
    held_out
        bool (N,): images on which the simulation correlation is measured.
    active_share
        See `netdissect.evaluation.scores.active_images`.
    """

    activations: AnyFloats
    shares: AnyFloats
    held_out: npt.NDArray[np.bool_]
    active_share: float = ACTIVE_SHARE

    @property
    def units(self) -> int:
        """Units of the layer."""
        return int(self.activations.shape[1])

    def of_held_out(self) -> "ImageLevel":
        """Return the held-out images alone."""
        chosen = self.held_out
        return replace(self, activations=self.activations[chosen], shares=self.shares[chosen], held_out=chosen[chosen])

    def score(self, metric: LabelMetric, pairs: Pairs) -> Floats:
        """Return the score of each pair, float64 (P,)."""
        images, found = self.of_held_out() if metric.on_held_out else self, []
        score = IMAGE_SCORES[metric.name]
        for start in range(0, len(pairs.units), _PAIRS):
            units, concepts = (values[start : start + _PAIRS] for values in pairs)
            labels = (
                images.shares[:, concepts] if metric.on_held_out else (images.shares[:, concepts] > 0).astype(float)
            )
            distinct, position = np.unique(units, return_inverse=True)
            read = score.reads(images.activations[:, distinct])[:, position]
            found.append(score.of(read, labels, self.active_share))
        return np.concatenate(found) if found else np.empty(0)
