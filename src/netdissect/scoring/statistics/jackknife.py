r"""Intervals of single IoUs over images.

IoU is a ratio of sums over images, I / U. An image moves it by l = (I_i - IoU U_i) / U, so under Poisson weights its
variance is, to first order and without drawing any, the sum of l squared: the infinitesimal jackknife.

    blocks of Presence and Overlaps, IoU and Margin of each leading pair -> Moments -> iou_interval

The threshold is an order statistic of the same images, and moves with them: an image on which a unit is on more than on
average raises it, which takes pixels from the masks of all. `ThresholdShift` says how many of them lie on the concept;
without
it, intervals of planted units covered 85 to 97 %, with it 93 to 97 %.

The interval is Student's on the scale log(IoU / (1 - IoU)). Its degrees of freedom say of how many images' worth the
variance is known, which for a concept on few large images is few: 2 / (sum l^4 / (sum l^2)^2 - 1 / images).

On real images this covers 95 % where percentiles of the bootstrap cover 89 to 93 %, and the bias-corrected and
accelerated bootstrap 92 to 94 %: see the documentation, "How to read an IoU".

Sources: infinitesimal jackknife: Efron 1982 :cite:p:`efron1982jackknife`, chapter 6; degrees of freedom: Satterthwaite
1946 :cite:p:`satterthwaite1946`.
"""

from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from netdissect.jit import compiled
from netdissect.scoring.iou import Floats
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import LEVEL, Bools, CandidateConcepts, Ints, ThresholdShift


class PairArrays(NamedTuple):
    """What the compiled loop needs of P pairs.

    Attributes
    ----------
    starts
        int64 (U + 1,): where each unit's begin.
    label_ids, categories, pair_index
        See `CandidateConcepts`.
    scores
        float64 (P,): IoU over all images.
    lost
        float64 (P,): what the margin takes for each pixel in excess.
    mean
        float64 (P,): pixels of the unit's masks on an image, on average.
    """

    starts: Ints
    label_ids: Ints
    categories: Ints
    pair_index: Ints
    scores: Floats
    lost: Floats
    mean: Floats


@dataclass(frozen=True)
class InfluenceMoments:
    """Sums of powers of what each image does to a ratio; adds up over images, up to rounding.

    Attributes
    ----------
    second, fourth
        float64 (P,): sums of ``(I - IoU U - c (on - mean on))**2`` and ``**4`` in pixels, for each pair of `Leading`,
        where c is what the margin takes from ``I - IoU U`` for each pixel in excess.
    images
        int64 (1,): how many images were seen.
    """

    second: Floats
    fourth: Floats
    images: Ints

    @classmethod
    def zeros(cls, leading: CandidateConcepts) -> "InfluenceMoments":
        """Return the moments of no images."""
        pairs = len(leading.units)
        return cls(np.zeros(pairs), np.zeros(pairs), np.zeros(1, np.int64))

    def update(
        self,
        presence: ImageLabelCounts,
        masks: ImageIntersections,
        counted: Bools,
        leading: CandidateConcepts,
        scores: Floats,
        margin: ThresholdShift,
    ) -> None:
        """Add some images.

        Parameters
        ----------
        presence, masks
            Their labels and their masks at one quantile.
        counted
            bool (M, K): whether a mask counts in each category; see
            `netdissect.scoring.statistics.bootstrap.counted_masks`.
        leading
            The pairs.
        scores
            float64 (P,): their IoUs over all images.
        margin
            What a rising threshold takes from them.
        """
        here = np.searchsorted(presence.images, presence.image_index)
        truth = np.zeros((len(presence.images), leading.pair_index.shape[1]))
        truth[here, presence.label_ids] = presence.pixels
        lost = margin.intersection - scores * (margin.activation - margin.intersection)
        mean = margin.mask_pixels[leading.units] / margin.images
        powers = [(truth**power).sum(axis=0)[leading.label_ids] for power in range(5)]
        for power, sums in ((2, self.second), (4, self.fourth)):
            # As if no unit were on, (c mean - IoU T)**power: the masks below put right the images where one is.
            for taken in range(power + 1):
                sums += comb(power, taken) * (lost * mean) ** (power - taken) * (-scores) ** taken * powers[taken]
        starts = np.searchsorted(leading.units, np.arange(len(leading.pair_index) + 1))
        pairs = PairArrays(starts, leading.label_ids, leading.categories, leading.pair_index, scores, lost, mean)
        places = np.searchsorted(presence.images, masks.image_index)
        _add_masks(masks, places, counted, truth, pairs, (self.second, self.fourth))
        self.images[0] += len(presence.images)


@compiled
def _add_masks(
    masks: ImageIntersections,
    places: Ints,
    counted: Bools,
    truth: Floats,
    pairs: PairArrays,
    sums: tuple[Floats, Floats],
) -> None:
    """Put the moments right on images, at `places` of `truth`, where a unit is on."""
    _, _, units, on, labels, numbers, intersections = masks
    starts, leading, categories, pair_of, scores, lost, mean = pairs
    second, fourth = sums
    hits = np.zeros(len(leading), np.float64)
    entry = 0
    for mask in range(len(units)):
        unit, first = units[mask], entry
        for entry in range(first, first + labels[mask]):
            pair = pair_of[unit, numbers[entry]]
            if pair >= 0:
                hits[pair] = intersections[entry]
        entry = first + labels[mask]
        for pair in range(starts[unit], starts[unit + 1]):
            bears = truth[places[mask], leading[pair]]
            covers = on[mask] if counted[mask, categories[pair]] else 0
            without = lost[pair] * mean[pair] - scores[pair] * bears
            moved = hits[pair] - scores[pair] * (covers + bears - hits[pair]) - lost[pair] * (on[mask] - mean[pair])
            second[pair] += moved**2 - without**2
            fourth[pair] += moved**4 - without**4
            hits[pair] = 0


def iou_interval(scores: Floats, union: npt.ArrayLike, moments: InfluenceMoments) -> tuple[Floats, Floats]:
    """Return the 95 % interval of IoUs.

    Parameters
    ----------
    scores
        float64 (P,).
    union
        Their unions in pixels, (P,).
    moments
        Of the same pairs.

    Returns
    -------
    low, high
        float64 (P,); both the IoU itself where it is 0 or 1, or where no image moves it.
    """
    second = np.maximum(moments.second, 0)
    known = (scores > 0) & (scores < 1) & (second > 0)
    share = np.divide(moments.fourth, second**2, out=np.ones_like(second), where=known)
    freedom = 2 / np.clip(share - 1 / max(int(moments.images[0]), 1), 1e-9, 1)
    inside = np.where(known, scores, 0.5)
    error = np.sqrt(second) / np.maximum(np.asarray(union, np.float64), 1) / (inside * (1 - inside))
    reach = scipy.special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    middle = np.log(inside / (1 - inside))
    low, high = (1 / (1 + np.exp(-np.clip(middle + sign * reach, -700, 700))) for sign in (-1, 1))
    return np.where(known, low, scores), np.where(known, high, scores)
