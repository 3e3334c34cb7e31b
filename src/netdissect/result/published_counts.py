"""Read tables of counts by network, such as those that were published of many networks."""

from pathlib import Path

import polars as pl

from netdissect.errors import ResultError
from netdissect.paths import check_regular
from netdissect.result.csv_frames import plain_frame

LEADING = ("network", "layer")
TOTAL = "total"
# The published figures count a unit in every category in which its best concept passes.
RULE = "per-category"


def read_counts(path: str | Path) -> pl.DataFrame:
    """Read a CSV file with a row for each network.

    Parameters
    ----------
    path
        Columns: network, layer, ``unique_<category>`` and ``detectors_<category>`` for each category,
        ``unique_total`` and ``detector_units`` (units that detect anything).

    Returns
    -------
    DataFrame
        network, layer, rule (``per-category``), category, detectors, unique: a row for each network and category,
        ``total`` last; networks and categories in the file's order.

    Raises
    ------
    ResultError
        If the file is missing or is no such table.
    """
    path = Path(path)
    try:
        check_regular(path)
        frame = plain_frame(pl.read_csv(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ResultError(f"{path} cannot be read as a table of counts ({error}). Expected a CSV file.") from error
    categories = [name.removeprefix("unique_") for name in frame.columns if name.startswith("unique_")]
    categories = [name for name in categories if name != TOTAL]
    wanted = [*LEADING, "unique_total", "detector_units", *(f"detectors_{name}" for name in categories)]
    missing = [name for name in wanted if name not in frame.columns]
    if missing or not categories or frame.is_empty():
        what = f"the column {missing[0]!r} is missing" if missing else "it has no category or no network"
        raise ResultError(
            f"{path} is no table of counts: {what}. Expected a row a network with the columns network, layer, "
            "unique_total, detector_units, and unique_CATEGORY and detectors_CATEGORY for each category."
        )
    pairs = {name: (f"detectors_{name}", f"unique_{name}") for name in categories}
    pairs[TOTAL] = ("detector_units", "unique_total")
    try:
        parts = [
            frame.select(
                pl.int_range(pl.len()).alias("row"),
                *(pl.col(name).cast(pl.String) for name in LEADING),
                pl.lit(RULE).alias("rule"),
                pl.lit(category).alias("category"),
                pl.col(detectors).cast(pl.Int64).alias("detectors"),
                pl.col(unique).cast(pl.Int64).alias("unique_detectors"),
            )
            for category, (detectors, unique) in pairs.items()
        ]
    except pl.exceptions.PolarsError as error:
        raise ResultError(
            f"{path} holds a count that is no whole number ({error}). Restore or correct the file."
        ) from error
    return pl.concat(parts).sort("row", maintain_order=True).drop("row")
