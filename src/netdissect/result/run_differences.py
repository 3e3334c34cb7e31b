"""The difference between two runs on the same images: its confidence interval, and its permutation null.

    paired_differences        a table: each pair of layers, quantile, rule and category
    mean_paired_difference    one number: unique detectors, averaged over pairs of layers
    count_difference          the same for one pair of layers, as far as the runs measured it
    layer_pairs               the layers that are compared

Replicates of one seed draw the same images in every run. Variation that both counts share, such as images that are
easy to label, cancels in the difference of the replicates, so its interval is narrower than those of the counts.

Permutations of one seed pair the masks of every run with the labels of the same other images. Their differences, row by
row, are the null distribution of the difference: what two networks that ignore the labels would give. The excess is the
difference less its mean under the null, (right - null of right) - (left - null of left); its interval is that of the
difference, shifted by the same mean.

Sources: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`, section 10.3 (interval); Phipson and Smyth 2010
:cite:p:`phipson2010permutation` (p-value).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import RULES, Rule
from netdissect.errors import ResultError
from netdissect.result.result import Result, check_is_run
from netdissect.scoring import largest_counts
from netdissect.scoring.statistics.bootstrap import interval_of_counts
from netdissect.scoring.statistics.multiple_testing import (
    SIGNIFICANT,
    smallest_two_sided_p_value,
    two_sided_p_values,
)

KEYS = ("quantile", "rule", "category")
COUNTS = ("detectors", "unique_detectors")
NULL_COLUMNS = ("null_{}", "null_{}_se", "{}_excess", "{}_excess_ci_low", "{}_excess_ci_high", "{}_p_value")
TOTAL = "total"
NOT_MEASURED = "the permutation null was not measured"


@dataclass(frozen=True)
class PairedDifference:
    """A difference of unique detectors, right minus left, and what the permutation null says of it.

    Attributes
    ----------
    value
        The difference.
    interval
        Its 95 % confidence interval over images; None: the runs are not paired, or have no replicates.
    replicates
        Number of bootstrap replicates.
    null, null_se
        Mean of the difference under the permutation null, and its Monte Carlo standard error; None: see `no_null`.
    p_value
        Two-sided: probability of so large or so small a difference under the null.
    permutations
        Number of permutations that both runs have.
    no_null
        Why there is no null of the difference; empty: there is one.
    """

    value: float
    interval: tuple[float, float] | None = None
    replicates: int = 0
    null: float | None = None
    null_se: float | None = None
    p_value: float | None = None
    permutations: int = 0
    no_null: str = NOT_MEASURED

    @property
    def excess(self) -> float | None:
        """The difference beyond the null: `value` less `null`."""
        return None if self.null is None else self.value - self.null

    @property
    def excess_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the excess: `interval` less `null`."""
        if self.null is None or self.interval is None:
            return None
        return self.interval[0] - self.null, self.interval[1] - self.null

    @property
    def exceeds_null(self) -> bool | None:
        """Whether the interval of the excess excludes 0 and the p-value is below 0.05.

        None: not measured, or there are so few permutations that no p-value is below 0.05.
        """
        if self.excess_interval is None or self.p_value is None:
            return None
        low, high = self.excess_interval
        if low <= 0 <= high:
            return False
        return None if smallest_two_sided_p_value(self.permutations) >= SIGNIFICANT else self.p_value < SIGNIFICANT


