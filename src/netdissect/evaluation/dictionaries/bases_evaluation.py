"""The tables of an evaluation of bases, and their files.

RUN/evaluations/bases-DIGEST/    the tables, for the pages of the run: keep_bases -> load_bases
OUT/bases.csv                    a row for each layer and basis
OUT/concepts.csv                 the best unit of each concept
OUT/units.csv                    every unit
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from netdissect.counted import counted
from netdissect.errors import ResultError
from netdissect.evaluation.dictionaries.basis_metrics import BASIS_METRICS, EMBEDDING_METRICS
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.result import Result
from netdissect.result.files import write_csv
from netdissect.result.formulas.formula_result import run_digest
from netdissect.result.formulas.table_folder import TableFolder

TABLES = ("bases", "concepts", "units")
KIND, EVALUATION_FOLDER = "bases", "evaluations"
ALL = "all"
"""The choice of units that leaves none out."""


@dataclass(frozen=True, eq=False, repr=False)
class BasesEvaluation:
    """The units of layers and bases of a run, measured.

    Attributes
    ----------
    config
        What was measured.
    bases
        A row for each layer and choice of units: layer, basis_of (null: units of the network), choice, units, cells,
        concepts, and a column for each of `netdissect.evaluation.dictionaries.basis_metrics.BASIS_METRICS`, with
        ``_ci_low`` and ``_ci_high`` where it has an interval.
    concepts
        A row for each of these and each concept: concept, category, unit (the best of the selection half; null: none),
        weight (its direction), average_precision, probe_r, heldout_cells (held-out cells with the concept).
    units
        A row for each layer and unit: active_share (of the cells), purity_16, and the scores by embeddings.
    """

    config: EvaluateBasesConfig
    bases: pl.DataFrame
    concepts: pl.DataFrame
    units: pl.DataFrame

    def __repr__(self) -> str:
        """Return the size of the evaluation and the names of its tables."""
        layers = self.bases["layer"].n_unique()
        size = f"{counted(layers, 'layers')}, {counted(len(self.units), 'units')}"
        return f"{size}\ntables: {', '.join(TABLES)}"

    @property
    def with_embeddings(self) -> bool:
        """Whether there are scores by embeddings."""
        return EMBEDDING_METRICS[0] in self.bases.columns

    def unit_scores(self, layer: str) -> pl.DataFrame:
        """Return the rows of the units of a layer, with the best concept of each.

        Returns
        -------
        DataFrame
            unit, the columns of `units`, and concept, average_precision: of the concepts whose best unit it is, the one
            of the highest average precision; null: there is none.
        """
        best = self.concepts.filter(pl.col("average_precision").is_not_null(), layer=layer, choice=ALL)
        best = best.sort("average_precision", descending=True, maintain_order=True).unique("unit", keep="first")
        columns = best.select("unit", "concept", "average_precision")
        return self.units.filter(layer=layer).drop("layer").join(columns, on="unit", how="left", maintain_order="left")


def table_schemas(*, with_embeddings: bool) -> dict[str, dict[str, Any]]:
    """Return the columns of each table and their types."""
    bases: dict[str, Any] = {"layer": pl.String, "basis_of": pl.String, "choice": pl.String}
    bases |= dict.fromkeys(("units", "cells", "concepts"), pl.Int64)
    for metric in BASIS_METRICS:
        if with_embeddings or metric.name not in EMBEDDING_METRICS:
            ends = ("_ci_low", "_ci_high") if metric.interval else ()
            bases |= dict.fromkeys((metric.name, *(f"{metric.name}{end}" for end in ends)), pl.Float64)
    concepts: dict[str, Any] = dict.fromkeys(("layer", "choice", "concept", "category"), pl.String)
    concepts |= {"unit": pl.Int64} | dict.fromkeys(("weight", "average_precision", "probe_r"), pl.Float64)
    units: dict[str, Any] = {"layer": pl.String, "unit": pl.Int64}
    scores = ("active_share", "purity_16", *(EMBEDDING_METRICS if with_embeddings else ()))
    return {
        "bases": bases,
        "concepts": concepts | {"heldout_cells": pl.Int64},
        "units": units | dict.fromkeys(scores, pl.Float64),
    }


def evaluation_folder(run: Path) -> Path:
    """Return the folder of all evaluations of a run."""
    return run / EVALUATION_FOLDER


def keep_bases(result: Result, found: BasesEvaluation) -> None:
    """Keep an evaluation in the folder of its run, for the pages of the run; a run without a folder keeps none.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    if result.origin is None:
        return
    inputs: Mapping[str, Any] = {
        "run": run_digest(result),
        "config": found.config.model_dump(mode="json"),
        "embeddings": found.with_embeddings,
    }
    folder = TableFolder(evaluation_folder(result.origin.folder), KIND, inputs)
    for name, schema in table_schemas(with_embeddings=found.with_embeddings).items():
        folder.write(name, getattr(found, name), schema)


def load_bases(result: Result) -> BasesEvaluation | None:
    """Read the newest evaluation of the bases of a run from its folder; None: there is none.

    Raises
    ------
    ResultError
        If it is damaged.
    """
    if result.origin is None:
        return None
    lists = evaluation_folder(result.origin.folder).glob(f"{KIND}-*/tables.json")
    for path in sorted(lists, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        folder = TableFolder.open(path.parent, KIND)
        if folder.inputs.get("run") != run_digest(result):
            continue
        try:
            config = EvaluateBasesConfig.model_validate(folder.inputs["config"])
        except (ValidationError, KeyError) as error:
            raise ResultError(
                f"{folder.path} was not written by this version of netdissect. Remove it, and run 'netdissect "
                "evaluate-bases RUN' again."
            ) from error
        schemas = table_schemas(with_embeddings=bool(folder.inputs.get("embeddings")))
        return BasesEvaluation(config, *(folder.scan(name, schema).collect() for name, schema in schemas.items()))
    return None


def write_bases(found: BasesEvaluation, out: str | Path) -> Path:
    """Write the three tables; files of an earlier evaluation there are replaced.

    Raises
    ------
    ResultError
        If they cannot be written.
    """
    for name in TABLES:
        write_csv(getattr(found, name), Path(out) / f"{name}.csv")
    return Path(out)
