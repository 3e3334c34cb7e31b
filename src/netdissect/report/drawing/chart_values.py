"""The values of the charts on pages, which the copy menu saves as CSV and JSON: columns, all of one length.

depth_values(runs)           unique detectors of each layer of each run
iou_values(tables)           units in each interval of IoU, by category
bars_values(tables)          detectors of each concept
sensitivity_values(tables)   detectors at other quantiles and limits
map_values(units, points)    units in two dimensions
histogram_values(edges, counts)    activations of a unit, bar by bar
firing_values(counts)        images in which a unit is active, cell by cell
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.plots.iou_histogram import iou_counts
from netdissect.plots.unique_counts import unique_counts
from netdissect.report.layer_tables import LayerTables, NumberedRun
from netdissect.result.queries import detected_concepts

Columns = Mapping[str, Sequence[Any]]
Floats = npt.NDArray[np.floating[Any]]


def depth_values(runs: Sequence[NumberedRun]) -> Columns:
    """Return the unique detectors of each layer of each run, with interval and null where they were measured."""
    rows = [(run, row) for run in runs for row in unique_counts(run.result, "top-label")]
    return {
        "run": [run.name for run, _ in rows],
        "layer": [row.entry.layer for _, row in rows],
        "basis_of": [row.basis_of for _, row in rows],
        "unique_detectors": [row.unique for _, row in rows],
        "unique_detectors_ci_low": [row.interval and row.interval[0] for _, row in rows],
        "unique_detectors_ci_high": [row.interval and row.interval[1] for _, row in rows],
        "null_unique_detectors": [row.null for _, row in rows],
    }


def iou_values(tables: LayerTables) -> Columns:
    """Return the number of units in each interval of IoU, by the category of their labels."""
    edges, counts = iou_counts(tables.run.result, tables.name, tables.quantile, tables.min_iou)
    ends = {"iou_from": edges[:-1].round(6).tolist(), "iou_to": edges[1:].round(6).tolist()}
    return ends | {name: count.tolist() for name, count in counts.items()}


def bars_values(tables: LayerTables) -> Columns:
    """Return the detectors of each concept, best first."""
    found = detected_concepts(tables.run.result, tables.name, tables.quantile, tables.min_iou)
    return found.select(
        "concept",
        "category",
        pl.col("units").list.len().alias("detectors"),
        pl.col("best").alias("best_iou"),
        pl.col("units").cast(pl.List(pl.String)).list.join(" "),
    ).to_dict(as_series=False)


def sensitivity_values(tables: LayerTables) -> Columns:
    """Return the detectors at each quantile and limit."""
    table = tables.layer.statistics["sensitivity"].filter(rule="top-label", category="total")
    return table.drop("rule", "category").collect().to_dict(as_series=False)


def map_values(units: pl.DataFrame, points: Floats) -> Columns:
    """Return some of the units of a layer with their points, float (U, 2)."""
    x, y = ([float(f"{value:.5g}") for value in points[units["unit"].to_numpy(), axis]] for axis in (0, 1))
    return units.select("unit", "label", "category", "iou", "detector").to_dict(as_series=False) | {"x": x, "y": y}


def histogram_values(edges: Floats, counts: Floats) -> Columns:
    """Return the activations of a unit in each bar of its histogram, whose bins are spread evenly over the bars."""
    ends = [[float(f"{edge:.5g}") for edge in part] for part in (edges[:-1], edges[1:])]
    return {"activation_from": ends[0], "activation_to": ends[1], "activations": counts.round().astype(int).tolist()}


def firing_values(counts: Sequence[Sequence[int]]) -> Columns:
    """Return the number of images in which a unit is active, a column for each column of cells."""
    rows = {"y": list(range(len(counts)))}
    return rows | {f"x = {x}": [row[x] for row in counts] for x in range(len(counts[0]))}