def layer_pairs(left: Result, right: Result, layers: Sequence[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    """Return the layers that are compared.

    Parameters
    ----------
    left, right
        Finished runs.
    layers
        Pairs of a layer on the left and one on the right. None: those of one name, or the only ones.

    Raises
    ------
    ResultError
        If no layers correspond, or `layers` are not pairs.
    """
    if layers is not None:
        pairs: list[Any] = list(layers)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise ResultError(
                f"layers are {layers!r}. Expected pairs of a layer on the left and one on the right, such as "
                "[('layer4', 'layer4')]."
            )
        return pairs
    same = [(name, name) for name in left.layers if name in right.layers]
    if same:
        return same
    if len(left.layers) == len(right.layers) == 1:
        return [(next(iter(left.layers)), next(iter(right.layers)))]
    raise ResultError(
        f"the runs have no layer in common: {', '.join(left.layers)} on the left, {', '.join(right.layers)} on the "
        "right. Name a pair with --layer LEFT=RIGHT."
    )


def paired_differences(left: Result, right: Result, *, layers: Sequence[tuple[str, str]] | None = None) -> pl.DataFrame:
    """Compare the detectors of two runs on the same images, with confidence intervals and the null of the difference.

    Parameters
    ----------
    left, right
        Finished runs with a bootstrap of the same seed.
    layers
        Pairs of a layer on the left and one on the right. None: those of one name, or the only layers.

    Returns
    -------
    DataFrame
        left, right (layers), quantile, rule, category (or ``total``), then ``detectors`` and ``unique_detectors``,
        right minus left, each with the ends of its 95 % interval in ``_ci_low`` and ``_ci_high``, within the possible
        range. Then for each its mean under the permutation null and the standard error of that mean
        (``null_detectors``, ``null_detectors_se``), the difference less that mean with the ends of its interval
        (``detectors_excess``, ``detectors_excess_ci_low``, ``detectors_excess_ci_high``) and a two-sided p-value
        (``detectors_p_value``); null if the runs have no common permutations.

    Raises
    ------
    ResultError
        If images, replicates or IoU limits of the runs differ, they have no quantile in common, or a run has no
        replicates.
    """
    _refuse_other_quantiles(left, right)
    frames = []
    for pair in layer_pairs(left, right, layers):
        _refuse_unpaired(left, right, pair)
        differences = _differences(left, right, pair)
        for name in COUNTS:
            low, high = interval_of_counts(
                differences[name].to_numpy(), np.stack(differences[f"{name}_drawn"].to_list()),
                differences[f"{name}_least"].to_numpy(), differences[f"{name}_most"].to_numpy(),
            )  # fmt: skip
            differences = differences.with_columns(pl.Series(f"{name}_ci_low", low), pl.Series(f"{name}_ci_high", high))
        differences = _with_null_columns(differences, left, right, pair)
        ends = ("", "_ci_low", "_ci_high")
        columns = [*KEYS, *(f"{name}{end}" for name in COUNTS for end in ends)]
        columns += [column.format(name) for name in COUNTS for column in NULL_COLUMNS]
        frames.append(differences.select(pl.lit(pair[0]).alias("left"), pl.lit(pair[1]).alias("right"), *columns))
    return pl.concat(frames)


def mean_paired_difference(
    left: Result, right: Result, layers: Sequence[tuple[str, str]], *, quantile: float, rule: Rule
) -> PairedDifference:
    """Return the difference of all unique detectors, averaged over pairs of layers of two runs.

    Parameters
    ----------
    left, right
        As for `paired_differences`; they may be one run.
    layers
        Pairs of a layer on the left and one on the right, at least one.
    quantile, rule
        Which counts.

    Raises
    ------
    ResultError
        As `paired_differences` does, or if a run has no such quantile.
    """
    _refuse_other_quantiles(left, right, quantile)
    listed = layer_pairs(left, right, layers)
    # A layer that repeats another one in both runs counts once.
    pairs = [pair for pair in listed if (left.same_as.get(pair[0]), right.same_as.get(pair[1])) not in listed]
    for pair in pairs:
        _refuse_unpaired(left, right, pair)
    return _mean_difference(left, right, pairs, quantile, rule)


def count_difference(
    left: Result, right: Result, pair: tuple[str, str], *, quantile: float, rule: Rule
) -> PairedDifference:
    """Return the difference of all unique detectors of two layers, with what can be said of it.

    Unlike `mean_paired_difference` it takes any two runs: without common images or replicates the difference has no
    interval, and without common permutations `PairedDifference.no_null` says why.

    Raises
    ------
    ResultError
        If a run has no such quantile or layer.
    """
    _refuse_other_quantiles(left, right, quantile)
    if not _unpaired(left, right, pair):
        return _mean_difference(left, right, [pair], quantile, rule)
    before, after = (
        next(entry for entry in run.detectors(rule) if (entry.layer, entry.quantile) == (layer, quantile))
        for run, layer in zip((left, right), pair, strict=True)
    )
    value = after.count.unique_detectors[TOTAL] - before.count.unique_detectors[TOTAL]
    return PairedDifference(value, **_null_of(left, right, [pair], quantile, rule, value))


def _mean_difference(
    left: Result, right: Result, pairs: Sequence[tuple[str, str]], quantile: float, rule: Rule
) -> PairedDifference:
    frames = [_differences(left, right, pair) for pair in pairs]
    rows = [frame.filter(quantile=quantile, rule=rule, category=TOTAL).row(0, named=True) for frame in frames]
    # Sums are counts, means are not: the interval is that of the sum.
    value, minimum, maximum = (sum(row[f"unique_detectors{end}"] for row in rows) for end in ("", "_least", "_most"))
    replicate_tables = np.sum([row["unique_detectors_drawn"] for row in rows], axis=0)
    low, high = interval_of_counts([value], replicate_tables[None], minimum, maximum)
    number = len(rows)
    interval = float(low[0]) / number, float(high[0]) / number
    null = _null_of(left, right, pairs, quantile, rule, value)
    return PairedDifference(value / number, interval, len(replicate_tables), **null)


def _null_of(
    left: Result, right: Result, pairs: Sequence[tuple[str, str]], quantile: float, rule: Rule, value: int
) -> dict[str, Any]:
    """Return the fields of `PairedDifference` on the null of the sum `value` of the differences of some pairs."""
    reason = next(filter(None, (no_common_null(left, right, pair) for pair in pairs)), "")
    if reason:
        return {"no_null": reason}
    keys = {"quantile": quantile, "rule": rule, "category": TOTAL}
    rows = [_null_differences(left, right, pair).filter(**keys).row(0, named=True) for pair in pairs]
    drawn = np.asarray([row["unique_detectors_permuted"] for row in rows], np.float64).sum(axis=0, keepdims=True)
    mean, error = _mean_and_error(drawn)
    return {
        "null": float(mean[0]) / len(pairs),
        "null_se": None if np.isnan(error[0]) else float(error[0]) / len(pairs),
        "p_value": float(two_sided_p_values(np.array([value]), drawn)[0]),
        "permutations": drawn.shape[1],
        "no_null": "",
    }


def _refuse_other_quantiles(left: Result, right: Result, quantile: float | None = None) -> None:
    """Raise unless both are runs and have this quantile; None: any one."""
    check_is_run(left, right)
    sides = [run.info.config.protocol.quantiles for run in (left, right)]
    common = set(sides[0]).intersection(sides[1])
    if not common or (quantile is not None and quantile not in common):
        words = [", ".join(f"{each:g}" for each in side) for side in sides]
        raise ResultError(
            f"the runs cannot be compared{'' if quantile is None else f' at the quantile {quantile:g}'}: quantiles are "
            f"{words[0]} on the left and {words[1]} on the right. Repeat one of them with --quantile."
        )


def _refuse_unpaired(left: Result, right: Result, pair: tuple[str, str]) -> None:
    reason = _unpaired(left, right, pair)
    if reason:
        raise ResultError(reason)


def _unpaired(left: Result, right: Result, pair: tuple[str, str]) -> str:
    """Return why two runs have no common replicates; empty: they have."""
    replicates_and_seed = [
        (run.info.config.statistics.bootstrap, run.info.config.statistics.stats_seed) for run in (left, right)
    ]
    for name, left_value, right_value in (
        ("images and labels (digest)", left.info.data.digest[:12], right.info.data.digest[:12]),
        ("replicates and seed", *replicates_and_seed),
        # IoU thresholds at a false discovery rate differ from layer to layer, but are one rule.
        ("IoU of a detector", left.info.config.min_iou, right.info.config.min_iou),
    ):
        if left_value != right_value:
            return (
                f"the runs are not paired: {name} are {left_value} on the left and {right_value} on the right. Repeat "
                "one of them on the same data with the same --bootstrap, --stats-seed and --min-iou."
            )
    for run, layer in zip((left, right), pair, strict=True):
        if not {"counts", "replicates"} <= run.layer(layer).statistics.keys():
            return (
                f"the run of {run.info.network.name} has no replicates of layer {layer!r}. Repeat it with "
                "--bootstrap 1000."
            )
    return ""


def no_common_null(left: Result, right: Result, pair: tuple[str, str]) -> str:
    """Return why the difference of two layers has no permutation null; empty: it has one.

    Permutations are common to two runs on the same images with one seed, one null hypothesis and one label map size.
    """
    measured = ["null_counts" in run.layer(layer).statistics for run, layer in zip((left, right), pair, strict=True)]
    if not any(measured):
        return NOT_MEASURED
    if not all(measured):
        return f"{NOT_MEASURED} on the {'left' if measured[1] else 'right'}"
    if left.info.data.digest != right.info.data.digest:
        return "the runs used different images or labels, so their permutations differ"
    before, after = (run.info.config.statistics for run in (left, right))
    if before.null != after.null:
        return f"the null hypotheses differ: {before.null} on the left, {after.null} on the right"
    if before.stats_seed != after.stats_seed:
        return f"the permutations differ: --stats-seed {before.stats_seed} on the left, {after.stats_seed} on the right"
    sides = [run.info.config.protocol.segmentation_size for run in (left, right)]
    if sides[0] != sides[1]:  # only images with label maps of one size are exchanged
        words = ["as on disk" if side is None else f"{side} x {side} pixels" for side in sides]
        return f"the permutations differ: label maps are {words[0]} on the left, {words[1]} on the right"
    return ""


def _differences(left: Result, right: Result, pair: tuple[str, str]) -> pl.DataFrame:
    """Subtract counts and replicates: KEYS, then for each count its value, ``_drawn`` (list), ``_least``, ``_most``."""
    joined_counts = _joined(left, right, pair, "counts", KEYS)
    each = _joined(left, right, pair, "replicates", (*KEYS, "replicate"))
    differences = [(pl.col(f"{name}_right") - pl.col(name)).alias(name) for name in COUNTS]
    replicates = each.group_by(KEYS, maintain_order=True).agg(differences)
    largest = [_largest(run, name) for run, name in zip((left, right), pair, strict=True)]
    bounds = largest[0].join(largest[1], on=("rule", "category"), suffix="_right")
    bounds = bounds.select(
        "rule", "category", *((-pl.col(name)).alias(f"{name}_least") for name in COUNTS),
        *(pl.col(f"{name}_right").alias(f"{name}_most") for name in COUNTS),
    )  # fmt: skip
    joined = joined_counts.select(*KEYS, *differences).join(replicates, on=KEYS, suffix="_drawn", maintain_order="left")
    return joined.join(bounds, on=("rule", "category"), maintain_order="left")


def _null_differences(left: Result, right: Result, pair: tuple[str, str]) -> pl.DataFrame:
    """Subtract the counts of each common permutation: KEYS, then each count in ``_permuted`` (list)."""
    each = _joined(left, right, pair, "null_counts", (*KEYS, "permutation"))
    differences = [(pl.col(f"{name}_right") - pl.col(name)).alias(f"{name}_permuted") for name in COUNTS]
    return each.group_by(KEYS, maintain_order=True).agg(differences)


def _with_null_columns(differences: pl.DataFrame, left: Result, right: Result, pair: tuple[str, str]) -> pl.DataFrame:
    if no_common_null(left, right, pair):
        missing = (pl.lit(None, pl.Float64).alias(column.format(name)) for name in COUNTS for column in NULL_COLUMNS)
        return differences.with_columns(missing)
    joined = differences.join(_null_differences(left, right, pair), on=KEYS, maintain_order="left")
    columns = []
    for name in COUNTS:
        permuted = np.stack(joined[f"{name}_permuted"].to_list()).astype(np.float64)
        mean, error = _mean_and_error(permuted)
        ends = (joined[f"{name}{end}"].to_numpy() - mean for end in ("", "_ci_low", "_ci_high"))
        values = (mean, error, *ends, two_sided_p_values(joined[name].to_numpy(), permuted))
        columns += [
            pl.Series(column.format(name), numbers).fill_nan(None)
            for column, numbers in zip(NULL_COLUMNS, values, strict=True)
        ]
    return joined.with_columns(columns)


def _mean_and_error(permuted: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return means over permutations (n, R), and their standard errors: NaN for one permutation."""
    number = permuted.shape[1]
    deviation = permuted.std(axis=1, ddof=1) if number > 1 else np.full(len(permuted), np.nan)
    return permuted.mean(axis=1), deviation / np.sqrt(number)


def _largest(run: Result, layer: str) -> pl.DataFrame:
    """Return the largest possible counts of a layer: rule, category, detectors, unique_detectors."""
    concepts_in = dict(run.concepts.group_by(pl.col("category").cast(pl.String)).len().rows())
    concepts = {name: int(concepts_in.get(name, 0)) for name in run.info.data.categories}
    rows = [
        {"rule": rule, "category": category, "detectors": detectors[category], "unique_detectors": unique[category]}
        for rule in RULES
        for detectors, unique in [largest_counts(rule, run.layer(layer).info.units, concepts)]
        for category in detectors
    ]
    return pl.DataFrame(rows)


def _joined(left: Result, right: Result, pair: tuple[str, str], table: str, keys: Sequence[str]) -> pl.DataFrame:
    """Join a table of statistics of two layers; columns of the right one end in ``_right``."""
    before, after = (run.layer(name).statistics[table] for run, name in zip((left, right), pair, strict=True))
    return before.join(after, on=keys, suffix="_right", maintain_order="left").collect()
