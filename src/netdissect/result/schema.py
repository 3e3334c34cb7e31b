"""The schemas of the tables of a run: a file with the right digest may still come from another program.

check_concepts(frame, info), check_layer(layer, info) -> why a table cannot be used; empty if it can
"""

from collections.abc import Mapping

import polars as pl

from netdissect.config import REPORTED_QUANTILES
from netdissect.result.result import LayerResult, RunInfo
from netdissect.result.statistics_schema import ERROR_IMAGES, TABLES

Schema = Mapping[str, pl.DataType]

SMALL_DATA_ATTAINABLE = f"max_attainable_iou_at_{REPORTED_QUANTILES[1]:g}"
"""Column of the table of concepts: attainable IoU at the quantile for small data sets."""
CONCEPTS: Schema = {
    "label_id": pl.Int64(),
    "concept": pl.String(),
    "category": pl.String(),
    "images": pl.Int64(),
    "concept_pixels": pl.Int64(),
    "pixel_share": pl.Float64(),
    "max_attainable_iou": pl.Float64(),
    SMALL_DATA_ATTAINABLE: pl.Float64(),
}
THRESHOLDS: Schema = {
    "quantile": pl.Float64(),
    "unit": pl.Int32(),
    "threshold": pl.Float32(),
    "max_activation": pl.Float32(),
    "dead": pl.Boolean(),
}
SCORES: Schema = {
    "quantile": pl.Float64(),
    "unit": pl.Int32(),
    "label_id": pl.Int32(),
    "concept": pl.Categorical(),
    "category": pl.Categorical(),
    "intersection": pl.Int64(),
    "mask_pixels": pl.Int64(),
    "concept_pixels": pl.Int64(),
    "iou": pl.Float64(),
    "f1": pl.Float64(),
    "max_attainable_iou": pl.Float64(),
    "mask_attainable_iou": pl.Float64(),
}
UNITS: Schema = {
    "quantile": pl.Float64(),
    "unit": pl.Int32(),
    "label": pl.String(),
    "category": pl.String(),
    "iou": pl.Float64(),
    "f1": pl.Float64(),
    "threshold": pl.Float32(),
    "dead": pl.Boolean(),
}
COLUMNS_OF_EACH_CATEGORY: Schema = {
    "label": pl.String(),
    "truth": pl.Int64(),
    "activation": pl.Int64(),
    "intersect": pl.Int64(),
    "iou": pl.Float64(),
}
TOP: Schema = {
    "unit": pl.Int32(),
    "rank": pl.Int32(),
    "image_index": pl.Int64(),
    "image": pl.String(),
    "max_activation": pl.Float32(),
    "label_height": pl.Int32(),
    "label_width": pl.Int32(),
}
MAX_LABEL_MAP_SIDE = 2**13
"""Largest side of a label map in pixels: a forged size must not allocate memory."""
STATISTICS_FOLDER = "statistics"
"""Folder of the tables of statistics of a layer."""
MAY_BE_NULL = ("label", "category")
NEVER_NEGATIVE = (
    "quantile", "unit", "label_id", "iou", "f1", "pixel_share", SMALL_DATA_ATTAINABLE, "concept_pixels", "mask_pixels",
    "-truth", "-activation", "-intersect", "intersection", "images",
)  # fmt: skip


def check_concepts(concepts: pl.DataFrame, info: RunInfo) -> str:
    """Return why the table of concepts cannot be used; empty if it can."""
    reason = _flaw(concepts.lazy(), CONCEPTS)
    if reason:
        return reason
    unread = set(concepts["category"]) - set(info.data.categories)
    if unread:
        return f"it has concepts of the category {next(iter(unread))!r}, which the run did not read"
    return "" if concepts["label_id"].is_unique().all() else "it has a label id twice"


def check_layer(layer: LayerResult, info: RunInfo, concepts: pl.DataFrame) -> dict[str, str]:
    """Return why tables of one layer cannot be used, by the name of the file; empty if they can."""
    keep = layer.top_maps.shape[1] if layer.top_maps.ndim == 4 else info.config.top_images
    categories = {
        f"{category}-{part}": dtype
        for category in info.data.categories
        for part, dtype in COLUMNS_OF_EACH_CATEGORY.items()
    }
    units, rows = layer.info.units, len(info.config.protocol.quantiles) * layer.info.units
    columns_found = {
        "thresholds.parquet": _flaw(layer.thresholds.lazy(), THRESHOLDS)
        or _incomplete_keys(layer.thresholds, info, rows),
        "units.parquet": (
            _flaw(layer.units.lazy(), {**UNITS, **categories})
            or _incomplete_keys(layer.units, info, rows)
            or _foreign_labels(layer.units, info, concepts)
        ),
        "top.parquet": _flaw(layer.top.lazy(), TOP) or _unknown_images(layer.top, units, keep, info.data.images),
        "scores.parquet": (
            _flaw(layer.lazy_scores, SCORES, units) or _foreign_scores(layer.lazy_scores, info, concepts)
        ),
    }
    shape = (units, keep, layer.info.height, layer.info.width)
    if layer.top_maps.shape != shape or layer.top_maps.dtype.str != "<f4":
        columns_found["top_maps.npy"] = f"it holds {layer.top_maps.dtype} {layer.top_maps.shape}, not float32 {shape}"
    for name, table in layer.statistics.items():
        columns_found[f"{STATISTICS_FOLDER}/{name}.parquet"] = _foreign_statistics(name, table) or (
            _unknown_error_images(table, units, info.data.images) if name == "error_images" else ""
        )
    if "activation_range" in layer.statistics:
        name = f"{STATISTICS_FOLDER}/activation_range.parquet"
        columns_found[name] = columns_found[name] or _foreign_range(layer, info.data.images)
    return {name: reason for name, reason in columns_found.items() if reason}


