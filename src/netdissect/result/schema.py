"""What the tables of a run must look like: a file whose digest fits may still be somebody else's.

check_concepts(frame, info), check_layer(layer, info) -> reason why it cannot be used, or nothing
"""

from collections.abc import Mapping

import polars as pl

from netdissect.config import REPORTED_QUANTILES
from netdissect.result.result import LayerResult, RunInfo

Schema = Mapping[str, pl.DataType]

ATTAINABLE_BESIDE = f"max_attainable_iou_at_{REPORTED_QUANTILES[1]:g}"
"""Column of the table of concepts: their attainable IoU at the quantile that small data sets need."""
CONCEPTS: Schema = {
    "label_id": pl.Int64(),
    "concept": pl.String(),
    "category": pl.String(),
    "images": pl.Int64(),
    "concept_pixels": pl.Int64(),
    "coverage": pl.Float64(),
    "max_attainable_iou": pl.Float64(),
    ATTAINABLE_BESIDE: pl.Float64(),
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
EACH_CATEGORY: Schema = {
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
LARGEST_LABELS = 2**13
"""Pixels of a label map's side at most: a forged size must not take memory."""
EVIDENCE = "evidence"
"""Folder of the further tables of a layer."""
MAY_BE_NULL = ("label", "category")
NEVER_NEGATIVE = (
    "iou", "f1", "coverage", "max_attainable_iou", ATTAINABLE_BESIDE, "concept_pixels", "mask_pixels", "truth",
    "activation", "intersect", "images",
)  # fmt: skip


def check_concepts(concepts: pl.DataFrame, info: RunInfo) -> str:
    """Say what is wrong with the table of concepts; nothing if it can be used."""
    wrong = _unlike(concepts, CONCEPTS)
    if wrong:
        return wrong
    foreign = set(concepts["category"]) - set(info.data.categories)
    if foreign:
        return f"it has concepts of the category {next(iter(foreign))!r}, which the run did not read"
    return "" if concepts["label_id"].is_unique().all() else "a label number stands twice in it"


def check_layer(layer: LayerResult, info: RunInfo, concepts: pl.DataFrame) -> dict[str, str]:
    """Say what is wrong with the tables of one layer, by the name of the file; empty: they can be used."""
    keep = layer.top_maps.shape[1] if layer.top_maps.ndim == 4 else info.config.top_images
    categories = {
        f"{category}-{part}": kind for category in info.data.categories for part, kind in EACH_CATEGORY.items()
    }
    units, rows = layer.info.units, len(info.config.protocol.quantiles) * layer.info.units
    found = {
        "thresholds.parquet": _unlike(layer.thresholds, THRESHOLDS) or _misnumbered(layer.thresholds, info, rows),
        "units.parquet": (
            _unlike(layer.units, {**UNITS, **categories})
            or _misnumbered(layer.units, info, rows)
            or _foreign_labels(layer.units, info, concepts)
        ),
        "top.parquet": _unlike(layer.top, TOP) or _unknown_images(layer.top, units, keep, info.data.images),
        "scores.parquet": (
            _unlike_unread(layer.lazy_scores, SCORES, units) or _foreign_scores(layer.lazy_scores, info, concepts)
        ),
    }
    shape = (units, keep, layer.info.height, layer.info.width)
    if layer.top_maps.shape != shape or layer.top_maps.dtype.str != "<f4":
        found["top_maps.npy"] = f"it holds {layer.top_maps.dtype} {layer.top_maps.shape}, not float32 {shape}"
    for name, table in layer.evidence.items():
        found[f"{EVIDENCE}/{name}.parquet"] = _unreadable(table)
    return {name: reason for name, reason in found.items() if reason}


def _foreign_labels(units: pl.DataFrame, info: RunInfo, concepts: pl.DataFrame) -> str:
    """See that units are labeled with concepts and categories of the run."""
    labels = {label for name in units.columns if name.endswith("label") for label in units[name].drop_nulls()}
    unknown = labels - set(concepts["concept"])
    if unknown:
        return f"it names the concept {next(iter(unknown))!r}, which concepts.parquet does not"
    unread = set(units["category"].drop_nulls()) - {*info.data.categories}
    return f"it names the category {next(iter(unread))!r}, which the run did not read" if unread else ""


def _foreign_scores(scores: pl.LazyFrame, info: RunInfo, concepts: pl.DataFrame) -> str:
    """See that all concepts of the run are scored, and no others."""

    def named(column: str) -> set[str]:
        return set(scores.select(pl.col(column).unique().cast(pl.String)).collect(engine="streaming")[column])

    if named("concept") != set(concepts["concept"]):
        return "its concepts are not those of concepts.parquet"
    unread = named("category") - {*info.data.categories}
    return "it names categories that the run did not read" if unread else ""


def _unreadable(table: pl.LazyFrame) -> str:
    """Read a table in pieces, once, and say why that fails."""
    try:
        table.select(pl.all().null_count()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return str(error).partition("\n")[0]
    return ""


def _other_columns(found: pl.Schema, expected: Schema) -> str:
    for name, kind in expected.items():
        if name not in found:
            return f"it has no column {name!r}"
        if found[name] != kind:
            return f"its column {name!r} holds {found[name]}, not {kind}"
    return ""


def _unlike(frame: pl.DataFrame, expected: Schema) -> str:
    """Compare columns, and see that numbers are numbers."""
    wrong = _other_columns(frame.schema, expected)
    if wrong:
        return wrong
    for name, kind in expected.items():
        column = frame[name]
        if not name.endswith(MAY_BE_NULL) and column.null_count():
            return f"its column {name!r} has empty cells"
        if kind.is_float() and not column.is_finite().all():
            return f"its column {name!r} holds NaN or infinity"
        if name.endswith(NEVER_NEGATIVE) and (column < 0).any():
            return f"its column {name!r} holds numbers below 0"
    return ""


def _unlike_unread(table: pl.LazyFrame, expected: Schema, units: int) -> str:
    """Do the same with a table that may not fit into memory: it is read in pieces, once, and forgotten."""
    try:
        wrong = _other_columns(table.collect_schema(), expected)
        if wrong:
            return wrong
        numbers = [name for name, kind in expected.items() if kind.is_numeric()]
        good = [(pl.col(name).is_finite() & (pl.col(name) >= 0)).all().alias(name) for name in numbers]
        empty = [pl.col(name).null_count().alias(f"empty {name}") for name in expected]
        largest = pl.col("unit").max().alias("largest unit")
        found = table.select(*good, *empty, largest).collect(engine="streaming").row(0, named=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return str(error).partition("\n")[0]
    if (found["largest unit"] or 0) >= units:
        return f"it names unit {found['largest unit']} of a layer of {units}"
    for name in expected:
        if found[f"empty {name}"]:
            return f"its column {name!r} has empty cells"
        if not found.get(name, True):
            return f"its column {name!r} holds numbers below 0, NaN or infinity"
    return ""


def _misnumbered(frame: pl.DataFrame, info: RunInfo, rows: int) -> str:
    """See that every quantile and unit is there once."""
    quantiles = info.config.protocol.quantiles
    keys = frame.select("quantile", "unit").unique()
    known = keys.filter(pl.col("quantile").is_in(quantiles), pl.col("unit").is_between(0, rows // len(quantiles) - 1))
    return "" if len(frame) == len(keys) == len(known) == rows else "it does not hold every quantile and unit once"


def _unknown_images(top: pl.DataFrame, units: int, keep: int, images: int) -> str:
    known = top.filter(
        pl.col("unit").is_between(0, units - 1),
        pl.col("rank").is_between(0, keep - 1),
        pl.col("image_index").is_between(0, images - 1),
        pl.col("label_height", "label_width").is_between(1, LARGEST_LABELS),
    )
    if len(known) != len(top) or top.select("unit", "rank").is_duplicated().any():
        return "it names units, ranks, rows or sizes that the run does not have, or one twice"
    return ""
