"""How sure the difference between two runs on the same images is.

Replicates of one seed draw the same images in every run. What makes all counts rise together, such as pictures that
are easy to label, falls out of the difference of the replicates, which is why it is surer than either count.

Source: Efron and Tibshirani 1993 :cite:p:`efron1993bootstrap`, section 10.3.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from netdissect.errors import ResultError
from netdissect.result.compare import layer_pairs
from netdissect.result.run import Result
from netdissect.score.bootstrap import interval_of_counts

KEYS = ("quantile", "rule", "category")
COUNTS = ("detectors", "unique")


def paired_differences(left: Result, right: Result, *, layers: Sequence[tuple[str, str]] | None = None) -> pl.DataFrame:
    """Compare the detectors of two runs on the same images, with intervals.

    Parameters
    ----------
    left, right
        Finished runs with a bootstrap of the same seed.
    layers
        Pairs of a layer on the left and one on the right. None: those of one name, or the only layers.

    Returns
    -------
    DataFrame
        left, right (layers), quantile, rule, category (or ``total``), then ``detectors`` and ``unique``, right minus
        left, each with the ends of its 95 % interval in ``_low`` and ``_high``.

    Raises
    ------
    ResultError
        If the runs saw different images, have other replicates or none, or another limit for detectors.
    """
    pairs = layer_pairs(left, right) if layers is None else layers
    for pair in pairs:
        _refuse_unpaired(left, right, pair)
    frames = [
        _difference(left, right, pair).select(pl.lit(pair[0]).alias("left"), pl.lit(pair[1]).alias("right"), pl.all())
        for pair in pairs
    ]
    return pl.concat(frames)


def _refuse_unpaired(left: Result, right: Result, pair: tuple[str, str]) -> None:
    asked = [(run.info.config.evidence.bootstrap, run.info.config.evidence.seed) for run in (left, right)]
    for name, ours, theirs in (
        ("images and labels (digest)", left.info.data.digest[:12], right.info.data.digest[:12]),
        ("replicates and seed", *asked),
        ("IoU of a detector", left.info.min_iou(pair[0]), right.info.min_iou(pair[1])),
    ):
        if ours != theirs:
            raise ResultError(
                f"the runs are not paired: {name} are {ours} on the left and {theirs} on the right. Repeat one of them "
                "on the same data with the same --bootstrap, --evidence-seed and --min-iou."
            )


def _difference(left: Result, right: Result, pair: tuple[str, str]) -> pl.DataFrame:
    counts = [_evidence(run, name, "counts") for run, name in zip((left, right), pair, strict=True)]
    drawn = [_evidence(run, name, "replicates") for run, name in zip((left, right), pair, strict=True)]
    found = counts[0].join(counts[1], on=KEYS, suffix="_right", maintain_order="left")
    each = drawn[0].join(drawn[1], on=(*KEYS, "replicate"), suffix="_right", maintain_order="left")
    differences = [(pl.col(f"{name}_right") - pl.col(name)).alias(name) for name in COUNTS]
    found = found.select(*KEYS, *differences)
    replicates = each.group_by(KEYS, maintain_order=True).agg(differences)
    joined = found.join(replicates, on=KEYS, suffix="_drawn", maintain_order="left")
    for name in COUNTS:
        low, high = interval_of_counts(found[name].to_numpy(), np.stack(joined[f"{name}_drawn"].to_list()))
        found = found.with_columns(pl.Series(f"{name}_low", low), pl.Series(f"{name}_high", high))
    return found.select(*KEYS, *(f"{name}{end}" for name in COUNTS for end in ("", "_low", "_high")))


def _evidence(run: Result, layer: str, table: str) -> pl.DataFrame:
    evidence = run.layer(layer).evidence
    if table not in evidence:
        raise ResultError(
            f"the run of {run.info.network.name} has no replicates of layer {layer!r}. Repeat it with --bootstrap 1000."
        )
    return evidence[table].collect()