def _foreign_labels(units: pl.DataFrame, info: RunInfo, concepts: pl.DataFrame) -> str:
    """Check that units are labeled with concepts and categories of the run."""
    labels = {label for name in units.columns if name.endswith("label") for label in units[name].drop_nulls()}
    unknown = labels - set(concepts["concept"])
    if unknown:
        return f"it names the concept {next(iter(unknown))!r}, which concepts.parquet does not"
    unread = set(units["category"].drop_nulls()) - {*info.data.categories}
    return f"it names the category {next(iter(unread))!r}, which the run did not read" if unread else ""


def _foreign_scores(scores: pl.LazyFrame, info: RunInfo, concepts: pl.DataFrame) -> str:
    """Check that exactly the concepts of the run are scored."""

    def named(column: str) -> set[str]:
        return set(scores.select(pl.col(column).unique().cast(pl.String)).collect(engine="streaming")[column])

    if named("concept") != set(concepts["concept"]):
        return "its concepts are not those of concepts.parquet"
    unread = named("category") - {*info.data.categories}
    return "it names categories that the run did not read" if unread else ""


def _foreign_statistics(name: str, table: pl.LazyFrame) -> str:
    """Check that a table of statistics and its columns are known, and that it can be read, in pieces."""
    try:
        unknown = table.collect_schema().keys() - TABLES.get(name, {}).keys()
        if unknown:
            return f"the run format has no column {min(unknown)!r} in a table {name!r}"
        table.select(pl.all().null_count()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return str(error).partition("\n")[0]
    return ""


def _foreign_range(layer: LayerResult, images: int) -> str:
    """Check that images over the range of units are of this run, and cells are of this layer."""
    known = (
        pl.col("unit").is_between(0, layer.info.units - 1)
        & pl.col("image_index").is_between(0, images - 1)
        & pl.col("label_height").is_between(1, MAX_LABEL_MAP_SIDE)
        & pl.col("label_width").is_between(1, MAX_LABEL_MAP_SIDE)
        & (pl.col("cells").list.max().fill_null(0) < layer.info.height * layer.info.width)
        & (pl.col("cells").list.len() == pl.col("activations").list.len())
    )
    table = layer.statistics["activation_range"]
    try:
        unknown = table.filter(~known.fill_null(False)).select(pl.len()).collect(engine="streaming").item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return str(error).partition("\n")[0]
    return "it has units, images, sizes or cells that the run does not have" if unknown else ""


def _flaw(table: pl.LazyFrame, expected: Schema, units: int | None = None) -> str:
    """Check columns, types and ranges of numbers, and that there are at most `units` units.

    A table may not fit into memory: it is read once, in pieces.
    """
    flaws: dict[str, pl.Expr] = {}
    try:
        columns_found = table.collect_schema()
        for name, dtype in expected.items():
            if name not in columns_found:
                return f"it has no column {name!r}"
            if columns_found[name] != dtype:
                return f"its column {name!r} holds {columns_found[name]}, not {dtype}"
            column = pl.col(name)
            if not name.endswith(MAY_BE_NULL):
                flaws[f"its column {name!r} has empty cells"] = column.null_count() > 0
            if dtype.is_float():
                flaws[f"its column {name!r} holds NaN or infinity"] = ~column.is_finite().all()
            if name.endswith(NEVER_NEGATIVE):
                flaws[f"its column {name!r} holds numbers below 0"] = (column < 0).any()
        if units is not None:
            flaws[f"it names a unit that a layer of {units} does not have"] = (pl.col("unit") >= units).any()
        row = table.select(**flaws).collect(engine="streaming").row(0, named=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return str(error).partition("\n")[0]
    return next((flaw for flaw, present in row.items() if present), "")


def _incomplete_keys(frame: pl.DataFrame, info: RunInfo, rows: int) -> str:
    """Check that every quantile and unit occurs once."""
    quantiles = info.config.protocol.quantiles
    keys = frame.select("quantile", "unit").unique()
    known = keys.filter(pl.col("quantile").is_in(quantiles), pl.col("unit").is_between(0, rows // len(quantiles) - 1))
    return "" if len(frame) == len(keys) == len(known) == rows else "it does not hold every quantile and unit once"


def _unknown_images(top: pl.DataFrame, units: int, keep: int, images: int) -> str:
    known = top.filter(
        pl.col("unit").is_between(0, units - 1),
        pl.col("rank").is_between(0, keep - 1),
        pl.col("image_index").is_between(0, images - 1),
        pl.col("label_height", "label_width").is_between(1, MAX_LABEL_MAP_SIDE),
    )
    if len(known) != len(top) or top.select("unit", "rank").is_duplicated().any():
        return "it has units, ranks, images or sizes that the run does not have, or one of them twice"
    return ""


def _unknown_error_images(table: pl.LazyFrame, units: int, images: int) -> str:
    """Check that false positives and false negatives are images of the run, with masks of a possible size."""
    known = (
        pl.col("unit").is_between(0, units - 1)
        & pl.col("image_index").is_between(0, images - 1)
        & pl.all_horizontal(pl.col("label_height", "label_width").is_between(1, MAX_LABEL_MAP_SIDE))
    )
    flaw = _flaw(table, pl.Schema(ERROR_IMAGES))
    if flaw or table.select(known.all()).collect().item():
        return flaw
    return "it has units, images or sizes that the run does not have"
