"""The laws that any run obeys: kept by every protocol, and broken by any table that was tampered with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import strategies
from netdissect.config import PROTOCOL_NAMES, DissectConfig, ProtocolName
from netdissect.dissect import dissect
from netdissect.result import LayerResult, Result
from netdissect.result.invariants import COMPLETE, LAWS, check_invariants
from networks import build

LAYER = "wide_relu"


def run_of(broden: Path, name: ProtocolName = "paper") -> Result:
    protocol = strategies.definition(name, 0.05).protocol.model_copy(update={"quantiles": (0.05, 0.2)})
    return dissect(
        build(), broden, config=DissectConfig(layers=(LAYER, "fc"), protocol=protocol, batch_size=3, top_images=4)
    )


@pytest.fixture(scope="module")
def run(broden: Path) -> Result:
    return run_of(broden)


def broken(run: Result) -> set[str]:
    return {finding.law for finding in check_invariants(run) if not finding.holds}


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_every_protocol_keeps_every_law(broden: Path, name: ProtocolName) -> None:
    findings = list(check_invariants(run_of(broden, name)))
    assert [finding.detail for finding in findings if not finding.holds] == []
    assert len(findings) == 2 * (1 + len(LAWS))


def with_scores(run: Result, *changes: pl.Expr) -> Result:
    layer = run.layers[LAYER]
    changed = replace(layer, lazy_scores=layer.scores.with_columns(*changes).lazy())
    return replace(run, layers=run.layers | {LAYER: changed})


def one(column: str, value: pl.Expr) -> pl.Expr:
    """Change one row: the unit and concept that agree best."""
    return pl.when(pl.col("iou") == pl.col("iou").max()).then(value).otherwise(pl.col(column)).alias(column)


SCORE_FAULTS: dict[str, tuple[pl.Expr, ...]] = {
    "intersections lie within mask and concept": (one("intersection", pl.col("concept_pixels") + 1),),
    "concepts are as large as the table of concepts says": (one("concept_pixels", pl.col("concept_pixels") + 1),),
    "a unit's mask has one size in each category": (pl.col("mask_pixels") + pl.col("label_id"),),
    "IoU and F1 follow from the counts": (one("f1", pl.col("f1") + 1e-15),),
    "labels are the concepts of highest IoU": (one("iou", pl.col("iou") * 0),),
    "thresholds fall and masks grow with the quantile": (
        pl.when(pl.col("quantile") == 0.2).then(pl.col("mask_pixels") * 0).otherwise(pl.col("mask_pixels"))
        .alias("mask_pixels"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("law", SCORE_FAULTS)
def test_a_changed_score_breaks_its_law(run: Result, law: str) -> None:
    assert law in broken(with_scores(run, *SCORE_FAULTS[law]))


def exchanged(layer: LayerResult) -> LayerResult:
    return replace(layer, top_maps=np.ascontiguousarray(layer.top_maps[::-1]))


TABLE_FAULTS: dict[str, tuple[str, Callable[[LayerResult], LayerResult]]] = {
    "a row is missing": (
        COMPLETE, lambda layer: replace(layer, lazy_scores=layer.scores[1:].lazy())
    ),
    "a row is there twice": (
        COMPLETE,
        lambda layer: replace(layer, lazy_scores=pl.concat([layer.scores[1:], layer.scores[-1:]]).lazy()),
    ),
    "a unit is missing": (
        COMPLETE, lambda layer: replace(layer, units=layer.units[1:])
    ),
    "a label is another": (
        "labels are the concepts of highest IoU",
        lambda layer: replace(layer, units=layer.units.with_columns(label=pl.lit("x"))),
    ),
    "a threshold rises": (
        "thresholds fall and masks grow with the quantile",
        lambda layer: replace(layer, thresholds=layer.thresholds.with_columns(threshold=pl.col("quantile"))),
    ),
    "a unit is marked dead": (
        "thresholds fall and masks grow with the quantile",
        lambda layer: replace(layer, thresholds=layer.thresholds.with_columns(dead=~pl.col("dead"))),
    ),
    "maps of units are exchanged": ("top images agree with their activation maps", exchanged),
    "images are out of order": (
        "top images agree with their activation maps",
        lambda layer: replace(layer, top=layer.top.with_columns(rank=3 - pl.col("rank"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_changed_table_breaks_its_law(run: Result, fault: str) -> None:
    law, change = TABLE_FAULTS[fault]
    faulty = replace(run, layers=run.layers | {LAYER: change(run.layers[LAYER])})
    assert law in broken(faulty)
