"""Tables of the units of layers and of other bases of them, and which of two bases of a layer does better.

    run, evaluation of its bases -> basis_table, concept_scores, differences_over_images
    these tables                 -> basis_differences: one basis less another one

Rotations of a layer are one side of a comparison: counts and scores are means over them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from netdissect.config import Rule
from netdissect.evaluation.dictionaries.bases_evaluation import ALL, BasesEvaluation
from netdissect.evaluation.unit_intervals import unit_means
from netdissect.experiments.counts import (
    TOTAL,
    count_rows,
    decide_over_images,
    difference_over_images,
    over_images_table,
    read_over_images,
)
from netdissect.experiments.effect_sizes import Interval, decide, mean_interval
from netdissect.experiments.outcome import ConclusionOutcome
from netdissect.models.dictionaries.basis_spec import NEURONS
from netdissect.result import PairedDifference, Result

ROTATIONS = "rotations"
CONCEPTS = "concepts"
MEASURED = ("map", "monosemanticity")
_COUNTED = (
    "units", "unique_detectors", "unique_detectors_ci_low", "unique_detectors_ci_high", "null_unique_detectors",
    "null_unique_detectors_se",
)  # fmt: skip
_ENDS = ("", "_ci_low", "_ci_high")
_SIGNS: Mapping[ConclusionOutcome, int] = {"agrees": 1, "disagrees": -1}


class BasisDifference(NamedTuple):
    """One basis of a layer less another one.

    Attributes
    ----------
    layer
        The layer.
    before, after
        Names of bases, or `ROTATIONS`.
    detectors
        Of unique detectors, over images; None: not measured.
    precision
        Of the average precision on held-out images: mean over concepts, with Student's interval. None: no concept.
    """

    layer: str
    before: str
    after: str
    detectors: PairedDifference | None
    precision: Interval | None

    @property
    def detectors_sign(self) -> int:
        """1: more detectors beyond the null; -1: fewer; 0: not decided."""
        return _SIGNS.get(decide_over_images(self.detectors, "more"), 0)

    @property
    def precision_sign(self) -> int:
        """1: a higher average precision; -1: a lower one; 0: not decided."""
        return 0 if self.precision is None else _SIGNS.get(decide(self.precision, "more"), 0)


def basis_table(result: Result, found: BasesEvaluation, rule: Rule) -> pl.DataFrame:
    """Return a row for each layer and basis of a run.

    Parameters
    ----------
    result
        With hold-out.
    found
        Its bases, measured.
    rule
        By which detectors are counted, at the first quantile.

    Returns
    -------
    DataFrame
        layer, basis, units, unique_detectors, null_unique_detectors with its standard error, heldout_iou (mean over
        units of the IoU of the label that the other images chose), map and, with embeddings, monosemanticity, each with
        the ends of its interval.
    """
    quantile = result.info.config.protocol.quantiles[0]
    counts = count_rows(result).filter(quantile=quantile, rule=rule, category=TOTAL)
    scores = found.bases.filter(choice=ALL)
    names = [f"{name}{end}" for name in MEASURED if name in scores.columns for end in _ENDS]
    rows = [
        dict(zip(("layer", "basis"), _layer_and_basis(result, name), strict=True))
        | counts.filter(layer=name).select(_COUNTED).row(0, named=True)
        | _heldout_iou(result, name, quantile)
        | scores.filter(layer=name).select(names).row(0, named=True)
        for name in result.layers
    ]
    types = {"layer": pl.String, "basis": pl.String, "units": pl.Int64, "unique_detectors": pl.Int64}
    return pl.DataFrame(rows, schema={name: types.get(name, pl.Float64) for name in rows[0]})


def _layer_and_basis(result: Result, name: str) -> tuple[str, str]:
    basis_of = result.layer(name).info.basis_of
    return (name, NEURONS) if basis_of is None else (basis_of, name.removeprefix(f"{basis_of}@"))


def _heldout_iou(result: Result, name: str, quantile: float) -> dict[str, float]:
    """Return the mean held-out IoU over units; a unit without a label has 0."""
    units = result.layer(name).statistics["units"].collect().filter(quantile=quantile)
    values = units["heldout_iou"].fill_null(0).to_numpy().astype(np.float64)
    means = unit_means(values[:, None], np.arange(len(values)), result.info.config.statistics.stats_seed)
    numbers = (means.value, means.ci_low, means.ci_high)
    return {f"heldout_iou{end}": float(number[0]) for end, number in zip(_ENDS, numbers, strict=True)}


def concept_scores(result: Result, found: BasesEvaluation) -> pl.DataFrame:
    """Return the average precision of the best unit of each concept: layer, basis, concept, category."""
    names = {name: _layer_and_basis(result, name) for name in result.layers}
    layer, basis = ({name: pair[part] for name, pair in names.items()} for part in (0, 1))
    scores = found.concepts.filter(choice=ALL).drop_nulls("average_precision")
    return scores.select(
        pl.col("layer").replace_strict(layer, return_dtype=pl.String),
        pl.col("layer").replace_strict(basis, return_dtype=pl.String).alias("basis"),
        "concept", "category", "average_precision",
    )  # fmt: skip


def differences_over_images(result: Result, rule: Rule) -> pl.DataFrame:
    """Return differences of unique detectors between bases of a layer, both as ``LAYER@BASIS``."""
    quantile, found = result.info.config.protocol.quantiles[0], dict[tuple[str, str], PairedDifference | None]()
    layers = dict[str, dict[str, str]]()
    for name in result.layers:
        layer, basis = _layer_and_basis(result, name)
        layers.setdefault(layer, {})[basis] = name
    for layer, names in layers.items():
        sides = _sides(list(names))
        for before, after in _compared(sides):
            pairs = [(names[left], names[right]) for left in sides[before] for right in sides[after]]
            found[f"{layer}@{before}", f"{layer}@{after}"] = difference_over_images(
                result, result, pairs, quantile=quantile, rule=rule
            )
    return over_images_table(found)


def basis_differences(table: pl.DataFrame, extra: Mapping[str, pl.DataFrame]) -> list[BasisDifference]:
    """Return every basis less the units, and less the rotations, of its layer.

    Parameters
    ----------
    table
        Of `basis_table`.
    extra
        Those of `differences_over_images` and `concept_scores`; what is missing is not measured.
    """
    found = []
    for layer in table["layer"].unique(maintain_order=True):
        sides = _sides(table.filter(layer=layer)["basis"].to_list())
        scores = extra[CONCEPTS].filter(layer=layer) if CONCEPTS in extra else None
        for before, after in _compared(sides):
            detectors = read_over_images(extra, f"{layer}@{before}", f"{layer}@{after}")
            precision = None if scores is None else precision_difference(scores, sides[before], sides[after])
            found.append(BasisDifference(layer, before, after, detectors, precision))
    return found


def precision_difference(scores: pl.DataFrame, before: Sequence[str], after: Sequence[str]) -> Interval | None:
    """Return the mean over concepts of the difference of average precision, each side a mean over its bases.

    Parameters
    ----------
    scores
        Of one layer.
    before, after
        Names of bases.
    """
    every = [*before, *after]
    wide = scores.pivot(on="basis", index=["concept", "category"], values="average_precision")
    if not {*every} <= {*wide.columns}:
        return None
    known = wide.drop_nulls(every)
    change = known.select(pl.mean_horizontal(*after) - pl.mean_horizontal(*before)).to_series().to_list()
    return mean_interval(change) if change else None


def side_of(basis: str) -> str:
    """Return what a basis is compared as: by its own name, or with all rotations together."""
    return ROTATIONS if basis.startswith("rotation-") else basis


def _sides(bases: Sequence[str]) -> dict[str, list[str]]:
    """Return what is compared: each basis, and all rotations together."""
    found = dict[str, list[str]]()
    for basis in bases:
        found.setdefault(side_of(basis), []).append(basis)
    return found


def _compared(sides: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for after in sides:
        for before in (NEURONS, ROTATIONS):
            if before in sides and after not in (NEURONS, before):
                yield before, after
