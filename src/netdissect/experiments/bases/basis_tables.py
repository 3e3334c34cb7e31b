"""Tables of the units of layers and of other bases of them, and which of two bases of a layer does better.

    run, evaluation of its bases -> basis_table, concept_scores, differences_over_images
    these tables                 -> basis_differences: one basis less another one
    these differences            -> standings: in how many layers a basis is above the units, or below them

Rotations of a layer are one side of a comparison: counts and scores are means over them. Average precision is compared
at an equal number of units: of a basis with more units than its layer only the leading ones take part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from netdissect.config import Rule
from netdissect.evaluation.dictionaries.bases_evaluation import ALL, BasesEvaluation
from netdissect.evaluation.dictionaries.measure import equal_units_name
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
DESCRIBED = ("nmse", "l0", "dead_share")
EQUAL = "_equal"
"""Ends the name of a score of as many units as the layer has."""
Sign = Literal["detectors_sign", "precision_sign"]
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
        Of the average precision on held-out images, at an equal number of units: mean over concepts, with Student's
        interval. None: no concept.
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


class Standing(NamedTuple):
    """In how many layers a basis differs from the units.

    Attributes
    ----------
    basis
        Its name, or `ROTATIONS`.
    layers
        In which both were measured.
    more, fewer
        Layers in which it has more or fewer unique detectors beyond the null; in the others it is not decided.
    higher, lower
        Layers in which its average precision is higher or lower.
    """

    basis: str
    layers: int
    more: int
    fewer: int
    higher: int
    lower: int


def standings(found: Iterable[BasisDifference]) -> list[Standing]:
    """Return in how many layers each basis is above the units, and below them, in the order of the differences.

    Parameters
    ----------
    found
        Differences of any number of layers and networks; those to `ROTATIONS` are left out.
    """
    of_basis = dict[str, list[BasisDifference]]()
    for each in found:
        if each.before == NEURONS:
            of_basis.setdefault(each.after, []).append(each)

    def number(of_one: Sequence[BasisDifference], measure: Sign, sign: int) -> int:
        return sum(getattr(each, measure) == sign for each in of_one)

    return [
        Standing(
            basis, len(of_one), number(of_one, "detectors_sign", 1), number(of_one, "detectors_sign", -1),
            number(of_one, "precision_sign", 1), number(of_one, "precision_sign", -1),
        )
        for basis, of_one in of_basis.items()
    ]  # fmt: skip


def wider_than(result: Result) -> tuple[int, ...]:
    """Return the numbers of units of the layers of which a basis has more units."""
    found = set[int]()
    for name in result.layers:
        info = result.layer(name).info
        if info.basis_of in result.layers and info.units > (own := result.layer(info.basis_of).info.units):
            found.add(own)
    return tuple(sorted(found))


def basis_table(result: Result, found: BasesEvaluation, rule: Rule) -> pl.DataFrame:
    """Return a row for each layer and basis of a run.

    Parameters
    ----------
    result
        With hold-out.
    found
        Its bases, measured, at the numbers of units of `wider_than`, too.
    rule
        By which detectors are counted, at the first quantile.

    Returns
    -------
    DataFrame
        layer, basis, units, unique_detectors, null_unique_detectors with its standard error, heldout_iou (mean over
        units of the IoU of the label that the other images chose), map and, with embeddings, monosemanticity, each with
        the ends of its interval; these two again, ending in ``_equal``, of as many units as the layer has; nmse, l0 and
        dead_share.
    """
    quantile = result.info.config.protocol.quantiles[0]
    counts = count_rows(result).filter(quantile=quantile, rule=rule, category=TOTAL)
    names = [f"{name}{end}" for name in MEASURED if name in found.bases.columns for end in _ENDS]
    rows = []
    for name in result.layers:
        every, equal = (found.bases.filter(layer=name, choice=choice) for choice in (ALL, _choice(result, name)))
        rows.append(
            dict(zip(("layer", "basis"), _layer_and_basis(result, name), strict=True))
            | counts.filter(layer=name).select(_COUNTED).row(0, named=True)
            | _heldout_iou(result, name, quantile)
            | every.select(names).row(0, named=True)
            | equal.select(pl.col(names).name.map(_equal_name)).row(0, named=True)
            | every.select(DESCRIBED).row(0, named=True)
        )
    types = {"layer": pl.String, "basis": pl.String, "units": pl.Int64, "unique_detectors": pl.Int64}
    return pl.DataFrame(rows, schema={name: types.get(name, pl.Float64) for name in rows[0]})


def _equal_name(name: str) -> str:
    """Return the name of a score, or of an end of its interval, at an equal number of units.

    >>> _equal_name("map"), _equal_name("map_ci_low")
    ('map_equal', 'map_equal_ci_low')
    """
    score, ci, end = name.partition("_ci_")
    return f"{score}{EQUAL}{ci}{end}"


def _choice(result: Result, name: str) -> str:
    """Return the choice of units at which a basis is compared: all, or as many as its layer has."""
    info = result.layer(name).info
    own = result.layer(info.basis_of).info.units if info.basis_of in result.layers else info.units
    return equal_units_name(own) if info.units > own else ALL


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
    """Return the average precision of the best unit of each concept: layer, basis, concept, category.

    Of a basis with more units than its layer, the best of as many leading ones.
    """
    parts = []
    for name in result.layers:
        layer, basis = _layer_and_basis(result, name)
        scores = found.concepts.filter(layer=name, choice=_choice(result, name)).drop_nulls("average_precision")
        named = (pl.lit(layer).alias("layer"), pl.lit(basis).alias("basis"))
        parts.append(scores.select(*named, "concept", "category", "average_precision"))
    return pl.concat(parts)


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
