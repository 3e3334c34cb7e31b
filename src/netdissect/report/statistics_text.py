"""Statistics of a layer's labels and counts, as text for the terminal and the pages.

    layer_facts(result, layer, quantile)   of its detectors: q-values, label stability, held-out IoU, extra
                                           metrics; of all units: R2 of labels and linear explanations, and those
                                           of a sparse basis that are rarely active or dead
    robustness(result, layer)              whether its conclusions hold at other quantiles and limits
    fdr_limit_text(limits)                 the IoU limits at which the false discovery rate is low
    layout_text(info, layer)               result of the layout check
    layout_notes(result)                   what is assumed or wrong about layouts, of all layers

Statistics that a run did not measure are left out.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from netdissect.config import Rule
from netdissect.counted import counted, noun
from netdissect.result import LayerInfo, Result, RunInfo
from netdissect.result.queries import layer_units, limits, run_min_iou
from netdissect.result.statistics_schema import LINEAR_EXPLANATIONS, SCORES, SENSITIVITY, UNITS, Schema, complete
from netdissect.result.summary import reports_q_values
from netdissect.scoring import passes
from netdissect.scoring.detectors import limit_number
from netdissect.scoring.metrics import METRICS
from netdissect.scoring.statistics.multiple_testing import SIGNIFICANT

RULE: Rule = "top-label"
MOST_LISTED = 20  # dead units
OF_MOMENTS = ("label_correlation", "label_r2", "linear_correlation", "linear_r2")
"""Columns of the table ``units`` of a run with moments."""


def layer_facts(result: Result, layer: str, quantile: float) -> dict[str, str]:
    """Return the statistics of the labels of a layer's detectors at one of the run's quantiles.

    q-values are those of all units, and are left out if there were fewer than 1,000 permutations.

    Returns
    -------
    dict of str to str
        Name and value, as text; empty: the run measured nothing, or has no detector there.
    """
    units = layer_units(result, layer, quantile, run_min_iou(result, layer))
    detectors = units.filter("detector").select("unit", pl.col("label").alias("concept"))
    facts: dict[str, str] = {}
    units_table = _statistics_table(result, layer, "units", UNITS)
    if units_table is not None:
        measured = units_table.filter(quantile=quantile)
        if reports_q_values(result, layer):
            facts |= _significant(measured)
        facts |= _stability(measured.join(detectors, on="unit", how="semi"))
        selected = measured.filter(passes(pl.col("selection_iou"), RULE, run_min_iou(result, layer)))
        if len(selected):
            selection, heldout = (_mean(selected[name]) for name in ("selection_iou", "heldout_iou"))
            facts["mean IoU"] = f"{selection:.3f} on the selection half, {heldout:.3f} on the held-out half"
    scores = _statistics_table(result, layer, "scores", SCORES)
    if scores is not None:
        own = scores.filter(quantile=quantile).join(detectors, on=["unit", "concept"], how="semi")
        values = {metric.title: own[metric.name].drop_nulls() for metric in METRICS if metric.summarized}
        medians = [f"{title} {np.median(column.to_numpy()):.2f}" for title, column in values.items() if len(column)]
        if medians:
            facts["median"] = ", ".join(medians)
    return facts | _whole_range(result, layer, quantile) | _rarely_active(result, layer, quantile)


def _rarely_active(result: Result, layer: str, quantile: float) -> dict[str, str]:
    """Say which units of a basis are active on fewer cells than the quantile asks; empty: none has the threshold 0."""
    of_layer = result.layer(layer)
    zero = of_layer.thresholds.filter(pl.col("quantile") == quantile, pl.col("threshold") == 0)
    if of_layer.info.basis_of is None or zero.is_empty():
        return {}
    dead = zero.filter("dead")["unit"].to_list()
    rest = f" and {len(dead) - MOST_LISTED:,} more" if len(dead) > MOST_LISTED else ""
    numbers = f": {', '.join(map(str, dead[:MOST_LISTED]))}{rest}" if dead else ""
    return {
        "threshold 0": (
            f"{counted(len(zero) - len(dead), 'units')}, active on no more cells than the quantile asks: masks are "
            "where upsampled maps are above 0"
        ),
        "dead": f"{counted(len(dead), 'units')}{numbers}",
    }


def _significant(measured: pl.DataFrame) -> dict[str, str]:
    tested = measured.filter(pl.col("p_value").is_not_null())
    if not len(tested):
        return {}
    hochberg, yekutieli = ((tested[f"q_value_{name}"] < SIGNIFICANT).sum() for name in ("bh", "by"))
    units = f"{hochberg} of {counted(len(tested), 'units')}"
    return {f"q < {SIGNIFICANT:g}": f"{units} (Benjamini-Hochberg), {yekutieli} (Benjamini-Yekutieli)"}


def _stability(detectors: pl.DataFrame) -> dict[str, str]:
    stability = detectors["stability"].drop_nulls()
    if not len(stability):
        return {}
    percent = 100 * _mean(stability)
    return {"label stability": f"same label in {percent:.0f} % of bootstrap replicates, on average"}


def _whole_range(result: Result, layer: str, quantile: float) -> dict[str, str]:
    """Compare labels and linear explanations of the units that have both."""
    units = _statistics_table(result, layer, "units", UNITS)
    terms = _statistics_table(result, layer, "linear_explanations", LINEAR_EXPLANATIONS)
    if units is None or terms is None:
        return {}
    both = units.filter(quantile=quantile).drop_nulls(OF_MOMENTS)
    if not len(both):
        return {}
    lengths = terms.join(both, on="unit", how="semi").group_by("unit").len()["len"].to_numpy()
    length = float(np.median(lengths))
    label, linear = _median_scores(both, "label"), _median_scores(both, "linear")
    return {
        "mean activation": (
            f"median on held-out images: {label} of the label, {linear} of the linear explanation of "
            f"{length:g} {noun(length, 'concepts')}"
        )
    }


def _median_scores(units: pl.DataFrame, name: str) -> str:
    correlation, r2 = (np.median(units[f"{name}_{column}"].to_numpy()) for column in ("correlation", "r2"))
    return f"correlation {correlation:.2f} and R2 {r2:.2f}"


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def fdr_limit_text(fdr_limits: Mapping[str, float]) -> str:
    """Put the limits of some layers at which the false discovery rate is at most 5 % into words; 1 is none.

    >>> fdr_limit_text({"conv4": 0.1015384615, "conv5": 0.2})
    'The false discovery rate under the null is at most 5 % at an IoU of 0.102 in conv4, 0.2 in conv5 or more.'
    >>> fdr_limit_text({"conv4": 0.1015384615, "conv5": 1.0})
    'The false discovery rate under the null is at most 5 % at an IoU of 0.102 in conv4 or more, at no IoU in conv5.'
    """
    some = {name: limit for name, limit in fdr_limits.items() if limit < 1}
    if not some:
        return "The false discovery rate under the null is above 5 % at every IoU."
    none = [name for name in fdr_limits if name not in some]
    where = limits(some) if not none else ", ".join(f"{limit_number(limit)} in {name}" for name, limit in some.items())
    rest = f", at no IoU in {', '.join(none)}" if none else ""
    return f"The false discovery rate under the null is at most 5 % at an IoU of {where} or more{rest}."


def layout_text(info: RunInfo, layer: LayerInfo) -> str:
    """Report the result of the layout check of a layer.

    Returns
    -------
    str
        A sentence; empty: the check confirmed the layout, or the layer has one cell.
    """
    if (layer.height, layer.width) == (1, 1):
        return ""
    if not info.config.layout_check:
        return "The spatial layout of its cells was not checked."
    check = info.layout_checks.get(layer.name)
    if check is None or check.verdict == "confirmed":
        return ""
    if check.verdict == "no evidence":
        return f"The layout check was inconclusive ({check.reason})."
    return (
        f"The layout check contradicts the layout of its masks ({check.reason}): correlation "
        f"{min(check.correlation):.2f}, displacement {max(check.displacement, key=abs):+.1f} steps."
    )


def layout_notes(result: Result) -> list[str]:
    """Return what is assumed or wrong about the layouts of layers, and that the network is nondeterministic."""
    layers: dict[str, list[str]] = {}
    for name, layer in result.layers.items():
        texts = [*(f"{assumption}." for assumption in layer.info.assumptions), layout_text(result.info, layer.info)]
        for text in filter(None, texts):
            layers.setdefault(text, []).append(name)
    accepted = result.info.nondeterministic
    return [
        *([] if accepted is None else [f"The network is nondeterministic, which was accepted: {accepted}"]),
        *(
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
            for text, names in layers.items()
        ),
    ]


def robustness(result: Result, layer: str) -> list[str]:
    """Report whether a layer's conclusions hold at all quantiles and limits that the run counted, rule top-label.

    Returns
    -------
    list of str
        The category of which it detects most concepts, and the comparison with each other layer; empty: not measured.
    """
    own = _unique(result, layer)
    if own is None or not (own["unique_detectors"] > 0).any():
        return []
    cases = own.select("quantile", "min_iou").unique().height
    return [
        f"Detectors were counted at {cases} combinations of quantile and IoU limit.",
        *_largest_category(own),
        *_against_others(result, layer, own.filter(category="total")),
    ]


def _largest_category(counted: pl.DataFrame) -> Iterator[str]:
    """Report the category that most often has the most unique detectors; ties do not count."""
    positive = counted.filter(pl.col("category") != "total", pl.col("unique_detectors") > 0)
    highest = positive.filter(
        pl.col("unique_detectors") == pl.col("unique_detectors").max().over("quantile", "min_iou")
    )
    alone = highest.filter(pl.len().over("quantile", "min_iou") == 1)
    often = alone["category"].value_counts().sort("count", "category", descending=[True, False])
    if len(often):
        name, count = often.row(0)
        yield f"The category with the most unique detectors is most often {name}, in {count} of them."


def _against_others(result: Result, layer: str, own: pl.DataFrame) -> Iterator[str]:
    for name in result.layers:
        other = _unique(result, name)
        if name != layer and other is not None:
            both = own.join(other.filter(category="total"), on=["quantile", "min_iou"], suffix="_other")
            more, fewer = (
                (both["unique_detectors"] > both["unique_detectors_other"]).sum(),
                (both["unique_detectors"] < both["unique_detectors_other"]).sum(),
            )
            yield f"The layer has more unique detectors than {name} in {more} of them and fewer in {fewer}."


def _unique(result: Result, layer: str) -> pl.DataFrame | None:
    counted = _statistics_table(result, layer, "sensitivity", SENSITIVITY)
    return None if counted is None else counted.filter(rule=RULE)


def _statistics_table(result: Result, layer: str, table: str, schema: Schema) -> pl.DataFrame | None:
    """Read a table of statistics with all columns of its schema; None: not measured."""
    statistics = result.layer(layer).statistics
    return complete(statistics[table].collect(), schema) if table in statistics else None
