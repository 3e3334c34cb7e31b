"""A layer's tables, read once and laid out by unit, for pages that show many units or one.

number_runs(results) -> Run; LayerTables(run, index) -> rows of each unit
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from netdissect.concepts import ConceptData
from netdissect.errors import ConceptsError
from netdissect.plots.outlines import MaskGrid
from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.result.queries import best_scores, layer_units, run_min_iou, run_names

FLOOR = 0.01
"""Concepts of a lower IoU are not listed on a unit's page."""
WORST = 8
"""Images of each kind of disagreement."""
MOST = 200
"""Images of a concept among which misses are looked for: those with most of it."""
LISTED = 30
"""Concepts of a unit that are listed at most."""

Rows = dict[int, list[dict[str, Any]]]


@dataclass(frozen=True)
class NumberedRun:
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
        Number of its data set among those of all runs: runs on the same images share them.
    moved
        The data set's folder, if it has moved since the run.
    """

    index: int
    name: str
    result: Result
    data: int
    moved: str | Path | None = None

    @cached_property
    def dataset(self) -> ConceptData | None:
        """The data set; None where it is not, or no longer, what the run saw."""
        info = self.result.info
        if info.data.chosen_in_python:
            return None
        chosen = info.config
        try:
            data = ConceptData.open(
                info.data.root if self.moved is None else self.moved,
                categories=chosen.categories,
                split=chosen.split,
                max_images=chosen.max_images,
                sample_seed=chosen.sample_seed,
            )
        except (ConceptsError, OSError):
            return None
        return data if len(data) == info.data.images else None

    @property
    def quantile(self) -> float:
        """The quantile of all labels and masks shown: the run's first."""
        return self.result.info.config.protocol.quantiles[0]

    @property
    def min_iou(self) -> float:
        """IoU below which no unit of any layer is a detector."""
        return min((run_min_iou(self.result, layer) for layer in self.result.layers), default=0.0)


def number_runs(
    results: Sequence[Result], names: Sequence[str] | None = None, moved: str | Path | None = None
) -> tuple[NumberedRun, ...]:
    """Put results side by side.

    Parameters
    ----------
    results
        At least one.
    names
        What they are called; None: as their networks, numbered where two have the same name.
    moved
        The data set's folder, if it has moved since the runs.
    """
    called = list(run_names(results, names))
    twice = {name for name in called if called.count(name) > 1}
    called = [f"{name} ({called[:place].count(name) + 1})" if name in twice else name
              for place, name in enumerate(called)]  # fmt: skip
    known = list(dict.fromkeys((result.info.data.root, result.info.data.digest) for result in results))
    return tuple(
        NumberedRun(index, name, result, known.index((result.info.data.root, result.info.data.digest)), moved)
        for index, (name, result) in enumerate(zip(called, results, strict=True))
    )


