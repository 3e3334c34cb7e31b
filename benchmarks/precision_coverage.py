"""How often 95 % intervals of `netdissect evaluate-bases` hold the mean average precision of as many other images.

    python -m benchmarks.precision_coverage

Images are drawn from a distribution; the unit of each concept is given. The truth is the mean of many drawings of as
many images: average precision is higher on few images than on very many. Compared are the intervals as they are, whose
replicates are moved to the estimate, and plain percentiles of the replicates. The tests run a short form.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts
from netdissect.evaluation.dictionaries.logistic_probes import Probes
from netdissect.evaluation.dictionaries.probe_scores import ConceptScores, heldout_scores

Floats = npt.NDArray[np.float64]

CELLS = 4
MANY = 40_000
DRAWINGS = 200


class Population(NamedTuple):
    """How concepts and the codes of their units meet, cell by cell.

    Attributes
    ----------
    frequency
        float64 (C,): share of the images that have each concept, on about half of their cells.
    strength
        float64 (C,): by how many standard deviations of a cell a unit is higher on its concept.
    spread
        Standard deviation of what the cells of an image share.
    """

    frequency: Floats
    strength: Floats
    spread: float

    def scores(self, rng: np.random.Generator, images: int, replicates: int) -> ConceptScores:
        """Draw images and score the given units on them."""
        count, shape = len(self.frequency), (images, CELLS, len(self.frequency))
        present = (rng.random((images, 1, count)) < self.frequency) & (rng.random(shape) < 0.5)
        codes = rng.normal(size=shape) + self.spread * rng.normal(size=(images, 1, count)) + self.strength * present
        cells = images * CELLS
        labels = CellConcepts(
            np.repeat(np.arange(images), CELLS),
            scipy.sparse.csr_array(present.reshape(cells, count)),
            np.zeros(count, np.int64),
            np.ones((cells, 1), np.bool_),
            np.ones(cells, np.bool_),
        )
        probes = Probes(np.arange(count), np.zeros(count), np.ones(count), np.zeros(count))
        flat = np.asfortranarray(codes.reshape(cells, count), np.float32)
        return heldout_scores(flat, labels, probes, int(rng.integers(2**31)), replicates)


POPULATION = Population(np.geomspace(0.05, 0.4, 20), np.linspace(0.5, 2.5, 20), 0.7)


class Covered(NamedTuple):
    """In which share of the drawings an interval holds the mean average precision of as many images.

    Attributes
    ----------
    precision, plain_precision
        Of the mean average precision: the interval, and plain percentiles.
    truth, of_many
        Mean over drawings of as many images, and over very many images.
    """

    precision: float
    plain_precision: float
    truth: float
    of_many: float


def covered(simulations: int, images: int, replicates: int = 100, seed: int = 0) -> Covered:
    """Draw images many times, and say how often intervals hold the truth."""
    rng = np.random.default_rng(seed)
    of_many = POPULATION.scores(rng, MANY, 0).mean_average_precision
    truth = float(np.mean([POPULATION.scores(rng, images, 0).mean_average_precision for _ in range(DRAWINGS)]))
    held = np.zeros(2)
    for _ in range(simulations):
        found = POPULATION.scores(rng, images, replicates)
        plain = np.quantile(np.nanmean(found.replicates, axis=1), [0.025, 0.975])
        for place, (low, high) in enumerate((found.mean_interval, plain)):
            held[place] += low <= truth <= high
    return Covered(*(held / simulations).tolist(), truth, of_many)


if __name__ == "__main__":
    for images in (60, 120, 240, 480):
        print(f"{images} held-out images: {covered(1000, images)}")
