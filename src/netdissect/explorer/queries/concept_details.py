"""Concepts of all runs: search, and the units of one concept."""

import polars as pl

from netdissect.errors import RequestError
from netdissect.explorer.queries.unit_details import labeled_units
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.explorer.schemas import ConceptDetail, ConceptInRun, ConceptPage, ConceptSummary, ConceptUnit
from netdissect.result.queries import run_min_iou
from netdissect.scoring.number_text import iou_text


def concept_page(registry: RunRegistry, q: str, category: str | None, offset: int, limit: int) -> ConceptPage:
    """Search the concepts of all runs; those with most detectors come first."""
    frames = [_concepts_of(run) for run in registry]
    concepts = pl.concat(frames)
    if q:
        concepts = concepts.filter(pl.col("concept").str.to_lowercase().str.contains(q.lower(), literal=True))
    if category is not None:
        concepts = concepts.filter(pl.col("category") == category)
    matching = (
        concepts.sort("iou", descending=True, nulls_last=True, maintain_order=True)
        .group_by("concept", "category", maintain_order=True)
        .agg(
            pl.col("run").unique(maintain_order=True).alias("runs"),
            pl.col("detectors").sum(),
            pl.col("iou").first().fill_null(0.0).alias("best_iou"),
            pl.col("min_iou").first(),
            *(pl.col(name).first().alias(f"best_{name}") for name in ("run", "layer", "unit")),
        )
        .with_columns(pl.when(pl.col("best_unit").is_not_null()).then(pl.col("best_run", "best_layer")))
        .sort("detectors", "best_iou", "concept", descending=[True, True, False])
    )
    page = matching.slice(offset, limit)
    return ConceptPage(
        total=len(matching),
        offset=offset,
        concepts=tuple(
            ConceptSummary(**row, best_iou_text=iou_text(row["best_iou"], min_iou))
            for row, min_iou in zip(page.drop("min_iou").to_dicts(), page["min_iou"], strict=True)
        ),
    )


def _concepts_of(run: OpenRun) -> pl.DataFrame:
    """List each concept of a run and layer: run, layer, concept, category, detectors, and the best unit and its IoU."""
    result, quantile = run.result, run.result.info.config.protocol.quantiles[0]
    known = result.concepts.select(pl.col("concept", "category").cast(pl.String))
    layers = []
    for index, layer in enumerate(result.layers.values()):
        best = (
            layer.lazy_scores.filter(pl.col("quantile") == quantile, pl.col("iou") > 0)
            .group_by("concept", "category")
            .agg(pl.col("unit").filter(pl.col("iou") == pl.col("iou").max()).min(), pl.col("iou").max())
            .with_columns(pl.col("concept", "category").cast(pl.String))
            .collect()
        )
        detectors = (
            labeled_units(run, layer, quantile, None)
            .filter(pl.col("state") == "detector")
            .group_by(pl.col("label").alias("concept"), "category")
            .agg(pl.len().cast(pl.Int64).alias("detectors"))
        )
        on = ["concept", "category"]
        joined = known.join(best, on=on, how="left").join(detectors, on=on, how="left")
        layers.append(
            joined.select(
                pl.lit(run.id).alias("run"), pl.lit(index).alias("layer"), *on, pl.col("detectors").fill_null(0),
                pl.col("unit").cast(pl.Int64), pl.col("iou").cast(pl.Float64),
                pl.lit(run_min_iou(result, layer.info.name)).alias("min_iou"),
            )
        )  # fmt: skip
    if not layers:
        unknown = {"detectors": pl.Int64, "unit": pl.Int64, "iou": pl.Float64, "min_iou": pl.Float64}
        layers = [
            known.select(
                pl.lit(run.id).alias("run"), pl.lit(0).alias("layer"), "concept", "category",
                *(pl.lit(None, dtype=dtype).alias(name) for name, dtype in unknown.items()),
            )
        ]  # fmt: skip
    return pl.concat(layers)


def concept_detail(registry: RunRegistry, concept: str, category: str | None, limit: int) -> ConceptDetail:
    """Return one concept over all runs: its units, best first.

    Raises
    ------
    RequestError
        If no run has this concept.
    """
    present: list[ConceptInRun] = []
    units: list[ConceptUnit] = []
    for run in registry:
        row = run.result.concepts.filter(pl.col("concept").cast(pl.String) == concept)
        if category is not None:
            row = row.filter(pl.col("category").cast(pl.String) == category)
        if row.is_empty():
            continue
        category = str(row["category"][0])
        first = row.select("images", "pixel_share", "max_attainable_iou").row(0, named=True)
        present.append(ConceptInRun(run=run.id, **first))
        units += _units_of(run, concept, category)
    if category is None or not present:
        raise RequestError(f"no run has the concept {concept!r}. Search for it on the page of concepts.")
    best = sorted(units, key=lambda each: -each.iou)[:limit]
    return ConceptDetail(concept=concept, category=category, runs=tuple(present), units=tuple(best))


def _units_of(run: OpenRun, concept: str, category: str) -> list[ConceptUnit]:
    quantile = run.result.info.config.protocol.quantiles[0]
    units: list[ConceptUnit] = []
    for index, layer in enumerate(run.result.layers.values()):
        scores = layer.lazy_scores.filter(
            pl.col("quantile") == quantile,
            pl.col("iou") > 0,
            pl.col("concept").cast(pl.String) == concept,
            pl.col("category").cast(pl.String) == category,
        ).select("unit", "iou", "max_attainable_iou")
        labels = labeled_units(run, layer, quantile, None).drop("iou")
        limit = run_min_iou(run.result, layer.info.name)
        units += [
            ConceptUnit(
                run=run.id,
                layer=index,
                layer_name=layer.info.name,
                **{name: row[name] for name in ("unit", "iou", "max_attainable_iou", "label")},
                iou_text=iou_text(row["iou"], limit),
                detector=row["state"] == "detector" and row["label"] == concept,
            )
            for row in scores.collect().join(labels, on="unit").iter_rows(named=True)
        ]
    return units
