"""Scores of the labels of several methods: tables, and how they are summarized.

units of a layer x metrics of all methods -> summarized -> scores and paired differences
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.counted import counted
from netdissect.evaluation.evaluate_config import EvaluateConfig
from netdissect.evaluation.label_metrics import METRICS_OF_LABELS, LabelMetric
from netdissect.evaluation.unit_intervals import UnitMeans, paired_means, unit_means

Floats = npt.NDArray[np.float64]
Schema = Mapping[str, type[pl.DataType] | pl.DataType]

SCORES: Schema = {
    "layer": pl.String,
    "level": pl.String,
    "metric": pl.String,
    "method": pl.String,
    "value": pl.Float64,  # mean over its units that have a score
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "units": pl.Int64,
}
DIFFERENCES: Schema = {
    "layer": pl.String,
    "level": pl.String,
    "metric": pl.String,
    "left": pl.String,
    "right": pl.String,
    "difference": pl.Float64,  # mean of left less right, over the units that both have a score of
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "units": pl.Int64,
}
COVERAGE: Schema = {
    "layer": pl.String,
    "method": pl.String,
    "units": pl.Int64,  # of the layer
    "labels": pl.Int64,  # units that the method labels
    "exact": pl.Int64,
    "synonym": pl.Int64,
    "spelling": pl.Int64,
    "mapping": pl.Int64,
    "unmatched": pl.Int64,
    "coverage": pl.Float64,  # share of the labels that are matched
    "with_images": pl.Int64,  # labels with a folder of images; null: no CoSy
}


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Labels of methods, scored on one run.

    Attributes
    ----------
    config
        What was measured.
    coverage
        How many labels of each method were matched, by layer.
    matches
        A row for each method and distinct label: units that have it, concept, how it was found, similar names.
    units
        A row for each label: layer, method, unit, label, score (the method's own), concept, how, then a column
        ``LEVEL_METRIC`` for each metric; null where it could not be measured. CoSy also has ``cosy_u`` and ``cosy_p``.
    scores
        Mean of each metric over the units of a method, with its interval.
    differences
        Mean difference of each two methods over the units that both label, with its paired interval.
    notes
        What was not measured, and what to do.
    """

    config: EvaluateConfig
    coverage: pl.DataFrame
    matches: pl.DataFrame
    units: pl.DataFrame
    scores: pl.DataFrame
    differences: pl.DataFrame
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the size of the evaluation and the names of its tables."""
        methods = self.coverage["method"].unique(maintain_order=True)
        return (
            f"{counted(len(methods), 'methods')} ({', '.join(methods)}), {counted(len(self.units), 'labels')}, of "
            f"which {self.units['concept'].count():,} are matched\n"
            "tables: coverage, matches, units, scores, differences"
        )


def covered(units: pl.DataFrame, layer_units: Mapping[str, int]) -> pl.DataFrame:
    """Count the labels of each method in each layer by how they were matched; returns the columns `COVERAGE`.

    Parameters
    ----------
    units
        See `Evaluation.units`; ``with_images`` says which labels have images, if there is such a column.
    layer_units
        Units of each layer.
    """
    kinds = [pl.col("how").eq(how).sum().alias(how) for how in ("exact", "synonym", "spelling", "mapping", "unmatched")]
    images = pl.col("with_images").sum() if "with_images" in units.columns else pl.lit(None)
    table = units.group_by("layer", "method", maintain_order=True).agg(
        pl.len().alias("labels"), *kinds, pl.col("concept").is_not_null().mean().alias("coverage"),
        images.alias("with_images"),
    )  # fmt: skip
    sizes = pl.col("layer").replace_strict(dict(layer_units), return_dtype=pl.Int64)
    return table.with_columns(sizes.alias("units")).select(pl.col(name).cast(kind) for name, kind in COVERAGE.items())


def summarized(units: pl.DataFrame, seed: int, replicates: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the scores of all methods and the differences of each two, with intervals, by layer and metric.

    Parameters
    ----------
    units
        See `Evaluation.units`.
    seed
        Of the bootstrap: that of the run's statistics.
    replicates
        Of the bootstrap.
    """
    rows: list[tuple[object, ...]] = []
    differences: list[tuple[object, ...]] = []
    measured = [metric for metric in METRICS_OF_LABELS if metric.column in units.columns]
    for (layer,), of_layer in units.group_by("layer", maintain_order=True):
        numbers = of_layer["unit"].unique().sort().to_numpy()
        methods = of_layer["method"].unique(maintain_order=True).to_list()
        table = _cube(of_layer, methods, numbers, measured)
        columns = [(metric, method) for metric in range(len(measured)) for method in range(len(methods))]
        means = unit_means(table.reshape(len(numbers), -1), numbers, seed, replicates)
        rows += [
            (layer, measured[metric].level, measured[metric].name, methods[method], *values)
            for (metric, method), values in zip(columns, _numbers(means), strict=True)
            if values[-1]
        ]
        pairs = list(combinations(range(len(methods)), 2))
        left, right = (table[:, :, [pair[side] for pair in pairs]].reshape(len(numbers), -1) for side in (0, 1))
        paired = paired_means(left, right, numbers, seed, replicates)
        differences += [
            (layer, metric.level, metric.name, methods[one], methods[other], *values)
            for (metric, (one, other)), values in zip(
                ((metric, pair) for metric in measured for pair in pairs), _numbers(paired), strict=True
            )
            if values[-1]
        ]
    frames = (
        pl.DataFrame(found, schema=dict(schema), orient="row")
        for found, schema in ((rows, SCORES), (differences, DIFFERENCES))
    )
    scores, compared = frames
    return scores, compared


def _cube(
    units: pl.DataFrame, methods: Sequence[str], numbers: npt.NDArray[np.int32], metrics: Sequence[LabelMetric]
) -> Floats:
    """Return scores of units, metrics and methods, float64 (U, K, M); NaN where there is none."""
    cube = np.full((len(numbers), len(metrics), len(methods)), np.nan)
    for index, method in enumerate(methods):
        of_method = units.filter(pl.col("method") == method)
        values = of_method.select(pl.col(metric.column).cast(pl.Float64).fill_null(np.nan) for metric in metrics)
        cube[np.searchsorted(numbers, of_method["unit"].to_numpy()), :, index] = values.to_numpy()
    return cube


def _numbers(means: UnitMeans) -> list[tuple[float | None, ...]]:
    """Return the numbers of each column; None where they are not known."""
    columns = zip(means.value, means.ci_low, means.ci_high, strict=True)
    return [
        (*(None if np.isnan(number) else float(number) for number in numbers), int(units))
        for numbers, units in zip(columns, means.units, strict=True)
    ]
