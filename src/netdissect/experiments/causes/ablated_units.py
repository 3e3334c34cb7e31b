"""Ablate each unit of a generator's layer alone, and measure how much of its label disappears."""

import numpy as np
import polars as pl

from netdissect.config import Progress
from netdissect.experiments.effect_sizes import mean_interval
from netdissect.experiments.interventions.areas import AreaMeter, Changes, Floats
from netdissect.result import Result
from netdissect.segmenters import Segmenter

AT_ONCE = 64
"""Units whose areas are in memory together."""
SCHEMA: dict[str, type[pl.DataType]] = {
    "layer": pl.String, "unit": pl.Int64, "label": pl.String, "category": pl.String, "iou": pl.Float64,
    "before": pl.Float64, "effect": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64, "removed": pl.Float64,
    "matches": pl.Boolean, "causes": pl.Boolean,
}  # fmt: skip
EFFECT = ("before", "effect", "ci_low", "ci_high", "removed")


def ablated_units(result: Result, name: str, meter: AreaMeter, progress: Progress | None = None) -> pl.DataFrame:
    """Return a row for each unit of a layer.

    Parameters
    ----------
    result
        A dissection of the generator.
    name
        The layer.
    meter
        Of the layer.
    progress
        Called with the samples done.

    Returns
    -------
    polars.DataFrame
        layer, unit, label and category (of the segmenter, of the highest IoU; null: it overlaps with none), iou, before
        (mean share of the image that has the label), effect (mean change of this share where the unit is ablated),
        ci_low, ci_high, removed (the part of the label's area that disappears: minus effect / before; null where no
        sample shows the label), matches (of at least the run's smallest IoU), causes (the interval of the effect is
        below 0).
    """
    labels = _segmented_labels(result, name, meter.segmenter)
    changes, rows = Changes(meter.layer, None, np.zeros(meter.layer.units)), list[dict[str, float | None]]()
    labeled = [row for row in labels.iter_rows(named=True) if row["index"] is not None]
    for start in range(0, len(labeled), AT_ONCE):
        part = labeled[start : start + AT_ONCE]
        before, *after = meter.areas(changes, [(), *((row["unit"],) for row in part)], progress)
        rows += [
            {"unit": row["unit"]} | _effect(before[:, row["index"]], each[:, row["index"]])
            for row, each in zip(part, after, strict=True)
        ]
    measured = pl.DataFrame(rows, schema={column: SCHEMA[column] for column in ("unit", *EFFECT)})
    frame = labels.join(measured, on="unit", how="left", maintain_order="left")
    frame = frame.with_columns(
        pl.lit(name).alias("layer"),
        matches=pl.col("iou") >= result.info.min_iou(name),
        causes=(pl.col("ci_high") < 0).fill_null(value=False),
    )
    return frame.select(pl.col(column).cast(dtype) for column, dtype in SCHEMA.items())


def _effect(before: Floats, after: Floats) -> dict[str, float | None]:
    interval, share = mean_interval((after - before).tolist()), float(before.mean())
    removed = -interval.mean / share if share else None
    return dict(zip(EFFECT, (share, interval.mean, interval.low, interval.high, removed), strict=True))


def _segmented_labels(result: Result, name: str, segmenter: Segmenter) -> pl.DataFrame:
    """Return unit, label, category, iou and index (of the segmenter's label) of each unit: its label of highest IoU.

    Labels that the segmenter does not give, such as colors, are left out: their area is not measured.
    """
    names = [(label.concept, label.category) for label in segmenter.labels]
    known = pl.DataFrame(
        [(*key, names.index(key)) for key in dict.fromkeys(names)],
        schema={"label": pl.String, "category": pl.String, "index": pl.Int64}, orient="row",
    )  # fmt: skip
    overlapping = result.layer(name).lazy_scores.filter(
        pl.col("iou") > 0, pl.col("quantile") == result.info.config.protocol.quantiles[0]
    )
    scores = overlapping.select(
        pl.col("unit").cast(pl.Int64), pl.col("concept").cast(pl.String).alias("label"),
        pl.col("category").cast(pl.String), "iou", "label_id",
    ).collect()  # fmt: skip
    best = (
        scores.join(known, on=("label", "category"))
        .sort("iou", "label_id", descending=[True, False])
        .unique("unit", keep="first", maintain_order=True)
    )
    every = pl.DataFrame({"unit": range(result.layer(name).info.units)}, schema={"unit": pl.Int64})
    return every.join(best, on="unit", how="left", maintain_order="left").drop("label_id").with_columns(
        pl.col("iou").fill_null(0.0)
    )  # fmt: skip
