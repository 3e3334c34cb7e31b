"""The word of each unit of a layer, and what is known of the choice: stability, p-values, held-out rank.

    ImageMeans (activations, held-out images) and WordSpace -> word_labels -> one row for each unit

The stability is the share of bootstrap replicates over images in which the unit has the same word, among the ten
leading words of every unit. Under the permutation null images have the embeddings of other images. Words that were
chosen on one part of the images are ranked on the other.

The test statistic is the fit of the word, in standard deviations from its mean under the null, and the null is the
largest over all words. A score cannot be the statistic: soft-WPMI is at most the logarithm of the number of units,
which some unit reaches for most words under the null, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import Progress
from netdissect.counted import counted
from netdissect.errors import ConfigError, ShapeError
from netdissect.evaluation.open_vocabulary.similarity import (
    FUNCTIONS,
    Floats,
    ImageSample,
    Ints,
    SimilarityFunction,
    WordSpace,
    rank_images,
    word_scores,
)
from netdissect.scoring.statistics.bootstrap import poisson_weights
from netdissect.scoring.statistics.holdout import is_held_out
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues, p_values

STANDARDIZED = 10
"""Further permutations, from which mean and deviation of the fits of each word are taken."""
CANDIDATES = 10
"""Leading words of each unit that take part in the bootstrap."""

WORD_LABELS = {
    "layer": pl.String,
    "unit": pl.Int32,
    "label": pl.String,
    "score": pl.Float64,
    "next_label": pl.String,
    "next_score": pl.Float64,
    "stability": pl.Float64,
    "p_value": pl.Float64,
    "q_value": pl.Float64,
    "selection_label": pl.String,
    "heldout_score": pl.Float64,
    "heldout_rank": pl.Int64,
}
"""Columns of the labels of a layer."""

_BELONGS_TO = {
    "next_score": ("next_label", "next_score"),
    "selection_score": ("selection_label", "heldout_score", "heldout_rank"),
    "heldout_score": ("heldout_score",),
}


@dataclass(frozen=True)
class WordTest:
    """What is measured of each choice of a word: the fields of `LabelConfig` that the arrays need."""

    function: SimilarityFunction = FUNCTIONS["soft-wpmi"]
    holdout: float | None = 0.5
    bootstrap: int = 200
    permutations: int = 100
    seed: int = 0


def word_labels(
    activations: Floats, space: WordSpace, words: tuple[str, ...], test: WordTest, progress: Progress | None = None
) -> pl.DataFrame:
    """Choose a word for each unit of a layer.

    Parameters
    ----------
    activations
        float (N, U): mean activation of each unit in each image.
    space
        Embeddings of the N images and of the W words.
    words
        The W words.
    test
        The function, and what is measured.
    progress
        Receives blocks of words (``words``) and replicates (``bootstrap``).

    Returns
    -------
    DataFrame
        Columns of `WORD_LABELS` but ``layer``, one row for each unit that has a word: not for one of equal activation
        in all images, which no word describes.

    Raises
    ------
    ShapeError
        If activations hold NaN or infinity, or are of another number of images.
    ConfigError
        If there are too few images for the function.
    """
    _check(activations, space, words)
    live = np.flatnonzero(np.ptp(activations, axis=0) > 0)
    shown = activations[:, live]
    choice = _Choice(shown, space, test)
    if not len(live):
        return pl.DataFrame(schema={name: kind for name, kind in WORD_LABELS.items() if name != "layer"})
    scores, null = choice.scores(progress)
    best, following = np.argsort(-scores["all"], axis=1, kind="stable")[:, :2].T
    each = np.arange(len(live))
    columns: dict[str, object] = {"unit": live}
    for name, chosen in (("", best), ("next_", following)):
        columns[f"{name}label"] = _named(words, chosen)
        columns[f"{name}score"] = scores["all"][each, chosen]
    if test.bootstrap:
        columns["stability"] = choice.stability(scores["all"], best, progress)
    if test.permutations:
        columns["p_value"] = fit_p_values(scores["standardized"][each, best], null)
        columns["q_value"] = adjust_pvalues(np.asarray(columns["p_value"]))[0]
    if test.holdout is not None:
        selected = scores["selection"].argmax(axis=1)
        held = scores["held out"][each, selected]
        columns["selection_label"] = _named(words, selected)
        columns["selection_score"] = scores["selection"][each, selected]
        columns["heldout_score"] = held
        columns["heldout_rank"] = 1 + (scores["held out"] > held[:, None]).sum(axis=1)
    frame = _of_possible_words(pl.DataFrame(columns).filter(pl.col("score").is_finite()))
    listed = (name for name in WORD_LABELS if name != "layer")
    return frame.select(
        (pl.col(name) if name in columns else pl.lit(None).alias(name)).cast(WORD_LABELS[name]) for name in listed
    )


def _of_possible_words(frame: pl.DataFrame) -> pl.DataFrame:
    """Set to null what belongs to a word whose score is minus infinity: it can be no label."""
    for score, names in _BELONGS_TO.items():
        if score in frame.columns:
            frame = frame.with_columns(pl.when(pl.col(score).is_finite()).then(pl.col(names)))
    return frame


def fit_p_values(observed: Floats, null: Floats) -> npt.NDArray[np.float64]:
    """Return the probability under the null of each unit's standardized fit or a larger one, float64 (U,).

    Parameters
    ----------
    observed
        float (U,): of its word.
    null
        float (R, U): the largest over all words in each permutation.

    Notes
    -----
    As `netdissect.scoring.statistics.multiple_testing.p_values`, which fits a distribution to logarithms of values;
    here it is fitted to the values.
    """
    values = (1 + (null >= observed).sum(axis=0)) / (1 + len(null))
    fitted = np.isfinite(null).all(axis=0)
    middle, spread = np.median(null[:, fitted], axis=0), np.ptp(null[:, fitted], axis=0)
    # The p-value by the fit does not change with location and scale, with which exp stays finite.
    spread = np.where(spread > 0, spread, 1.0)
    with np.errstate(over="ignore"):
        scaled = (np.exp((each - middle) / spread) for each in (observed[fitted], null[:, fitted]))
        values[fitted] = p_values(*scaled)
    return np.asarray(values)


class _Choice:
    """The scores of a layer's units on samples of the images."""

    def __init__(self, activations: Floats, space: WordSpace, test: WordTest) -> None:
        self._space, self._test = space, test
        self._index = np.arange(len(activations))
        self._all = ImageSample(activations, rank_images(activations), np.ones_like(self._index), self._index)
        self._parts = {"all": self._all}
        if test.holdout is not None:
            held = is_held_out(test.seed, self._index, test.holdout)
            self._parts |= {"selection": self._weighted(~held), "held out": self._weighted(held)}
        for name, part in self._parts.items():
            if part.size < test.function.images_needed:
                self._refuse(name, part.size)

    def _refuse(self, name: str, size: int) -> None:
        where = {"all": "the run", "selection": "the selection half", "held out": "the held-out half"}[name]
        raise ConfigError(
            f"{where} has {counted(size, 'images')}, and this function takes {self._test.function.images_needed}. "
            "Expected more images, another function (cos-cubed takes any number), or no hold-out (--holdout none)."
        )

    def _weighted(self, weights: npt.NDArray[np.generic]) -> ImageSample:
        return ImageSample(self._all.activations, self._all.order, weights.astype(np.int64), self._index)

    def scores(self, progress: Progress | None) -> tuple[dict[str, Floats], Floats]:
        """Return the scores of all words on all images and on both parts, (U, W), and the null maxima, (R, U).

        ``standardized`` are the fits on all images, in standard deviations from their mean under the null.
        """
        function, units = self._test.function, self._all.activations.shape[1]
        names = [*self._parts, *(["standardized"] if self._test.permutations else [])]
        found: dict[str, Floats] = {name: np.empty((units, len(self._space.words))) for name in names}
        null: Floats = np.full((self._test.permutations, units), -np.inf)
        for words, report in _steps(list(self._space.blocks(units)), "words", progress):
            table = function.table(self._space, words)
            fits = {name: function.fits(part, table) for name, part in self._parts.items()}
            for name, of_part in fits.items():
                found[name][:, words] = word_scores(function, of_part)
            if len(null):
                standardize = self._standardize(table)
                found["standardized"][:, words] = standardize(fits["all"])
            for permutation, largest in enumerate(null):
                permuted = standardize(function.fits(self._permuted(permutation), table))
                np.maximum(largest, permuted.max(axis=1), out=largest)
                report((permutation + 1) / len(null))
        return found, null

    def _standardize(self, table: Floats) -> Callable[[Floats], Floats]:
        """Return what standardizes fits of the words of a table, by permutations that follow those of the null."""
        first = self._test.permutations
        drawn = np.concatenate(
            [
                self._test.function.fits(self._permuted(first + number), table).astype(np.float64)
                for number in range(STANDARDIZED)
            ]
        )
        finite = np.isfinite(drawn).all(axis=0)
        drawn[:, ~finite] = 0
        mean, deviation = drawn.mean(axis=0), drawn.std(axis=0)
        usable = finite & (deviation > 0)
        deviation[~usable] = 1
        return lambda fits: np.where(usable, (fits - mean) / deviation, -np.inf)

    def _permuted(self, permutation: int) -> ImageSample:
        rows = np.random.default_rng((self._test.seed, permutation)).permutation(len(self._index))
        return ImageSample(self._all.activations, self._all.order, self._all.weights, rows)

    def stability(self, scores: Floats, best: Ints, progress: Progress | None) -> Floats:
        """Return the share of replicates in which each unit has the same word, float64 (U,)."""
        leading = np.argpartition(-scores, min(CANDIDATES, scores.shape[1]) - 1, axis=1)[:, :CANDIDATES]
        candidates = np.unique(np.concatenate([leading.ravel(), best]))
        table = self._test.function.table(self._space, candidates)
        weights = poisson_weights(self._test.seed, self._index, self._test.bootstrap)
        same, replicates = np.zeros(len(best), np.int64), 0
        for number, drawn in enumerate(weights.T.astype(np.int64)):
            sample = self._weighted(drawn)
            if sample.size >= self._test.function.images_needed:
                scored = word_scores(self._test.function, self._test.function.fits(sample, table))
                chosen = candidates[scored.argmax(axis=1)]
                same, replicates = same + (chosen == best), replicates + 1
            if progress:
                progress("bootstrap", number + 1, self._test.bootstrap)
        return np.asarray(same / max(replicates, 1))


def _steps(
    blocks: list[slice], stage: str, progress: Progress | None
) -> Iterator[tuple[slice, Callable[[float], None]]]:
    """Yield blocks of words, each with a function that reports the share of it that is done."""
    total = sum(block.stop - block.start for block in blocks)
    for block in blocks:

        def report(share: float, block: slice = block) -> None:
            if progress:
                progress(stage, block.start + int(share * (block.stop - block.start)), total)

        yield block, report
        report(1.0)


def _check(activations: Floats, space: WordSpace, words: tuple[str, ...]) -> None:
    if activations.ndim != 2 or len(activations) != len(space.images) or len(words) != len(space.words):
        raise ShapeError(
            f"activations are {activations.shape} (images, units), embeddings of images {space.images.shape} and of "
            f"words {space.words.shape}, for {len(words)} words. Expected one row of activations and of embeddings for "
            "each image, and an embedding for each word."
        )
    if not np.isfinite(activations).all():
        raise ShapeError(
            "activations hold NaN or infinity. Expected the finite mean activation of each unit and image."
        )


def _named(words: tuple[str, ...], chosen: Ints) -> list[str]:
    return [words[index] for index in chosen.tolist()]
