"""The formulas of a run: read from its folder, and summed up by layer.

compose(run) -> RUN/formulas/formulas-DIGEST -> load_formulas(run), main_formulas(run)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import scipy.special
from pydantic import ValidationError

from netdissect.checksums import json_digest
from netdissect.compose_config import ComposeConfig
from netdissect.errors import ResultError
from netdissect.result.formulas.formula_schema import FORMULAS, PERMUTED
from netdissect.result.formulas.table_folder import TableFolder
from netdissect.result.result import Result

KIND, RANGE_KIND = "formulas", "range-formulas"
FORMULA_FOLDER = "formulas"
ESTABLISHED = 0.05  # largest q-value of an established gain
COMPOSE_HINT = "netdissect compose RUN (in Python netdissect.compose(result))"


@dataclass(frozen=True, repr=False)
class Formulas:
    """The formulas of the units of a run.

    Attributes
    ----------
    config
        What was searched and measured.
    units
        One row for each layer and unit, or range of a unit; see `netdissect.result.formulas.formula_schema`.
    permuted
        One row for each drawn unit and permutation; empty: not measured.
    """

    config: ComposeConfig
    units: pl.DataFrame
    permuted: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PERMUTED))

    @classmethod
    def open(cls, folder: TableFolder) -> Self:
        """Read them from a folder.

        Raises
        ------
        ResultError
            If it is damaged.
        """
        try:
            config = ComposeConfig.model_validate(folder.inputs["config"])
        except (ValidationError, KeyError) as error:
            raise ResultError(
                f"{folder.path} was not written by this version of netdissect. Remove it, and run {COMPOSE_HINT}."
            ) from error
        permuted = folder.scan("permuted", PERMUTED).collect() if folder.has("permuted") else None
        units = folder.scan("formulas", FORMULAS).collect()
        return cls(config, units) if permuted is None else cls(config, units, permuted)

    def of_layers(self, layers: Iterable[str]) -> Self:
        """Return those of some layers."""
        chosen = pl.col("layer").is_in(list(layers))
        return replace(self, units=self.units.filter(chosen), permuted=self.permuted.filter(chosen))

    def by_layer(self) -> pl.DataFrame:
        """Sum up each layer.

        Returns
        -------
        DataFrame
            layer, units (with a mask), optimal (share proven), length (mean), iou and concept_iou (means), gain (mean,
            held out), established (share of the units whose gain is established) and established_1, established_2, ...
            (number of these units by the length of the formula), null_gain (mean under the null; null: not measured).
        """
        masked = self.units.filter(pl.col("mask_pixels") > 0)
        null = self.permuted.group_by("layer").agg((pl.col("iou") - pl.col("concept_iou")).mean().alias("null_gain"))
        established = pl.col("gain_established")
        by_length = [
            (established & (pl.col("selected_length") == length)).sum().alias(f"established_{length}")
            for length in range(2, self.config.length + 1)
        ]
        return (
            masked.group_by("layer", maintain_order=True)
            .agg(
                pl.len().alias("units"),
                pl.col("optimal").mean(),
                pl.col("length").mean(),
                pl.col("iou", "concept_iou", "gain").mean(),
                established.mean().alias("established"),
                *by_length,
            )
            .join(null, on="layer", how="left", maintain_order="left")
        )

    def gains(self) -> pl.DataFrame:
        """Return the mean gain of the units of each layer, in all and by the length of the formula that was chosen.

        Returns
        -------
        DataFrame
            layer, length (null: all units with a formula), units, gain, gain_low and gain_high (Student's 95 % interval
            of the mean over units; null for one unit), established (number of units).
        """
        known = self.units.filter(pl.col("gain").is_not_null())
        every = known.with_columns(pl.lit(None, pl.Int32).alias("selected_length"))
        grouped = pl.concat([every, known]).group_by("layer", "selected_length", maintain_order=True)
        rows = [
            (*key, units.height, *_mean_interval(units["gain"]), units["gain_established"].sum())
            for key, units in grouped
        ]
        schema = {"layer": pl.String, "length": pl.Int32, "units": pl.Int64}
        schema |= dict.fromkeys(("gain", "gain_low", "gain_high"), pl.Float64) | {"established": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        """Return one line a layer."""
        return "\n".join(
            f"{row['layer']}: {row['units']} units, mean IoU {row['iou']:.3f} against {row['concept_iou']:.3f}"
            for row in self.by_layer().iter_rows(named=True)
        )


def _mean_interval(values: pl.Series) -> tuple[float, float | None, float | None]:
    """Return a mean and Student's 95 % interval of it."""
    numbers = values.to_numpy()
    mean, count = float(numbers.mean()), len(numbers)
    if count == 1:
        return mean, None, None
    reach = float(scipy.special.stdtrit(count - 1, 0.975) * numbers.std(ddof=1) / np.sqrt(count))
    return mean, mean - reach, mean + reach


def formula_folder(run: Path) -> Path:
    """Return the folder of all formulas of a run."""
    return run / FORMULA_FOLDER


def run_digest(result: Result) -> str:
    """Return what names the tables of a run: those of another run that was in its folder are not its own."""
    return json_digest(result.info.model_dump(mode="json"))


def load_formulas(result: Result) -> list[Formulas]:
    """Read all formulas of a run: those of most units first, and of equally many the newest.

    Raises
    ------
    ResultError
        If one is damaged.
    """
    if result.origin is None:
        return []
    lists = formula_folder(result.origin.folder).glob(f"{KIND}-*/tables.json")
    newest = sorted(lists, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    folders = [TableFolder.open(path.parent, KIND) for path in newest]
    found = [Formulas.open(folder) for folder in folders if folder.inputs.get("run") == run_digest(result)]
    return sorted(found, key=lambda formulas: -formulas.units.height)


def main_formulas(result: Result) -> Formulas:
    """Return the formulas of most units of a run; of equally many the newest.

    Raises
    ------
    ResultError
        If there are none, or they are damaged.
    """
    found = load_formulas(result)
    if not found:
        raise ResultError(
            f"the run of {result.info.network.name!r} has no formulas yet. Find them first: {COMPOSE_HINT}."
        )
    return found[0]
