"""How much more a formula explains than the best single concept: a paired bootstrap over images.

    ImageRows, MaskRows, formula -> FormulaPixels of each image -> replicates of IoU -> interval, gain, p-value

A formula is chosen among a million, a concept among a hundred, so on the images that chose them the formula always
wins. Both are scored on images that had no part in the choice, with the same weights of the images in each replicate.
Thresholds are those of all images.

Sources: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`, section 13.3 (percentile interval); Benjamini and
Hochberg 1995 :cite:p:`benjamini1995controlling`.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.compose_config import ComposeConfig
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.image_rows import ImageRows, MaskRows
from netdissect.scoring.iou import iou
from netdissect.scoring.statistics.bootstrap import Weights, add_weighted, percentile_interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class FormulaPixels(NamedTuple):
    """Pixels of one unit and one formula on each of n images.

    Attributes
    ----------
    intersection, mask, formula
        int64 (n,): pixels of both, active pixels, and pixels that the formula covers, on images that count.
    """

    intersection: Ints
    mask: Ints
    formula: Ints

    @classmethod
    def of(cls, images: ImageRows, of_unit: MaskRows, formula: Formula, config: ComposeConfig, count: int) -> Self:
        """Count them on `count` images, under the restriction of a configuration."""
        table = images.table
        categories = formula.categories(table) if config.restriction == "annotated" else 0
        counted = table.is_annotated(categories)
        covered = formula.covers(table) & counted
        intersection, mask = (
            np.bincount(of_unit.image_index, of_unit.active * rows[of_unit.rows], count).astype(np.int64)
            for rows in (covered, counted)
        )
        return cls(intersection, mask, images.pixels_by_image(covered, count))

    def of_images(self, chosen: Bools) -> Self:
        """Return the same, with no pixels on the images that are not chosen, bool (n,)."""
        return type(self)(*(np.where(chosen, pixels, 0) for pixels in self))

    @property
    def iou(self) -> float:
        """IoU over all images; 0 if the union is empty."""
        return float(iou(*(np.array(pixels.sum()) for pixels in self)))

    def replicates(self, weights: Weights) -> Floats:
        """Return the IoU in each of R replicates, float64 (R,); `weights` of each image in them, uint8 (n, R)."""
        stacked = np.stack(self)
        kinds, images = stacked.nonzero()
        sums = np.zeros((len(stacked), weights.shape[1]), np.int64)
        add_weighted(kinds, images, stacked[kinds, images], weights, sums)
        return np.asarray(iou(*sums))


class Gain(NamedTuple):
    """The IoU of a formula less that of a single concept on the same images.

    Attributes
    ----------
    gain
        The difference.
    low, high
        Its 95 % interval; None without a bootstrap.
    p_value
        One-sided: that the formula gains nothing; None without a bootstrap.
    """

    gain: float
    low: float | None
    high: float | None
    p_value: float | None


def paired_gain(formula: FormulaPixels, concept: FormulaPixels, weights: Weights) -> Gain:
    """Compare a formula with a single concept, with the same weights of the images for both.

    Parameters
    ----------
    formula, concept
        Pixels on the images on which both are scored.
    weights
        uint8 (n, R); see `netdissect.scoring.statistics.bootstrap.poisson_weights`.

    Notes
    -----
    The p-value is (1 + k) / (1 + R) for k replicates in which the formula is not above the concept.

    Examples
    --------
    >>> one, two = np.array([4, 0]), np.array([4, 4])
    >>> formula = FormulaPixels(intersection=two, mask=two, formula=two)
    >>> concept = FormulaPixels(intersection=one, mask=two, formula=one)
    >>> paired = paired_gain(formula, concept, np.array([[1, 2, 0], [1, 1, 2]], np.uint8))
    >>> paired.gain, round(paired.low, 3), round(paired.high, 3), paired.p_value
    (0.5, 0.342, 0.975, 0.25)
    """
    gain = formula.iou - concept.iou
    if not weights.shape[1]:
        return Gain(gain, None, None, None)
    gains = formula.replicates(weights) - concept.replicates(weights)
    low, high = percentile_interval(gains)
    return Gain(gain, low, high, float((1 + (gains <= 0).sum()) / (1 + len(gains))))
