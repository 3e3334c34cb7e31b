"""Confidence intervals of the difference between two runs on the same images, from a paired bootstrap.

    paired_differences        a table: each pair of layers, quantile, rule and category
    mean_paired_difference    one number: unique detectors, averaged over pairs of layers

Replicates of one seed draw the same images in every run. Variation that both counts share, such as images that are
easy to label, cancels in the difference of the replicates, so its interval is narrower than those of the counts.

Source: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`, section 10.3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from netdissect.config import RULES, Rule
from netdissect.errors import ResultError
from netdissect.result.compare import layer_pairs
from netdissect.result.result import Result
from netdissect.scoring import largest_counts
from netdissect.scoring.statistics.bootstrap import interval_of_counts

KEYS = ("quantile", "rule", "category")
COUNTS = ("detectors", "unique_detectors")
TOTAL = "total"


class PairedDifference(NamedTuple):
    """A difference of counts, right minus left, its 95 % confidence interval and the number of replicates."""

    value: float
    low: float
    high: float
    replicates: int


def paired_differences(left: Result, right: Result, *, layers: Sequence[tuple[str, str]] | None = None) -> pl.DataFrame:
    """Compare the detectors of two runs on the same images, with confidence intervals.

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
        right minus left, each with the ends of its 95 % interval in ``_ci_low`` and
        ``_ci_high``, within the possible range.

    Raises
    ------
    ResultError
        If images, replicates or IoU limits of the runs differ, or a run has no replicates.
    """
    frames = []
    for pair in layer_pairs(left, right, layers):
        differences = _differences(left, right, pair)
        for name in COUNTS:
            low, high = interval_of_counts(
                differences[name].to_numpy(), np.stack(differences[f"{name}_drawn"].to_list()),
                differences[f"{name}_least"].to_numpy(), differences[f"{name}_most"].to_numpy(),
            )  # fmt: skip
            differences = differences.with_columns(pl.Series(f"{name}_ci_low", low), pl.Series(f"{name}_ci_high", high))
        columns = [*KEYS, *(f"{name}{end}" for name in COUNTS for end in ("", "_ci_low", "_ci_high"))]
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
        As `paired_differences` does.
    """
    frames = [_differences(left, right, pair) for pair in layer_pairs(left, right, layers)]
    rows = [frame.filter(quantile=quantile, rule=rule, category=TOTAL).row(0, named=True) for frame in frames]
    # Sums are counts, means are not: the interval is that of the sum.
    value, minimum, maximum = (sum(row[f"unique_detectors{end}"] for row in rows) for end in ("", "_least", "_most"))
    replicate_tables = np.sum([row["unique_detectors_drawn"] for row in rows], axis=0)
    low, high = interval_of_counts([value], replicate_tables[None], minimum, maximum)
    number = len(rows)
    return PairedDifference(value / number, float(low[0]) / number, float(high[0]) / number, len(replicate_tables))


def _refuse_unpaired(left: Result, right: Result) -> None:
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
            raise ResultError(
                f"the runs are not paired: {name} are {left_value} on the left and {right_value} on the right. Repeat "
                "one of them on the same data with the same --bootstrap, --stats-seed and --min-iou."
            )


def _differences(left: Result, right: Result, pair: tuple[str, str]) -> pl.DataFrame:
    """Subtract counts and replicates: KEYS, then for each count its value, ``_drawn`` (list), ``_least``, ``_most``."""
    _refuse_unpaired(left, right)
    counts = [_statistics(run, name, "counts") for run, name in zip((left, right), pair, strict=True)]
    replicate_tables = [_statistics(run, name, "replicates") for run, name in zip((left, right), pair, strict=True)]
    largest = [_largest(run, name) for run, name in zip((left, right), pair, strict=True)]
    joined_counts = counts[0].join(counts[1], on=KEYS, suffix="_right", maintain_order="left")
    each = replicate_tables[0].join(
        replicate_tables[1], on=(*KEYS, "replicate"), suffix="_right", maintain_order="left"
    )
    differences = [(pl.col(f"{name}_right") - pl.col(name)).alias(name) for name in COUNTS]
    replicates = each.group_by(KEYS, maintain_order=True).agg(differences)
    bounds = largest[0].join(largest[1], on=("rule", "category"), suffix="_right")
    bounds = bounds.select(
        "rule", "category", *((-pl.col(name)).alias(f"{name}_least") for name in COUNTS),
        *(pl.col(f"{name}_right").alias(f"{name}_most") for name in COUNTS),
    )  # fmt: skip
    joined = joined_counts.select(*KEYS, *differences).join(replicates, on=KEYS, suffix="_drawn", maintain_order="left")
    return joined.join(bounds, on=("rule", "category"), maintain_order="left")


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


def _statistics(run: Result, layer: str, table: str) -> pl.DataFrame:
    statistics = run.layer(layer).statistics
    if table not in statistics or "replicates" not in statistics:
        raise ResultError(
            f"the run of {run.info.network.name} has no replicates of layer {layer!r}. Repeat it with --bootstrap 1000."
        )
    return statistics[table].collect()
