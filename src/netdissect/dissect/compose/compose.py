"""Formulas of the units of a finished run.

    masks or ranges of a run -> LabelSetPass -> UnitSearches -> UnitLog -> tables formulas, permuted -> Formulas

Source: Mu and Andreas 2020 (formulas), with proofs, hold-out and intervals that they do not have.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import numpy as np
import polars as pl
import torch

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.config import Execution
from netdissect.counted import size_text
from netdissect.dissect.compose.compose_options import ComposeOptions
from netdissect.dissect.compose.label_set_pass import (
    RESUMES,
    LabelSetPass,
    LabelSets,
    check_memory,
    chosen_quantile,
    kept_masks,
)
from netdissect.dissect.compose.mask_sources import RangePass
from netdissect.dissect.compose.permuted_rows import PermutedRows
from netdissect.dissect.compose.unit_log import UnitLog
from netdissect.dissect.compose.unit_search import UnitSearches
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, ResultError
from netdissect.keywords import read_fields, takes_fields
from netdissect.models import Network
from netdissect.paths import writing
from netdissect.progress import Display, ShowProgress, shown
from netdissect.result import Result
from netdissect.result.folder_lock import lock_folder
from netdissect.result.formulas.formula_result import (
    ESTABLISHED,
    KIND,
    RANGE_KIND,
    Formulas,
    formula_folder,
    run_digest,
)
from netdissect.result.formulas.formula_schema import FORMULAS, PERMUTED, RANGE_FORMULAS
from netdissect.result.formulas.table_folder import TableFolder
from netdissect.result.result import check_is_run
from netdissect.scoring.formulas.image_rows import MaskRows
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues

FORMAT = 1
STAGE, NULL_STAGE = "formulas", "null"
NULL_UNITS = 32  # drawn from each layer
FIRST_UNITS = 10  # by which the time of the others is estimated
# Measured on real layers: rows of a unit's masks for each run of its pixels, and bytes of each on disk and in memory.
ENTRIES_OF_RUN, ENTRY_BYTES, ENTRY_MEMORY = 0.35, 3, 48


@takes_fields(ComposeConfig, ComposeOptions)
def compose(
    result: Result,
    *,
    config: ComposeConfig | None = None,
    data_root: ConceptData | str | Path | None = None,
    network: Network | torch.nn.Module | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
    **options: Unpack[ComposeOptions],
) -> Formulas:
    """Explain units of a finished run by formulas of concepts, such as (water OR river) AND NOT blue.

    Parameters
    ----------
    result
        A run that kept its masks: `netdissect.dissect` with ``keep_masks=True``. With ``ranges`` any run.
    config
        Options as an object; single options below override its fields.
    data_root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    network
        For ``ranges``: the network of the run, or its module, if the run cannot load it again.
    execution
        Its label cache is used; None: label maps are decoded.
    progress
        As for `netdissect.dissect`: None shows the units that are done on a terminal or in a notebook.

    Returns
    -------
    Formulas
        Of the units that were asked for. In a run folder they are kept, and what is there is not searched again.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = read_fields(compose, ComposeConfig, config, options)
    check_is_run(result)
    with ExitStack() as stack:
        display = stack.enter_context(shown(progress))
        folder = (
            Path(stack.enter_context(TemporaryDirectory(prefix="netdissect-")))
            if result.origin is None
            else formula_folder(result.origin.folder)
        )
        data, execution = data_of(result.info, data_root), execution or Execution()
        with writing(folder, RESUMES):
            folder.mkdir(parents=True, exist_ok=True)
            stack.callback(lock_folder(folder).release)
        clusters = config.clusters
        ranges = RangePass(result, data, clusters, network, execution, display) if clusters else None
        return Composition(result, config, data, folder, execution, display, ranges).run()