def concept_numbers(runs: Sequence[NumberedRun]) -> dict[str, int]:
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

    def __init__(self, run: NumberedRun, index: int) -> None:
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
    def masks(self) -> MaskGrid:
        """How its masks were made."""
        return MaskGrid.of(self.run.result.info, self.layer)

    @property
    def min_iou(self) -> float:
        """IoU from which on a unit is a detector."""
        return run_min_iou(self.run.result, self.name)

    @cached_property
    def units(self) -> dict[int, dict[str, Any]]:
        """Each unit's row of the table of units, with ``detector`` and ``maximum``."""
        frame = layer_units(self.run.result, self.name, self.run.quantile, self.min_iou)
        maxima = self._now(self.layer.thresholds.lazy()).select("unit", "max_activation").collect()
        return {row["unit"]: row for row in frame.join(maxima, on="unit").sort("unit").iter_rows(named=True)}

    @cached_property
    def scores(self) -> Rows:
        """Each unit's best concepts, best first; see `netdissect.result.queries.best_scores`."""
        return by_unit(best_scores(self.run.result, self.name, self.run.quantile, LISTED))

    @cached_property
    def top(self) -> Rows:
        """Each unit's top images: rank, row, image, maximum, label_height, label_width."""
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
        return by_unit(self._whole("firing_map"))

    @cached_property
    def alarms(self) -> Rows:
        """Images where each unit is on and its label, though its category is annotated, is not: row, pixels."""
        if not self._by_image:
            return {}
        hits, on = self._hits
        annotated = self._labels.join(self._concepts, on="label_id").select("image_index", "category").unique()
        bare = on.join(hits, on=["unit", "image_index"], how="anti").join(self._labeled, on="unit")
        return _worst(bare.join(annotated, on=["image_index", "category"]))

    @cached_property
    def misses(self) -> Rows:
        """Images where each unit's label is and the unit is not on it: row, pixels."""
        if not self._by_image:
            return {}
        largest = self._labels.sort("pixels", "image_index", descending=[True, False]).group_by(
            "label_id", maintain_order=True
        )
        shown = self._labeled.join(largest.head(MOST), on="label_id")
        return _worst(shown.join(self._hits[0], on=["unit", "image_index"], how="anti"))

    @property
    def _by_image(self) -> bool:
        return {"images", "labels"} <= self.layer.evidence.keys()

    @cached_property
    def _labels(self) -> pl.DataFrame:
        return (
            self.layer.evidence["labels"].select(pl.col("image_index", "label_id", "pixels").cast(pl.Int64)).collect()
        )

    @cached_property
    def _concepts(self) -> pl.DataFrame:
        return self.run.result.concepts.select(pl.col("label_id").cast(pl.Int64), "concept", "category")

    @cached_property
    def _labeled(self) -> pl.DataFrame:
        """Number and category of each unit's label: unit, number, category."""
        labels = [(unit, row["label"]) for unit, row in self.units.items() if row["label"] is not None]
        frame = pl.DataFrame(labels, schema={"unit": pl.Int64, "concept": pl.String}, orient="row")
        return frame.join(self._concepts, on="concept").select("unit", "label_id", "category")

    @cached_property
    def _hits(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Images where each unit is on its label (unit, row), and where it is on at all (unit, row, pixels)."""
        counted = self._now(self.layer.evidence["images"]).filter(pl.col("mask_pixels") > 0)
        masks = counted.select(
            pl.col("unit", "image_index", "label_id", "intersection", "mask_pixels").cast(pl.Int64)
        ).collect()
        hits = masks.filter(pl.col("intersection") > 0).join(self._labeled, on=["unit", "label_id"], how="semi")
        on = masks.group_by("unit", "image_index").agg(pl.col("mask_pixels").max().alias("pixels"))
        return hits.select("unit", "image_index").unique(), on

    @cached_property
    def counts(self) -> dict[tuple[float, str, str], dict[str, Any]]:
        """How sure the counts of detectors are, by quantile, rule and category."""
        if "counts" not in self.layer.evidence:
            return {}
        rows = self.layer.evidence["counts"].collect().iter_rows(named=True)
        return {(row["quantile"], row["rule"], row["category"]): row for row in rows}

    def _now(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("quantile") == self.run.quantile)

    def _evidence(self, name: str) -> Rows:
        return by_unit(self._now(self.layer.evidence[name]).collect()) if name in self.layer.evidence else {}

    def _whole(self, name: str) -> pl.DataFrame:
        return self.layer.evidence[name].collect() if name in self.layer.evidence else pl.DataFrame({"unit": []})


def _worst(frame: pl.DataFrame) -> Rows:
    """Return the images of most pixels for each unit."""
    ordered = frame.sort("unit", "pixels", "image_index", descending=[False, True, False])
    return by_unit(ordered.group_by("unit", maintain_order=True).head(WORST))


def by_unit(frame: pl.DataFrame) -> Rows:
    """Part the rows of a table by its column ``unit``."""
    parts: Rows = {}
    for row in frame.iter_rows(named=True):
        parts.setdefault(row["unit"], []).append(row)
    return parts


def known(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is known of a row of evidence: null is unknown."""
    return {} if row is None else {name: value for name, value in row.items() if value is not None}
