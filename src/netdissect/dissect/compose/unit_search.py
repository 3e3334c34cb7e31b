"""The formula of one unit: the best one on all images, and what one chosen on some images explains on the others."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.counted import size_text
from netdissect.errors import ConfigError
from netdissect.scoring.formulas import ActiveRows, Formula, FormulaResult, FormulaSearch, ScoredFormula, SearchOptions
from netdissect.scoring.formulas.image_rows import ImageRows, MaskRows
from netdissect.scoring.statistics.bootstrap import Weights, percentile_interval, poisson_weights
from netdissect.scoring.statistics.formula_gain import FormulaPixels, paired_gain
from netdissect.scoring.statistics.holdout import is_held_out

T = TypeVar("T")
R = TypeVar("R")

MAX_WEIGHTS = 10**9  # bytes of the weights of the bootstrap
PAUSE = 0.005
"""Seconds until the end of a search is seen."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SearchedImages:
    """Images on which formulas are chosen.

    Attributes
    ----------
    chosen
        bool (n,).
    new_rows
        int64 (R,): row of each row of the table of all images in that of these.
    search
        The search over their table.
    """

    chosen: Bools
    new_rows: Ints
    search: FormulaSearch

    @classmethod
    def of(cls, images: ImageRows, chosen: Bools, config: ComposeConfig) -> Self:
        """Make the table of these images."""
        table, new_rows = images.of_images(chosen)
        options = SearchOptions(
            config.length, config.operators, config.search, config.beam, config.restriction, config.time_limit
        )
        return cls(chosen, new_rows, FormulaSearch(table, options))

    def find(self, of_unit: MaskRows) -> FormulaResult:
        """Search for one unit."""
        return self.search.find(of_unit.of_images(self.chosen, self.new_rows))