@dataclass(frozen=True, eq=False)
class Composition:
    """One search for the formulas of a run.

    Attributes
    ----------
    result, config
        The run, and what is searched.
    data
        Its data set.
    parent
        Folder of all formulas of the run.
    execution
        Its label cache is used.
    display
        Shows progress.
    ranges
        Makes masks of ranges of activation, K of each unit: they are searched as K times as many units. None: the masks
        that the run kept.
    """

    result: Result
    config: ComposeConfig
    data: ConceptData
    parent: Path
    execution: Execution
    display: Display
    ranges: RangePass | None

    @property
    def quantile(self) -> float:
        """Quantile of the masks."""
        return chosen_quantile(self.result, self.config.quantile)

    @property
    def layers(self) -> list[str]:
        """Names of the layers."""
        names = self.config.layers or self.result.layers
        return list(dict.fromkeys(self.result.layer(name).info.name for name in names))

    def run(self) -> Formulas:
        """Search all units that are not in the log yet, and write the tables."""
        step = self.config.clusters or 1
        keys = [
            (layer, unit * step + each) for layer in self.layers for unit in self._units(layer) for each in range(step)
        ]
        label_set_pass = LabelSetPass(
            self.result, self.data, self.quantile, self.parent, self.execution, self.display, self.ranges
        )
        self._announce_pass(label_set_pass)
        tables = label_set_pass.tables(self.layers)
        self.result.check_unchanged()
        folder = self._folder(tables)
        log = UnitLog(folder.path / "units.log")
        searches = UnitSearches.of(self.config, tables.image_rows(), self.data)
        self._search(keys, tables, searches, log)
        if self.config.permutations:
            self._search_permuted(tables, searches, log)
        self.result.check_unchanged()
        return self._write(folder, tables, log, {(layer, number // step) for layer, number in keys})

    def _units(self, layer: str) -> Sequence[int]:
        """Return the units of a layer that are searched."""
        units = self.result.layer(layer).info.units
        for unit in self.config.units or ():
            if unit >= units:
                raise ConfigError(f"the layer {layer!r} has {units} units, 0 to {units - 1}; there is no unit {unit}.")
        return list(dict.fromkeys(self.config.units or range(units)))

    def _announce_pass(self, label_set_pass: LabelSetPass) -> None:
        """Say what the pass over the images takes before it begins."""
        missing = label_set_pass.missing(self.layers)
        if missing and self.ranges:
            self.display.line(
                f"one more pass of {len(self.data):,} images through {self.result.info.network.name!r}; the "
                f"activations take {size_text(self.ranges.store_bytes(missing))} on disk until their ranges are counted"
            )
        elif missing:
            masks = [kept_masks(self.result, layer, self.quantile) for layer in missing]
            runs = sum(table.select(pl.len()).collect().item() for table in masks)
            entries = ENTRIES_OF_RUN * runs
            check_memory(int(ENTRY_MEMORY * entries), runs)
            self.display.line(
                f"label sets of {len(self.data):,} images under {runs:,} runs of mask pixels of "
                f"{len(missing)} layer{'s' if len(missing) > 1 else ''}; about {size_text(ENTRY_MEMORY * entries)} in "
                f"memory, and {size_text(ENTRY_BYTES * entries)} on disk"
            )

    def _folder(self, tables: LabelSets) -> TableFolder:
        made_from = {"format": FORMAT, "run": run_digest(self.result), "quantile": self.quantile}
        made_from |= {"label_sets": tables.folder.path.name}
        kind = RANGE_KIND if self.ranges else KIND
        return TableFolder(self.parent, kind, made_from | {"config": self.config.search_inputs})

    def _search(self, keys: Sequence[tuple[str, int]], tables: LabelSets, searches: UnitSearches, log: UnitLog) -> None:
        """Search the units that are not in the log, several at a time."""
        todo = [key for key in keys if key not in log.records]
        if todo:
            searches.check()
            self._announce_search(todo, searches)
            searches.prepare()
        units, begin = self._masks(todo, tables), time.monotonic()
        with closing(searches.each(lambda unit: searches.record(unit[1]), units)) as found:
            for done, (key, record) in enumerate(zip(todo, found, strict=True), 1):
                log.append(key, record)
                self.display(STAGE, len(keys) - len(todo) + done, len(keys))
                if done == 2:  # the first two load the compiled loops
                    begin = time.monotonic()
                if done == FIRST_UNITS < len(todo):
                    seconds = (time.monotonic() - begin) / (FIRST_UNITS - 2) * (len(todo) - done)
                    self.display.line(f"about {_time_text(seconds)} for the other {len(todo) - done:,} units")
        if not any(log.records[key]["mask_pixels"] for key in keys):
            raise ResultError(
                f"no unit has a mask at the quantile {self.quantile:g}: all are dead there, and no formula describes "
                "an empty mask. Name other layers or units, or repeat the run at a larger quantile."
            )

    def _masks(self, keys: Sequence[tuple[str, int]], tables: LabelSets) -> Iterator[tuple[tuple[str, int], MaskRows]]:
        """Yield the masks of some units; those of one layer are in memory at a time."""
        for layer, of_layer in groupby(keys, itemgetter(0)):
            frame = tables.mask_rows(layer).collect()
            rows = MaskRows(*(frame[name].to_numpy() for name in ("unit", "image_index", "row", "active")))
            for key in of_layer:
                yield key, rows.of_unit(key[1])

    def _announce_search(self, todo: Sequence[tuple[str, int]], searches: UnitSearches) -> None:
        limit, count = self.config.time_limit, 1 if self.config.holdout is None else 2
        at_most = "" if limit is None else f"; at most {limit * count * len(todo) / self.config.threads:.0f} s"
        self.display.line(
            f"{len(todo):,} {'ranges' if self.ranges else 'units'}, {len(searches.names):,} concepts, "
            f"{len(searches.images.table):,} label sets of {int(searches.images.table.pixels.sum()):,} pixels{at_most}"
        )

    def _search_permuted(self, tables: LabelSets, searches: UnitSearches, log: UnitLog) -> None:
        """Repeat the search of drawn units in all permutations that are not in the log."""
        for layer in self.layers:
            units, permutations = self._drawn(layer, log), range(self.config.permutations)
            total = len(units) * len(permutations)
            todo = [each for each in permutations if any((layer, unit, each) not in log.records for unit in units)]
            masks = kept_masks(self.result, layer, self.quantile)
            rows = PermutedRows(
                units, masks, searches.images, tables.label_reader(self.execution), self.config.stats_seed, self.display
            )
            done = len(units) * (len(permutations) - len(todo))
            self._announce_null(layer, [log.records[layer, unit]["seconds"] for unit in units], len(todo))
            drawn = rows.active(todo) if units else iter(())
            with closing(searches.each(lambda each: (each[:2], searches.null_record(each[2])), drawn)) as found:
                for (permutation, unit), record in found:
                    log.append((layer, unit, permutation), record)
                    done += 1
                    self.display(f"{NULL_STAGE} {layer}", done, total)

    def _announce_null(self, layer: str, seconds: Sequence[float], permutations: int) -> None:
        """Say how long the null takes, if a search of a permuted mask takes as long as that of the mask."""
        if permutations and seconds:
            estimate = sum(seconds) * permutations / self.config.threads
            self.display.line(
                f"null of {layer}: {len(seconds)} units in {permutations:,} permutations, "
                f"{len(seconds) * permutations:,} searches; about {_time_text(estimate)}"
            )

    def _drawn(self, layer: str, log: UnitLog) -> list[int]:
        """Draw units with a formula, at most 32, rising."""
        masked = [unit for unit in self._units(layer) if log.records[layer, unit].get("formula")]
        index = list(self.result.layers).index(layer)
        rng = np.random.default_rng((self.config.stats_seed, index))
        return sorted(rng.choice(masked, min(NULL_UNITS, len(masked)), replace=False).tolist())

    def _write(self, folder: TableFolder, tables: LabelSets, log: UnitLog, keys: set[tuple[str, int]]) -> Formulas:
        """Write the tables of everything in the log, and return what was asked for."""
        units = self._unit_frame([record for key, record in log.records.items() if len(key) == 2], tables)
        folder.write("formulas", units, RANGE_FORMULAS if self.ranges else FORMULAS)
        permuted = pl.DataFrame(list(self._permuted(log)), schema=dict(PERMUTED), orient="row")
        folder.write("permuted", permuted, PERMUTED)
        asked = pl.DataFrame(list(keys), schema={"layer": pl.String, "unit": pl.Int32}, orient="row")
        return Formulas(
            self.config,
            units.join(asked, on=["layer", "unit"], how="semi", maintain_order="left"),
            permuted.join(asked, on=["layer", "unit"], how="semi", maintain_order="left"),
        )

    def _of_ranges(self, frame: pl.DataFrame, tables: LabelSets) -> pl.DataFrame:
        """Tell unit and range of each mask apart, and add the bounds of the range."""
        step, number = self.config.clusters or 1, pl.col("unit")
        layers = frame["layer"].unique(maintain_order=True).to_list()
        bounds = pl.concat(tables.ranges(layer).with_columns(pl.lit(layer).alias("layer")) for layer in layers)
        split = frame.with_columns(unit=number // step, range=number % step)
        return split.join(bounds, on=["layer", "unit", "range"], how="left", maintain_order="left")

    def _permuted(self, log: UnitLog) -> Iterator[tuple[Any, ...]]:
        for key, record in sorted(log.records.items(), key=lambda item: tuple(map(str, item[0]))):
            if len(key) == 3:
                layer, unit, permutation = key
                yield layer, self.quantile, unit, permutation, record["iou"], record["concept_iou"]

    def _unit_frame(self, records: Sequence[Any], tables: LabelSets) -> pl.DataFrame:
        """Return the table of formulas, with q-values over the units of each layer, and the run's own labels."""
        known = [{name: record.get(name) for name in FORMULAS} for record in records]
        for row, record in zip(known, records, strict=True):
            row["layer"], row["unit"] = record["key"]
        frame = pl.DataFrame(known, schema=dict(FORMULAS)).with_columns(pl.lit(self.quantile).alias("quantile"))
        frame = frame.with_columns(q_value=pl.col("p_value").map_batches(_q_values).over("layer"))
        order = {name: index for index, name in enumerate(self.result.layers)}
        frame = frame.drop("run_label", "run_iou").sort(pl.col("layer").replace_strict(order), "unit")
        if self.ranges:
            frame = self._of_ranges(frame, tables)
        of_run = self.result.units.filter(pl.col("quantile") == self.quantile).select(
            "layer", "unit", run_label="label", run_iou="iou"
        )
        established = (pl.col("q_value") <= ESTABLISHED) & (pl.col("gain") > 0)
        return (
            frame.join(of_run, on=["layer", "unit"], how="left", maintain_order="left")
            .with_columns(gain_established=pl.when(pl.col("q_value").is_not_null()).then(established))
            .select(list(RANGE_FORMULAS if self.ranges else FORMULAS))
        )


def _q_values(values: pl.Series) -> pl.Series:
    """Return the q-values of Benjamini and Hochberg over the p-values that are not null."""
    known = values.is_not_null()
    adjusted = np.full(len(values), np.nan)
    if known.any():
        adjusted[known.to_numpy()] = adjust_pvalues(values.filter(known).to_numpy())[0]
    return pl.Series(adjusted).fill_nan(None)


def _time_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
