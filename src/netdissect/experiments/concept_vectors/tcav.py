"""TCAV: how often the score of a class rises along the vector of a concept, and whether random vectors do the same.

    cells, concepts, gradients of classes -> tcav_rows -> a row for each class and concept of one layer

A concept vector is the mean of the cells with the concept less that of a random set: the direction of FastCAV. The TCAV
score of a class is the share of its images on which the derivative of the class's score along the vector is above 0.
There is a score for each of many random sets, and as many scores of random sets against each other; Student's t test
compares the two.

Sources: TCAV, Kim et al. 2018 :cite:p:`kim2018tcav`, sections 3.3 to 3.5; FastCAV, Schmalwasser et al. 2025
:cite:p:`schmalwasser2025fastcav`.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy
import scipy.sparse
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import OneOrMore
from netdissect.config_fields import Config, Option
from netdissect.errors import ConfigError
from netdissect.evaluation.dictionaries.code_matrix import CellConcepts

Cells = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIGNIFICANT = 0.05
SCHEMA: dict[str, Any] = {
    "layer": pl.String, "class": pl.String, "concept": pl.String, "category": pl.String, "images": pl.Int64,
    "tcav": pl.Float64, "tcav_sd": pl.Float64, "random_tcav": pl.Float64, "random_tcav_sd": pl.Float64,
    "p_value": pl.Float64, "null_tcav": pl.Float64, "null_p_value": pl.Float64,
}  # fmt: skip
"""Of the rows; `with_adjusted` adds ``adjusted_p_value`` and ``null_adjusted_p_value``."""


class TcavConfig(Config):
    """Which classes are tested, and against how many random sets."""

    random_sets: Annotated[int, Option("--tcav")] = Field(
        0,
        ge=0,
        description=(
            "Also test which classes of a classifier depend on each concept (TCAV), with this many random sets; the "
            "source takes 500. 0: no test."
        ),
    )
    target_classes: Annotated[tuple[str, ...], OneOrMore, Option("--target-class")] = Field(
        (), description="Classes by name or index of the output; repeats. None: those that are predicted most often."
    )
    top_classes: int = Field(5, gt=0, description="How many of those that are predicted most often.")
    images_per_class: int = Field(200, gt=0, description="Images of a class at most, drawn at random.")
    examples: int = Field(
        50, gt=0, description="Cells of a set, of images drawn at random. Concepts of fewer images are left out."
    )

    def check(self) -> bool:
        """Return whether anything is tested.

        Raises
        ------
        ConfigError
            If there is a single set, which no test takes, or classes are named and not tested.
        """
        if self.random_sets == 1:
            raise ConfigError(
                "--tcav 1 gives one score, which no t test takes. Expected 2 or more; the source has 500."
            )
        if self.target_classes and not self.random_sets:
            raise ConfigError("--target-class names classes, and nothing is tested for them. Expected --tcav 500, too.")
        return self.random_sets > 0


class LayerCells(NamedTuple):
    """Cells of a layer, float32 (N, U), and their concepts."""

    layer: str
    cells: Cells
    labels: CellConcepts


class ClassGradients(NamedTuple):
    """A class, and the gradients of its score in one layer, float64 (n, U), on n images that it is predicted on."""

    name: str
    values: Floats


class TcavScores(NamedTuple):
    """TCAV scores of K classes, float64 (sets, K) each.

    Attributes
    ----------
    concept
        Of sets of cells of the concept, each against a random set.
    null
        The same of random images in place of those with the concept.
    random
        Of random sets against other random sets.
    """

    concept: Floats
    null: Floats
    random: Floats


def tcav_rows(
    of: LayerCells, data: ConceptData, gradients: Sequence[ClassGradients], config: TcavConfig, seed: int
) -> pl.DataFrame:
    """Return the scores and tests of each class and concept of a layer.

    Parameters
    ----------
    of
        Cells of the selection half.
    data
        The data set.
    gradients
        Of each class, on images of the other half.
    config, seed
        Number and size of the sets, and what they are drawn by.
    """
    rows = []
    for concept, scores in concept_scores(of, [each.values for each in gradients], config, seed):
        p_value, null_p_value = (t_test(each, scores.random) for each in (scores.concept, scores.null))
        means, deviations = ([each.mean(axis=0) for each in scores], [each.std(axis=0, ddof=1) for each in scores])
        name, category = data.concepts[concept].name, data.concepts[concept].category
        for index, of_class in enumerate(gradients):
            own, null, random = (each[index] for each in means)
            spread, _, random_spread = (each[index] for each in deviations)
            values = (own, spread, random, random_spread, p_value[index], null, null_p_value[index])
            rows.append((of.layer, of_class.name, name, category, len(of_class.values), *values))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def with_adjusted(table: pl.DataFrame) -> pl.DataFrame:
    """Add p-values that are adjusted for the number of tests in the table by Bonferroni, as in the source."""
    adjusted = (
        (pl.col(name) * len(table)).clip(upper_bound=1).alias(name.replace("p_value", "adjusted_p_value"))
        for name in ("p_value", "null_p_value")
    )
    return table.with_columns(*adjusted)


def concept_scores(
    of: LayerCells, gradients: Sequence[Floats], config: TcavConfig, seed: int
) -> Iterator[tuple[int, TcavScores]]:
    """Yield the TCAV scores of each concept of enough images.

    Random sets are of the images that are annotated in the category of the concept, as everywhere in netdissect.

    Parameters
    ----------
    of
        Cells with their concepts.
    gradients
        float64 (n, U) of each of K classes.
    config, seed
        Number and size of the sets, and what they are drawn by.
    """
    labels = of.labels
    image_index = labels.image_index
    for category in range(labels.annotated.shape[1]):
        draws = _SetDraws(of, gradients, config, np.random.default_rng((seed, category)))
        concepts = np.flatnonzero(labels.category_of == category).tolist()
        own = {each: np.flatnonzero(labels.labels_of(each)) for each in concepts}
        images = {each: len(np.unique(image_index[rows])) for each, rows in own.items()}
        enough = [each for each, count in images.items() if count >= config.examples]
        if not enough:
            continue
        every = np.flatnonzero(labels.annotated[:, category])
        against, one, other = (draws.products(every) for _ in range(3))
        random = draws.scores(one - other)
        for concept in enough:
            null = draws.products(draws.rows_of_random_images(every, images[concept]))
            scores = draws.scores(draws.products(own[concept]) - against), draws.scores(null - against)
            yield concept, TcavScores(*scores, random)


class _SetDraws:
    """Draws sets of cells, and takes their products with the gradients of all images of K classes, n in all."""

    def __init__(
        self, of: LayerCells, gradients: Sequence[Floats], config: TcavConfig, rng: np.random.Generator
    ) -> None:
        self._of, self._rng, self._shape = of, rng, (config.random_sets, config.examples)
        self._slopes, self._ends = np.concatenate(gradients).T, np.cumsum([len(each) for each in gradients])[:-1]

    def products(self, rows: Ints) -> Floats:
        """Return the products of the means of sets that are drawn from rows with the gradients, float64 (sets, n)."""
        return set_means(self._of.cells, draw_sets(self._rng, self._of.labels.image_index, rows, self._shape)) @ (
            self._slopes
        )

    def scores(self, derivatives: Floats) -> Floats:
        """Return the share of derivatives (sets, n) that are above 0 among the images of each class, (sets, K)."""
        return np.stack([(part > 0).mean(axis=1) for part in np.split(derivatives, self._ends, axis=1)], axis=1)

    def rows_of_random_images(self, rows: Ints, count: int) -> Ints:
        """Return those of the rows that belong to `count` images drawn at random."""
        images = self._of.labels.image_index[rows]
        drawn = np.isin(images, self._rng.choice(np.unique(images), count, replace=False))
        return rows[drawn]


def draw_sets(rng: np.random.Generator, image_index: Ints, rows: Ints, shape: tuple[int, int]) -> Ints:
    """Draw sets of cells: images at random with replacement, and a cell of each.

    Parameters
    ----------
    rng
        Draws.
    image_index
        int64 (N,), rising: the image of each cell.
    rows
        int64 (m,), rising: cells that may be drawn.
    shape
        Number of sets, and of cells of a set.

    Returns
    -------
    int64 of this shape
    """
    _, starts, counts = np.unique(image_index[rows], return_index=True, return_counts=True)
    images = rng.integers(len(starts), size=shape)
    return np.asarray(rows[starts[images] + rng.integers(counts[images])])


def set_means(cells: Cells, sets: Ints) -> Floats:
    """Return the mean of the cells of each set, float64 (sets, U)."""
    number, examples = sets.shape
    ends = np.arange(0, sets.size + 1, examples)
    chosen = scipy.sparse.csr_array((np.ones(sets.size, np.float32), sets.ravel(), ends), shape=(number, len(cells)))
    means: Floats = np.asarray(chosen @ cells, np.float64) / examples
    return means


def t_test(scores: Floats, random: Floats) -> Floats:
    """Return the two-sided p-values of Student's t test between columns of equally many scores, float64 (K,).

    Where no score differs from another, the p-value is 1 if the means are equal and 0 if they are not.
    """
    count, difference = len(scores), np.abs(scores.mean(axis=0) - random.mean(axis=0))
    error = np.sqrt((scores.var(axis=0, ddof=1) + random.var(axis=0, ddof=1)) / count)
    statistic = np.divide(difference, error, out=np.where(difference > 0, np.inf, 0.0), where=error > 0)
    return np.asarray(2 * scipy.stats.t.sf(statistic, 2 * count - 2))
