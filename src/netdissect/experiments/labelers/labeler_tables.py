"""The tables of labelers: means over units with intervals, and paired differences, from one row a unit and labeler."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.evaluation.unit_intervals import UnitMeans, paired_means, unit_means

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

IOU = "IoU label"
"""The labeler from which differences are measured."""
ENDS = ("", "_low", "_high")


def layer_rows(units: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return one row for each labeler over all layers of a network (layer: null), and one for each layer.

    Parameters
    ----------
    units
        network, layer, labeler, number (of the unit, over all layers), correlation, recovered.
    seed
        Of the bootstrap over units.
    """
    layers = units["layer"].unique(maintain_order=True)
    parts = [(None, units), *((layer, units.filter(layer=layer)) for layer in layers)]
    return pl.concat([_part_rows(part, layer, seed) for layer, part in parts])


def _part_rows(part: pl.DataFrame, layer: str | None, seed: int) -> pl.DataFrame:
    names, numbers, values = _matrix(part, "correlation")
    correlation = unit_means(values, numbers, seed)
    difference = paired_means(values, values[:, [names.index(IOU)]], numbers, seed)
    recovered = unit_means(_matrix(part, "recovered")[2], numbers, seed)
    frame = pl.DataFrame(
        {"labeler": names, "units": correlation.units}
        | _columns("correlation", correlation)
        | _columns("difference", difference)
        | _columns("recovered", recovered)
    )
    # The difference of the labeler from itself says nothing.
    differences = [f"difference{end}" for end in ENDS]
    frame = frame.with_columns(pl.when(pl.col("labeler") != IOU).then(pl.col(differences)))
    network = pl.lit(part["network"][0]).alias("network")
    return frame.select(network, pl.lit(layer, pl.String).alias("layer"), pl.all())


def pair_rows(units: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return one row for each pair of labelers of a network: the difference of their correlations, over all layers."""
    names, numbers, values = _matrix(units, "correlation")
    first, second = np.array(list(combinations(range(len(names)), 2))).T
    found = paired_means(values[:, first], values[:, second], numbers, seed)
    columns = {"labeler": [names[each] for each in first], "other": [names[each] for each in second]}
    frame = pl.DataFrame(columns | {"units": found.units} | _columns("difference", found))
    return frame.select(pl.lit(units["network"][0]).alias("network"), pl.all())


def _matrix(units: pl.DataFrame, column: str) -> tuple[list[str], Ints, Floats]:
    """Return labelers, numbers of units, and a column as float64 (U, labelers); NaN where a unit has no value."""
    names = units["labeler"].unique(maintain_order=True).to_list()
    parts = [units.filter(labeler=name).sort("number") for name in names]
    values = [part[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for part in parts]
    return names, parts[0]["number"].to_numpy(), np.stack(values, axis=1)


def _columns(name: str, means: UnitMeans) -> dict[str, pl.Series]:
    arrays = (means.value, means.ci_low, means.ci_high)
    return {f"{name}{end}": pl.Series(values).fill_nan(None) for end, values in zip(ENDS, arrays, strict=True)}