@dataclass(frozen=True, eq=False)
class UnitSearches:
    """The searches of all units of a run.

    Attributes
    ----------
    config
        What is searched.
    images
        Label sets of all images.
    count
        Number of images.
    names
        Of the concepts, by label id.
    """

    config: ComposeConfig
    images: ImageRows
    count: int
    names: Mapping[int, str]

    @classmethod
    def of(cls, config: ComposeConfig, images: ImageRows, data: ConceptData) -> Self:
        """Search over the images of a data set."""
        names = {concept.label_id: concept.name for concept in data.concepts}
        return cls(config, images, len(data), names)

    @cached_property
    def whole(self) -> SearchedImages:
        """All images."""
        return SearchedImages.of(self.images, np.ones(self.count, np.bool_), self.config)

    @cached_property
    def heldout(self) -> Bools:
        """Images on which the gain is measured, bool (n,): all of them without a hold-out."""
        share = self.config.holdout
        if share is None:
            return np.ones(self.count, np.bool_)
        return is_held_out(self.config.stats_seed, np.arange(self.count), share)

    @cached_property
    def selection(self) -> SearchedImages:
        """Images on which the formula is chosen whose gain is measured: the others, or all without a hold-out."""
        if self.config.holdout is None:
            return self.whole
        return SearchedImages.of(self.images, ~self.heldout, self.config)

    def check(self) -> None:
        """Check that the statistics can be had.

        Raises
        ------
        ConfigError
            If no image is on one side of the hold-out, or the weights of the bootstrap take more than 1 GB.
        """
        held, share = int(self.heldout.sum()), self.config.holdout
        if share is not None and not 0 < held < self.count:
            raise ConfigError(
                f"a hold-out of {share:g} holds out {held:,} of {self.count:,} images; formulas are chosen on the "
                "others and scored on these, so both need some. Use another share (--holdout 0.5) or none (in Python "
                "holdout=None)."
            )
        if self.count * self.config.bootstrap > MAX_WEIGHTS:
            raise ConfigError(
                f"the bootstrap weighs {self.count:,} images in {self.config.bootstrap:,} replicates, which takes "
                f"{size_text(self.count * self.config.bootstrap)} of memory; at most {size_text(MAX_WEIGHTS)} are "
                f"taken. Use fewer replicates: --bootstrap {MAX_WEIGHTS // self.count}."
            )

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        """Apply a function that searches to each item, in threads, and yield what it returns, in order.

        After an error or an interruption the searches that other threads still run end at once.
        """
        pending = deque[Future[R]]()
        with ThreadPoolExecutor(self.config.threads) as pool:
            try:
                for item in items:
                    pending.append(pool.submit(function, item))
                    if len(pending) > self.config.threads:
                        yield _result(pending.popleft())
                while pending:
                    yield _result(pending.popleft())
            except BaseException:
                for future in pending:
                    future.cancel()
                for images in (self.whole, self.selection):
                    images.search.stop()
                raise

    @cached_property
    def weights(self) -> Weights:
        """Weight of each image in each replicate, uint8 (n, R), the same for all units."""
        return poisson_weights(self.config.stats_seed, np.arange(self.count), self.config.bootstrap)

    def prepare(self) -> None:
        """Make the tables that all units share before threads search them."""
        _ = self.whole, self.selection, self.weights

    def record(self, of_unit: MaskRows) -> dict[str, Any]:
        """Find the formula of one unit and its statistics: columns of the table ``formulas``."""
        begin = time.thread_time()
        found = self.whole.find(of_unit)
        record: dict[str, Any] = {"mask_pixels": int(of_unit.active.sum())} | self._found(found, of_unit)
        chosen = found if self.selection is self.whole else self.selection.find(of_unit)
        if chosen.best is not None and chosen.concept is not None:
            record |= self._gain(chosen.best, chosen.concept, of_unit)
        return record | {"seconds": round(time.thread_time() - begin, 6)}

    def _found(self, found: FormulaResult, of_unit: MaskRows) -> dict[str, Any]:
        """Describe the best formula on all images."""
        if found.best is None or found.concept is None:
            return {"iou": 0.0, "optimal": found.optimal, "iou_upper_bound": found.iou_upper_bound}
        formula = found.best.formula
        replicates = self._pixels(formula, of_unit).replicates(self.weights)
        interval = percentile_interval(replicates) if self.config.bootstrap else (None, None)
        return {
            "formula": formula.text(self.names),
            "iou": found.best.iou,
            "iou_ci_low": interval[0],
            "iou_ci_high": interval[1],
            "optimal": found.optimal,
            "iou_upper_bound": found.iou_upper_bound,
            "length": len(formula),
            "label_ids": list(formula.label_ids),
            "operators": list(formula.operators),
            "concept": found.concept.formula.text(self.names),
            "concept_iou": found.concept.iou,
        }

    def _gain(self, best: ScoredFormula, single: ScoredFormula, of_unit: MaskRows) -> dict[str, Any]:
        """Score a formula and a concept that were chosen on some images on the others."""
        formula, concept = best.formula, single.formula
        scored, of_concept = (self._pixels(each, of_unit).of_images(self.heldout) for each in (formula, concept))
        gain = paired_gain(scored, of_concept, self.weights)
        return {
            "selected_formula": formula.text(self.names),
            "selected_length": len(formula),
            "selected_label_ids": list(formula.label_ids),
            "selected_operators": list(formula.operators),
            "selection_iou": best.iou,
            "heldout_iou": scored.iou,
            "selected_concept": concept.text(self.names),
            "heldout_concept_iou": of_concept.iou,
            "gain": gain.gain,
            "gain_ci_low": gain.low,
            "gain_ci_high": gain.high,
            "p_value": gain.p_value if self.config.holdout is not None else None,
        }

    def _pixels(self, formula: Formula, of_unit: MaskRows) -> FormulaPixels:
        return FormulaPixels.of(self.images, of_unit, formula, self.config, self.count)

    def null_record(self, active: ActiveRows) -> dict[str, float]:
        """Find the best formula and concept of one unit in one permutation: columns of the table ``permuted``."""
        found = self.whole.search.find(active)
        return {
            "iou": 0.0 if found.best is None else found.best.iou,
            "concept_iou": 0.0 if found.concept is None else found.concept.iou,
        }


def _result(search: Future[R]) -> R:
    """Wait for a search, so that Ctrl-C ends it.

    polars handles SIGINT by a handler after which the system goes on to wait for a lock, as in ``Future.result``: the
    interruption came when the search was done, for five concepts after half a minute. A sleep is always interrupted,
    and takes no lock, for which Ctrl-C would be delayed.
    """
    while not search.done():
        time.sleep(PAUSE)
    return search.result()
