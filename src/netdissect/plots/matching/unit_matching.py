"""Units of two runs on the same images, matched by their activations."""

from dataclasses import dataclass

import numpy as np

from netdissect.errors import ResultError
from netdissect.result import Result
from netdissect.result.queries import live_unit_maxima
from netdissect.scoring.co_activation import best_matches, standardized


@dataclass(frozen=True)
class UnitPair:
    """A unit of one run and its best match in another; mutual: each is the best match of the other."""

    left_unit: int
    right_unit: int
    correlation: float
    mutual: bool


@dataclass(frozen=True)
class UnitMatching:
    """The matched units of two layers.

    Attributes
    ----------
    images
        Number of images over which activations are correlated.
    pairs
        Highest correlation first, then by the left unit. Dead units, and those whose maximum is the same on all
        images, have none.
    """

    images: int
    pairs: tuple[UnitPair, ...]


def match_units(left: Result, left_layer: str, right: Result, right_layer: str) -> UnitMatching:
    """Match each unit of a layer with the most similar unit of a layer of another run on the same images.

    Raises
    ------
    ResultError
        If the runs used other images, or kept no maxima of them.
    """
    if left.info.data.digest != right.info.data.digest:
        raise ResultError(
            f"the runs used different images: {left.info.data.images} of {left.info.data.root} and "
            f"{right.info.data.images} of {right.info.data.root}. Units are matched by their activations on the same "
            "images: dissect both networks on the same data set, with the same choice of images."
        )
    first, second = live_unit_maxima(left, left_layer), live_unit_maxima(right, right_layer)
    shared = np.intersect1d(first.image_index, second.image_index)
    matches = best_matches(*(standardized(each.of_images(shared).maxima) for each in (first, second)))
    found = zip(matches.units.tolist(), matches.correlations.tolist(), matches.mutual.tolist(), strict=True)
    pairs = [UnitPair(unit, other, value, mutual) for unit, (other, value, mutual) in enumerate(found) if other >= 0]
    return UnitMatching(len(shared), tuple(sorted(pairs, key=lambda pair: (-pair.correlation, pair.left_unit))))
