"""Formulas as tables for terminal, file and notebook, and as JSON and CSV."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from netdissect.paths import writing
from netdissect.report.text_table import Column, TextTable
from netdissect.result import Result
from netdissect.result.csv_frames import escaped_frame
from netdissect.result.files import write_whole
from netdissect.result.formulas.formula_result import ESTABLISHED, Formulas
from netdissect.result.summary import headline
from netdissect.scoring.number_text import p_text

FormulaForm = Literal["formulas-csv", "formulas-json"]
LISTS = ("label_ids", "operators", "selected_label_ids", "selected_operators")
"""Columns of lists, which a CSV file holds with spaces between."""


def formula_layers(result: Result, formulas: Formulas) -> TextTable:
    """Return what formulas explain in each layer, and how many gains are established."""
    lengths = range(2, formulas.config.length + 1)
    columns = [
        Column("layer", "text", key=True),
        *map(Column, ("units", "optimal", "IoU", "concept's", "gain", "established")),
        *(Column(f"of {length}") for length in lengths),
        Column("null gain"),
    ]
    rows = [
        [
            row["layer"],
            f"{row['units']:,}",
            f"{row['optimal']:.0%}",
            _number(row["iou"]),
            _number(row["concept_iou"]),
            _signed(row["gain"]),
            *_established(row, lengths),
            _signed(row["null_gain"]),
        ]
        for row in formulas.by_layer().iter_rows(named=True)
    ]
    return TextTable(columns, rows, headline(result), layer_notes(formulas))


def _established(row: dict[str, Any], lengths: Iterable[int]) -> list[str]:
    """Return the share of established gains and their numbers by length; nothing is known where none was tested."""
    if row["established"] is None:
        return ["-" for _ in (None, *lengths)]
    return [f"{row['established']:.0%}", *(f"{row[f'established_{length}']:,}" for length in lengths)]


def layer_notes(formulas: Formulas) -> list[str]:
    """Say what the columns of `formula_layers` are."""
    counted = "those with a mask" if formulas.config.ranges is None else "ranges of units, each counted"
    notes = [
        f"units: {counted}. optimal: share whose formula is proven to be the best. IoU, concept's: mean of the "
        "best formulas and of the best single concepts, on all images."
    ]
    if formulas.config.holdout is not None:
        established = (
            f"units with a gain at a false discovery rate of {ESTABLISHED:.0%}; of 2 and more: their number by the "
            "concepts in the formula"
            if formulas.config.bootstrap
            else "not tested, for which replicates of the bootstrap are needed (--bootstrap)"
        )
        notes.append(
            f"gain: mean IoU of the formula less that of the concept on {formulas.config.holdout:.0%} of the images, "
            f"both chosen on the others. established: {established}."
        )
    if formulas.permuted.height:
        notes.append(
            f"null gain: mean gain of {formulas.permuted['unit'].n_unique()} or fewer units of a layer in "
            f"{formulas.config.permutations} permutations of the images, where formula and concept are chosen and "
            "scored on the same images: what the choice alone gains."
        )
    return notes


def formula_units(formulas: Formulas, top: int | None = 20) -> TextTable:
    """Return the units with the largest IoU: formula, best concept and gain; `top` None: all."""
    shown = formulas.units.filter(pl.col("formula").is_not_null()).sort("iou", descending=True, maintain_order=True)
    shown = shown if top is None else shown.head(top)
    ranged = formulas.config.ranges is not None
    columns = [
        Column("layer", "text", key=True), Column("unit", key=True), *([Column("range", "text")] if ranged else []),
        Column("formula", "text"), Column("IoU"),
        Column("concept", "text"), Column("its IoU"), Column("of the run", "text"), Column("gain"), Column("q"),
        Column("optimal", "text"),
    ]  # fmt: skip
    rows = [
        [
            row["layer"],
            str(row["unit"]),
            *([f"{row['range_low']:.3g} to {row['range_high']:.3g}"] if ranged else []),
            row["formula"],
            _interval(row["iou"], row["iou_ci_low"], row["iou_ci_high"], "{:.3f}"),
            row["concept"],
            _number(row["concept_iou"]),
            "-" if row["run_label"] is None else f"{row['run_label']} {row['run_iou']:.3f}",
            _interval(row["gain"], row["gain_ci_low"], row["gain_ci_high"], "{:+.3f}"),
            "-" if row["q_value"] is None else p_text(row["q_value"]),
            "yes" if row["optimal"] else f"at most {row['iou_upper_bound']:.3f}",
        ]
        for row in shown.iter_rows(named=True)
    ]
    return TextTable(columns, rows, notes=_unit_notes(formulas))


def _unit_notes(formulas: Formulas) -> list[str]:
    tested = formulas.config.bootstrap > 0
    notes = [
        f"IoU{' [95 % interval]' if tested else ''} on all images; optimal: no formula of these options has a larger "
        "IoU. concept: the best single one under the same definition. of the run: label and IoU under the run's own "
        "protocol, not comparable."
    ]
    if formulas.config.holdout is not None:
        notes.append(
            "gain: IoU of a formula less that of a concept on held-out images, both chosen on the others, which may "
            f"be others than those shown.{' q: at most 0.05 where the gain is established.' if tested else ''}"
        )
    return notes


def formulas_json(result: Result, formulas: Formulas) -> dict[str, Any]:
    """Return one JSON object: the network, the configuration, the layers and the units."""
    return {
        "network": result.info.network.name,
        "config": formulas.config.model_dump(mode="json"),
        "layers": formulas.by_layer().to_dicts(),
        "units": formulas.units.to_dicts(),
    }


def write_formulas(result: Result, formulas: Formulas, path: str | Path, form: FormulaForm = "formulas-json") -> Path:
    """Write the formulas of all units as JSON, as `formulas_json`, or as CSV with one row a unit.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    path = Path(path)
    if form == "formulas-json":
        text = json.dumps(formulas_json(result, formulas), indent=2)
    else:
        lists = (pl.col(name).cast(pl.List(pl.String)).list.join(" ") for name in LISTS)
        text = escaped_frame(formulas.units.with_columns(lists)).write_csv()
    with writing(path, "Free space or name another file."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(text.encode()))
    return path


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return "-"
    text = form.format(value)
    return text if low is None or high is None else f"{text} [{form.format(low)}, {form.format(high)}]"
