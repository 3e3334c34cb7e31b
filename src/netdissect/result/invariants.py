"""Laws that every run obeys; checking them needs neither the network nor the data.

    check_invariants(result) -> InvariantCheck of each law and layer

Counts are not recomputed, but a table that was changed, exchanged between runs or written by a faulty program breaks
one of these laws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from netdissect.result.result import LayerResult, Result
from netdissect.scoring import best_concepts, f1, iou
from netdissect.scoring.iou import top_category


@dataclass(frozen=True)
class InvariantCheck:
    """Whether one law holds in one layer; if not, `detail` describes the violation."""

    law: str
    layer: str
    holds: bool
    detail: str = ""


Law = Callable[[Result, LayerResult, pl.DataFrame], str]
"""Takes a run, a layer and its scores; returns what is wrong, or nothing."""


def check_invariants(run: Result) -> Iterator[InvariantCheck]:
    """Check every law on every layer of a run, and only completeness on an incomplete layer; reads one at a time."""
    for name, layer in run.layers.items():
        scores = layer.scores
        missing = _missing(run, layer, scores)
        yield InvariantCheck(COMPLETE, name, not missing, missing)
        if not missing:
            for law, check in LAWS.items():
                wrong = check(run, layer, scores)
                yield InvariantCheck(law, name, not wrong, wrong)


def _missing(run: Result, layer: LayerResult, scores: pl.DataFrame) -> str:
    quantiles, units, concepts = len(run.info.config.protocol.quantiles), layer.info.units, run.concepts.height
    keys = scores.select("quantile", "unit", "label_id")
    if scores.height != quantiles * units * concepts or keys.n_unique() != scores.height:
        return f"{scores.height} rows of scores for {quantiles} quantiles, {units} units and {concepts} concepts"
    for table in (layer.units, layer.thresholds):
        if table.height != quantiles * units:
            return f"{table.height} rows for {quantiles} quantiles and {units} units"
    return ""


def _bounded(run: Result, _layer: LayerResult, scores: pl.DataFrame) -> str:
    within = (
        (pl.col("intersection") >= 0)
        & (pl.col("intersection") <= pl.col("concept_pixels"))
        & (pl.col("mask_pixels") >= 0)
    )
    # If a pixel counts once for each of its labels, an intersection may exceed the mask.
    if run.info.config.protocol.duplicates == "once":
        within &= pl.col("intersection") <= pl.col("mask_pixels")
    return _first(scores.filter(~within), "intersection", "mask_pixels", "concept_pixels")


def _truths(run: Result, _layer: LayerResult, scores: pl.DataFrame) -> str:
    known = run.concepts.select(pl.col("label_id").cast(pl.Int32), pl.col("concept_pixels").alias("counted"))
    joined = scores.join(known, on="label_id", how="left")
    return _first(joined.filter(pl.col("concept_pixels").ne_missing(pl.col("counted"))), "concept_pixels", "counted")


def _one_activation(_run: Result, _layer: LayerResult, scores: pl.DataFrame) -> str:
    groups = scores.group_by("quantile", "unit", "category").agg(
        pl.col("mask_pixels").n_unique().alias("values"), pl.col("concept").first()
    )
    return _first(groups.filter(pl.col("values") > 1), "values")


def _ratios(_run: Result, _layer: LayerResult, scores: pl.DataFrame) -> str:
    counts = [scores[name].to_numpy() for name in ("intersection", "mask_pixels", "concept_pixels")]
    wrong = (iou(*counts) != scores["iou"].to_numpy()) | (f1(*counts) != scores["f1"].to_numpy())
    return _first(scores.filter(pl.Series(wrong)), "intersection", "mask_pixels", "concept_pixels", "iou", "f1")


def _labels(run: Result, layer: LayerResult, scores: pl.DataFrame) -> str:
    categories = run.info.data.categories
    category_index = {name: index for index, name in enumerate(categories)}
    concepts = run.concepts.sort("label_id")
    category_of = np.array([category_index[name] for name in concepts["category"]], np.int64)
    names = concepts["concept"].to_list()
    for quantile in run.info.config.protocol.quantiles:
        rows = scores.filter(pl.col("quantile") == quantile).sort("unit", "label_id")
        matrix = rows["iou"].to_numpy().reshape(layer.info.units, len(names))
        best = best_concepts(matrix, category_of, len(categories))
        units = layer.units.filter(pl.col("quantile") == quantile).sort("unit")
        highest = np.where(best >= 0, np.take_along_axis(matrix, np.maximum(best, 0), 1), 0.0)
        top = top_category(highest)
        for unit, row in enumerate(units.iter_rows(named=True)):
            expected = [names[index] if index >= 0 else None for index in best[unit]]
            label = expected[top[unit]] if top[unit] >= 0 else None
            if row["label"] != label or [row[f"{name}-label"] for name in categories] != expected:
                return f"unit {unit} at {quantile:g} is labeled {row['label']!r}; its scores say {label!r}"
    return ""


def _thresholds(_run: Result, layer: LayerResult, scores: pl.DataFrame) -> str:
    ordered = layer.thresholds.sort("unit", "quantile")
    rising = ordered.filter(pl.col("threshold").diff().over("unit") > 0)
    if rising.height:
        return f"unit {rising['unit'][0]} has a higher threshold at a larger quantile"
    if ordered.filter(pl.col("dead") != (pl.col("max_activation") <= pl.col("threshold"))).height:
        return "a unit is marked dead but has activations above its threshold, or the other way round"
    smaller = scores.sort("unit", "label_id", "quantile").filter(
        pl.col("mask_pixels").diff().over("unit", "label_id", mapping_strategy="group_to_rows") < 0
    )
    return _first(smaller, "mask_pixels")


def _top_images(_run: Result, layer: LayerResult, _scores: pl.DataFrame) -> str:
    top = layer.top.sort("unit", "rank")
    if top.filter(pl.col("max_activation").diff().over("unit") > 0).height:
        return "the maxima of the top images of a unit are not in descending order"
    units, ranks = top["unit"].to_numpy(), top["rank"].to_numpy()
    peaks = layer.top_maps.max(axis=(2, 3))[units, ranks]
    if not np.array_equal(peaks, top["max_activation"].to_numpy()):
        return "an activation map of a top image has another maximum than the table says"
    first = top.filter(pl.col("rank") == 0).join(layer.thresholds.unique("unit"), on="unit", suffix="_over_all")
    if first.filter(pl.col("max_activation") != pl.col("max_activation_over_all")).height:
        return "a unit's first top image is not where its maximum is"
    return ""


COMPLETE = "every unit and concept occurs once"
LAWS: dict[str, Law] = {
    "intersections lie within mask and concept": _bounded,
    "concepts are as large as the table of concepts says": _truths,
    "a unit's mask has one size in each category": _one_activation,
    "IoU and F1 follow from the counts": _ratios,
    "labels are the concepts of highest IoU": _labels,
    "thresholds fall and masks grow with the quantile": _thresholds,
    "top images agree with their activation maps": _top_images,
}


def _first(wrong: pl.DataFrame, *columns: str) -> str:
    """Describe the first row that breaks a law."""
    if wrong.is_empty():
        return ""
    row = wrong.row(0, named=True)
    values = ", ".join(f"{column} {row[column]}" for column in columns)
    return f"{wrong.height} rows, first unit {row['unit']} and {row['concept']!r} at {row['quantile']:g}: {values}"
