"""Words of units as tables for the terminal."""

from typing import Any

import numpy as np
import polars as pl

from netdissect.report.text_table import Column, TextTable
from netdissect.result import Result
from netdissect.scoring.number_text import p_text
from netdissect.scoring.statistics.multiple_testing import SIGNIFICANT


def word_layers(labels: pl.DataFrame) -> TextTable:
    """Return for each layer how many units have a word, and how many of the words are established."""
    columns = [
        Column("layer", "text", key=True),
        *map(Column, ("units", "words", f"q <= {SIGNIFICANT:g}", "stability", "agree")),
    ]
    rows = [
        [
            str(name),
            f"{len(part):,}",
            f"{part['label'].n_unique():,}",
            _count(part, pl.col("q_value") <= SIGNIFICANT),
            "-" if part["stability"].null_count() == len(part) else f"{np.median(part['stability']):.2f}",
            _count(part, pl.col("heldout_rank") == 1),
        ]
        for (name,), part in labels.group_by("layer", maintain_order=True)
    ]
    notes = [
        "units: those with a word; words: different ones. stability: median share of bootstrap replicates with the "
        "same word. agree: units whose word, chosen on one part of the images, is the best on the held-out part, too."
    ]
    return TextTable(columns, rows, notes=notes)


def word_units(result: Result, labels: pl.DataFrame, top: int) -> TextTable:
    """Return the units whose word is the most certain: lowest q-value, then the highest stability and score."""
    order = ["q_value", "stability", "score"]
    shown = labels.sort(order, descending=[False, True, True], nulls_last=True, maintain_order=True).head(top)
    of_run = result.units.filter(pl.col("quantile") == result.info.config.protocol.quantiles[0]).select(
        "layer", pl.col("unit").cast(pl.Int32), run_label=pl.col("label").cast(pl.String), run_iou="iou"
    )
    shown = shown.join(of_run, on=["layer", "unit"], how="left", maintain_order="left")
    columns = [
        Column("layer", "text", key=True), Column("unit", key=True), Column("word", "text"), Column("score"),
        Column("next", "text"), Column("stability"), Column("q"), Column("held-out rank"), Column("of the run", "text"),
    ]  # fmt: skip
    rows = [
        [
            row["layer"],
            str(row["unit"]),
            row["label"],
            f"{row['score']:.3g}",
            row["next_label"] or "-",
            "-" if row["stability"] is None else f"{row['stability']:.2f}",
            "-" if row["q_value"] is None else p_text(row["q_value"]),
            "-" if row["heldout_rank"] is None else f"{row['heldout_rank']:,}",
            "-" if row["run_label"] is None else f"{row['run_label']} {row['run_iou']:.3f}",
        ]
        for row in shown.iter_rows(named=True)
    ]
    notes = [
        "next: the second word. held-out rank: of the word that the other images choose. of the run: its label and IoU."
    ]
    return TextTable(columns, rows, notes=notes)


def words_json(labels: pl.DataFrame) -> dict[str, Any]:
    """Return one JSON object: the units with their words."""
    return {"units": labels.to_dicts()}


def _count(part: pl.DataFrame, condition: pl.Expr) -> str:
    met = part.select(condition.alias("met"))["met"]
    return "-" if met.null_count() == len(met) else f"{int(met.sum()):,}"
