"""A layer's tables, read once and laid out by unit, for pages that show many units or one.

number_runs(results) -> Run; LayerTables(run, index) -> rows of each unit
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.show.findings import best_scores, layer_units, run_min_iou

FLOOR = 0.01
"""Concepts of a lower IoU are not listed on a unit's page."""
LISTED = 30
"""Concepts of a unit that are listed at most."""

Rows = dict[int, list[dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """A run among those that are shown together.

    Attributes
    ----------
    index
        Its place among them.
    name
        What it is called.
    result
        Its result.
    data
        Number of its data set among those of all runs: runs on the same pictures share them.
    """

    index: int
    name: str
    result: Result
    data: int

    @property
    def quantile(self) -> float:
        """The quantile of all labels and masks shown: the run's first."""
        return self.result.info.config.protocol.quantiles[0]

    @property
    def min_iou(self) -> float:
        """IoU from which on a unit is a detector."""
        return run_min_iou(self.result)


def number_runs(results: Sequence[Result], names: Sequence[str] | None = None) -> tuple[Run, ...]:
    """Put results side by side.

    Parameters
    ----------
    results
        At least one.
    names
        What they are called; None: as their networks, numbered where two have the same name.
    """
    called = [result.info.network.name for result in results] if names is None else list(names)
    twice = {name for name in called if called.count(name) > 1}
    called = [f"{name} ({called[:place].count(name) + 1})" if name in twice else name
              for place, name in enumerate(called)]  # fmt: skip
    known = list(dict.fromkeys((result.info.data.root, result.info.data.digest) for result in results))
    return tuple(
        Run(index, name, result, known.index((result.info.data.root, result.info.data.digest)))
        for index, (name, result) in enumerate(zip(called, results, strict=True))
    )


def concept_numbers(runs: Sequence[Run]) -> dict[str, int]:
    """Return a number for each concept of all runs, by name."""
    names = (name for run in runs for name in run.result.concepts["concept"])
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


class LayerTables:
    """The tables of one layer at the run's first quantile, by unit.

    Parameters
    ----------
    run
        The run.
    index
        Place of the layer in it.
    """

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.name = list(run.result.layers)[index]

    @property
    def layer(self) -> LayerResult:
        """The layer's result."""
        return self.run.result.layers[self.name]

    @property
    def info(self) -> LayerInfo:
        """What the layer is."""
        return self.layer.info

    @cached_property
    def units(self) -> dict[int, dict[str, Any]]:
        """Each unit's row of the table of units, with ``detector`` and ``maximum``."""
        frame = layer_units(self.run.result, self.name, self.run.quantile, self.run.min_iou)
        maxima = self._now(self.layer.thresholds.lazy()).select("unit", "maximum").collect()
        return {row["unit"]: row for row in frame.join(maxima, on="unit").sort("unit").iter_rows(named=True)}

    @cached_property
    def scores(self) -> Rows:
        """Each unit's best concepts, best first; see `netdissect.show.findings.best_scores`."""
        return by_unit(best_scores(self.run.result, self.name, self.run.quantile, LISTED))

    @cached_property
    def top(self) -> Rows:
        """Each unit's top images: rank, row, image, maximum."""
        return by_unit(self.layer.top.sort("unit", "rank"))

    @cached_property
    def others(self) -> Rows:
        """Each unit's labels at the other quantiles."""
        frame = self.layer.units.select("quantile", "unit", "label", "iou")
        return by_unit(frame.filter(pl.col("quantile") != self.run.quantile))

    @cached_property
    def sure(self) -> dict[int, dict[str, Any]]:
        """How sure each unit's label is, where the run measured it."""
        return {unit: rows[0] for unit, rows in self._evidence("units").items()}

    @cached_property
    def sure_scores(self) -> dict[tuple[int, str], dict[str, Any]]:
        """How sure single scores are, by unit and concept."""
        return {(unit, row["concept"]): row for unit, rows in self._evidence("scores").items() for row in rows}

    @cached_property
    def histograms(self) -> Rows:
        """Each unit's activations: low, high, count."""
        return by_unit(self._whole("histogram"))

    @cached_property
    def places(self) -> Rows:
        """How often each unit is on at each cell: row, column, count."""
        return by_unit(self._whole("places"))

    @cached_property
    def images(self) -> Rows:
        """Counts of single images: row, number, intersection, on, truth."""
        return self._evidence("images")

    @cached_property
    def counts(self) -> dict[tuple[str, str], dict[str, Any]]:
        """How sure the counts of detectors are, by rule and category."""
        rows = self._now(self.layer.evidence["counts"]).collect() if "counts" in self.layer.evidence else None
        return {} if rows is None else {(row["rule"], row["category"]): row for row in rows.iter_rows(named=True)}

    def _now(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("quantile") == self.run.quantile)

    def _evidence(self, name: str) -> Rows:
        return by_unit(self._now(self.layer.evidence[name]).collect()) if name in self.layer.evidence else {}

    def _whole(self, name: str) -> pl.DataFrame:
        return self.layer.evidence[name].collect() if name in self.layer.evidence else pl.DataFrame({"unit": []})


def by_unit(frame: pl.DataFrame) -> Rows:
    """Part the rows of a table by its column ``unit``."""
    parts: Rows = {}
    for row in frame.iter_rows(named=True):
        parts.setdefault(row["unit"], []).append(row)
    return parts


def known(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is known of a row of evidence: null is unknown."""
    return {} if row is None else {name: value for name, value in row.items() if value is not None}
