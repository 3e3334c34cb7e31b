"""Units of a run with similar activations: `matched_units` has those of two runs.

    CoActivation(result).nearest(layer, unit)    units of each layer that respond to the same images
    CoActivation(result).map_of(layer)           the units of a layer in two dimensions

Similarity is the correlation of maximum activations over the images whose maxima a run keeps; see
`netdissect.scoring.co_activation`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from netdissect.result import Result
from netdissect.result.queries import SampledMaxima, live_unit_maxima
from netdissect.scoring.co_activation import Floats, UnitMap, map_units, nearest_units, standardized

NEAREST_IN_LAYER, NEAREST_ACROSS = 6, 2
"""Similar units that are shown of a unit's own layer and of each other layer of its network."""
UNITS_AT_ONCE = 64
"""Units whose similar units are computed together: one alone would wait for the memory."""


@dataclass(frozen=True)
class SimilarUnit:
    """A unit that responds to the same images as another one."""

    layer: str
    unit: int
    correlation: float


class CoActivation:
    """The co-activation of the units of one run; what was read and computed is kept.

    Parameters
    ----------
    result
        The run.
    """

    def __init__(self, result: Result) -> None:
        self._result = result
        self._lock = Lock()
        self._maxima: dict[str, SampledMaxima] = {}
        self._standardized: dict[tuple[str, int], Floats] = {}
        self._maps: dict[str, UnitMap] = {}
        self._nearest: dict[tuple[str, int], dict[int, tuple[SimilarUnit, ...]]] = {}

    def is_known(self, layer: str) -> bool:
        """Return whether the run kept the maxima of a layer."""
        return "image_maxima" in self._result.layer(layer).statistics

    def images(self, layer: str) -> int:
        """Return the number of images over which units of a layer are correlated with one another."""
        return len(self._of_layer(layer).image_index)

    def nearest(self, layer: str, unit: int) -> tuple[SimilarUnit, ...]:
        """Return the units that are most similar to one: of its own layer, then of each other layer of the network.

        Only positive correlations count.

        Returns
        -------
        tuple of SimilarUnit
            By layer, best first. Empty for a dead unit, and for one whose maximum is the same on all images.
        """
        first = unit - unit % UNITS_AT_ONCE
        with self._lock:
            if (layer, first) not in self._nearest:
                self._nearest[layer, first] = dict(self._nearest_of_block(layer, first))
            return self._nearest[layer, first][unit]

    def map_of(self, layer: str) -> UnitMap:
        """Return the units of a layer in two dimensions."""
        with self._lock:
            if layer not in self._maps:
                self._maps[layer] = map_units(self._of_layer(layer).maxima)
            return self._maps[layer]

    def _nearest_of_block(self, layer: str, first: int) -> Iterator[tuple[int, tuple[SimilarUnit, ...]]]:
        units = np.arange(first, min(first + UNITS_AT_ONCE, self._result.layer(layer).info.units))
        found: list[list[SimilarUnit]] = [[] for _ in units]
        for other in self._layers(layer):
            left, right = self._on_shared_images(layer, other)
            count, own = (NEAREST_IN_LAYER, units) if other == layer else (NEAREST_ACROSS, None)
            nearest, values = nearest_units(left[units], right, count, own)
            for similar, others, correlations in zip(found, nearest.tolist(), values.tolist(), strict=True):
                pairs = zip(others, correlations, strict=True)
                similar += [SimilarUnit(other, unit, value) for unit, value in pairs if value > 0]
        return zip(units.tolist(), map(tuple, found), strict=True)

    def _layers(self, layer: str) -> list[str]:
        """Return a layer, then the other layers of the network, each once and without other bases of them."""
        same = self._result.same_as
        others = [
            name
            for name, each in self._result.layers.items()
            if each.info.basis_of is None and name != layer and same.get(layer, layer) != name and name not in same
        ]
        return [layer, *filter(self.is_known, others)]

    def _of_layer(self, layer: str) -> SampledMaxima:
        if layer not in self._maxima:
            self._maxima[layer] = live_unit_maxima(self._result, layer)
        return self._maxima[layer]

    def _on_shared_images(self, left: str, right: str) -> tuple[Floats, Floats]:
        first, second = self._of_layer(left), self._of_layer(right)
        shared = np.intersect1d(first.image_index, second.image_index)
        return self._standardized_of(left, shared), self._standardized_of(right, shared)

    def _standardized_of(self, layer: str, images: npt.NDArray[np.int64]) -> Floats:
        # The sample of a wide layer is a part of that of a narrow one: its size tells which images they are.
        key = layer, len(images)
        if key not in self._standardized:
            self._standardized[key] = standardized(self._of_layer(layer).of_images(images).maxima)
        return self._standardized[key]
