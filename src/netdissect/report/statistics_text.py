"""How sure the labels and counts of a layer are, in words that the terminal and the pages share.

    facts_of(result, layer, quantile)   of its detectors: significance, stability, held-out IoU, scores beside IoU
    robustness(result, layer)           of its conclusions: whether they hold at other quantiles and limits
    by_chance(levels)                   from which IoU on detectors are not chance's
    layout_of(info, layer)              whether its cells lie where they are said to

What a run did not measure is not spoken of.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from netdissect.config import Rule
from netdissect.result import LayerInfo, Result, RunInfo
from netdissect.result.queries import layer_units, limits, run_min_iou
from netdissect.result.statistics_schema import SCORES, SENSITIVITY, UNITS, Schema, complete
from netdissect.scoring import passes
from netdissect.scoring.detectors import limit_number
from netdissect.scoring.metrics import METRICS

SIGNIFICANT = 0.05
RULE: Rule = "top-label"


def facts_of(result: Result, layer: str, quantile: float) -> dict[str, str]:
    """Say how sure the labels of a layer's detectors are at one of the run's quantiles.

    Returns
    -------
    dict of str to str
        What, and how much of it; empty: the run measured nothing, or has no detector there.
    """
    units = layer_units(result, layer, quantile, run_min_iou(result, layer))
    detectors = units.filter("detector").select("unit", pl.col("label").alias("concept"))
    facts: dict[str, str] = {}
    each = _evidence(result, layer, "units", UNITS)
    if each is not None:
        each = each.filter(quantile=quantile)
        facts |= _of_labels(each.join(detectors, on="unit", how="semi"))
        chosen = each.filter(passes(pl.col("selection_iou"), RULE, run_min_iou(result, layer)))
        if len(chosen):
            here, there = (_mean(chosen[name]) for name in ("selection_iou", "heldout_iou"))
            facts["mean IoU"] = f"{here:.3f} on the images that chose the label, {there:.3f} on the others"
    scores = _evidence(result, layer, "scores", SCORES)
    if scores is not None:
        own = scores.filter(quantile=quantile).join(detectors, on=["unit", "concept"], how="semi")
        values = {metric.title: own[metric.name].drop_nulls() for metric in METRICS if metric.summarized}
        medians = [f"{name} {np.median(each.to_numpy()):.2f}" for name, each in values.items() if len(each)]
        if medians:
            facts["median"] = ", ".join(medians)
    return facts


def _of_labels(detectors: pl.DataFrame) -> dict[str, str]:
    facts: dict[str, str] = {}
    tested = detectors.filter(pl.col("p_value").is_not_null())
    if len(tested):
        hochberg, yekutieli = ((tested[f"q_value_{name}"] < SIGNIFICANT).sum() for name in ("bh", "by"))
        facts[f"q below {SIGNIFICANT:g}"] = (
            f"{hochberg} of {len(tested)} detectors (Benjamini-Hochberg), {yekutieli} (Benjamini-Yekutieli)"
        )
    kept = detectors["stability"].drop_nulls()
    if len(kept):
        facts["label kept"] = f"in {100 * _mean(kept):.0f} % of replicates, on average"
    return facts


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def by_chance(levels: Mapping[str, float]) -> str:
    """Put the limits by chance of some layers into words; 1 is none.

    >>> by_chance({"conv4": 0.1015384615, "conv5": 0.2})
    'At most one in twenty detectors is expected by chance from an IoU of 0.102 in conv4, 0.2 in conv5 on.'
    >>> by_chance({"conv4": 0.1015384615, "conv5": 1.0})
    'At most one in twenty detectors is expected by chance from an IoU of 0.102 in conv4 on, at none in conv5.'
    """
    some, none = ({name: level for name, level in levels.items() if (level < 1) is kind} for kind in (True, False))
    if not some:
        return "At every IoU, more than one in twenty detectors is expected by chance."
    where = limits(some) if not none else ", ".join(f"{limit_number(level)} in {name}" for name, level in some.items())
    rest = f", at none in {', '.join(none)}" if none else ""
    return f"At most one in twenty detectors is expected by chance from an IoU of {where} on{rest}."


def layout_of(info: RunInfo, layer: LayerInfo) -> str:
    """Say whether spots on two images have shown that a layer's cells lie where its masks put them.

    Returns
    -------
    str
        A sentence; empty: they have, or it has one cell.
    """
    if (layer.height, layer.width) == (1, 1):
        return ""
    if not info.config.layout_check:
        return "It was not checked that its cells lie where masks put them."
    check = info.layout_checks.get(layer.name)
    if check is None or check.verdict == "confirmed":
        return ""
    if check.verdict == "no evidence":
        return f"The check of where its cells lie found no evidence ({check.reason})."
    return (
        f"The check of where its cells lie contradicts its masks ({check.reason}): correlation "
        f"{min(check.correlation):.2f}, displacement {max(check.displacement, key=abs):+.1f} steps."
    )


def robustness(result: Result, layer: str) -> list[str]:
    """Say whether a layer's conclusions hold at all quantiles and limits that the run counted, rule top-label.

    Returns
    -------
    list of str
        Of which category it detects most concepts, and how it compares with each other layer; empty: not measured.
    """
    own = _unique(result, layer)
    if own is None or not (own["unique_detectors"] > 0).any():
        return []
    cases = own.select("quantile", "min_iou").unique().height
    return [
        f"{cases} combinations were counted.",
        *_largest_category(own),
        *_against_others(result, layer, own.filter(category="total")),
    ]


def _largest_category(counted: pl.DataFrame) -> Iterator[str]:
    """Say which category most often has most unique detectors; on a tie it does not."""
    each = counted.filter(pl.col("category") != "total", pl.col("unique_detectors") > 0)
    highest = each.filter(pl.col("unique_detectors") == pl.col("unique_detectors").max().over("quantile", "min_iou"))
    alone = highest.filter(pl.len().over("quantile", "min_iou") == 1)
    often = alone["category"].value_counts().sort("count", "category", descending=[True, False])
    if len(often):
        name, count = often.row(0)
        yield f"Most unique detectors are most often of the category {name}: in {count} of them."


def _against_others(result: Result, layer: str, own: pl.DataFrame) -> Iterator[str]:
    for name in result.layers:
        other = _unique(result, name)
        if name != layer and other is not None:
            both = own.join(other.filter(category="total"), on=["quantile", "min_iou"], suffix="_other")
            more, fewer = (
                (both["unique_detectors"] > both["unique_detectors_other"]).sum(),
                (both["unique_detectors"] < both["unique_detectors_other"]).sum(),
            )
            yield f"There are more unique detectors than in {name} in {more} of them, fewer in {fewer}."


def _unique(result: Result, layer: str) -> pl.DataFrame | None:
    counted = _evidence(result, layer, "sensitivity", SENSITIVITY)
    return None if counted is None else counted.filter(rule=RULE)


def _evidence(result: Result, layer: str, table: str, schema: Schema) -> pl.DataFrame | None:
    """Read a table of evidence with all its columns, whichever there were when the run was made; None: not measured."""
    evidence = result.layer(layer).evidence
    return complete(evidence[table].collect(), schema) if table in evidence else None
