"""The tables of a layer, read once and grouped by unit.

number_runs(results) -> NumberedRun; LayerTables(run, index) -> rows of each unit
LayerTables(run, index, level, chosen)                       rows of some units, masks and limit as the explorer asks
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.evaluation.dictionaries.bases_evaluation import BasesEvaluation, load_bases
from netdissect.plots.example_images import open_data
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.overlap import ConceptMasks
from netdissect.report import urls
from netdissect.report.similar_units import CoActivation
from netdissect.result import LayerInfo, LayerResult, Result
from netdissect.result.formulas.formula_result import Formulas, load_formulas
from netdissect.result.queries import active_top_images, best_scores, layer_units, run_min_iou, run_names
from netdissect.result.summary import Q_VALUES, reports_q_values

MIN_LISTED_IOU = 0.01
"""Concepts with a lower IoU are not listed on a unit's page."""
MAX_LISTED_CONCEPTS = 30
"""Concepts listed for each unit."""
MAX_UNIT_PAGES = 2_048
"""Units of a layer with a page of their own in a report on disk: those with the highest IoU."""

LOWEST = np.finfo(np.float32).min
"""Activation of the cells of a map that are not kept: below every threshold."""
Rows = dict[int, list[dict[str, Any]]]


@dataclass(frozen=True)
class NumberedRun:
    """A run among those that are shown together.

    Attributes
    ----------
    index
        Its position among them.
    name
        Its title.
    result
        Its result.
    data_index
        Position of its data set among those of all runs: runs on the same images share it.
    data_root
        The data set's folder, if it has moved since the run.
    max_pages
        Units of a layer with a page: those with the highest IoU; None: all.
    """

    index: int
    name: str
    result: Result
    data_index: int
    data_root: str | Path | None = None
    max_pages: int | None = None

    @cached_property
    def dataset(self) -> ConceptData | None:
        """The data set; None if it is missing or differs from the data of the run."""
        return open_data(self.result.info, self.data_root)

    @cached_property
    def concept_masks(self) -> ConceptMasks | None:
        """Masks of concepts in its images; None without the data set."""
        return (
            None if self.dataset is None else ConceptMasks(self.dataset, self.result.info.config.protocol.restriction)
        )

    @cached_property
    def main_formulas(self) -> Formulas | None:
        """The formulas of most units of the run; None: none were searched."""
        return next(iter(load_formulas(self.result)), None)

    @cached_property
    def bases(self) -> BasesEvaluation | None:
        """The newest evaluation of the bases of the run; None: there is none."""
        return load_bases(self.result)

    @cached_property
    def formulas(self) -> Mapping[tuple[Any, ...], Mapping[str, Any]]:
        """The formula of each layer and unit: rows of the table `formulas`."""
        found = self.main_formulas
        return {} if found is None else {(row["layer"], row["unit"]): row for row in found.units.iter_rows(named=True)}

    @cached_property
    def units_with_page(self) -> tuple["UnitsWithPage", ...]:
        """The units of each layer that have a page."""
        return tuple(self._best_units(layer) for layer in self.result.layers.values())

    def _best_units(self, layer: LayerResult) -> "UnitsWithPage":
        if self.max_pages is None or layer.info.units <= self.max_pages:
            return UnitsWithPage(range(layer.info.units))
        units = layer.units.filter(pl.col("quantile") == self.quantile)
        best = units.sort("iou", "unit", descending=[True, False]).head(self.max_pages)
        return UnitsWithPage(best["unit"].sort().to_list())

    def unit_url(self, layer_index: int, unit: int) -> str | None:
        """Return the page of a unit; None: it has none."""
        has_page = unit in self.units_with_page[layer_index]
        return urls.unit(self.index, layer_index, unit) if has_page else None

    @cached_property
    def co_activation(self) -> CoActivation:
        """Which of its units respond to the same images."""
        return CoActivation(self.result)

    @cached_property
    def complete_layers(self) -> dict[str, "LayerTables"]:
        """The tables of all units of each layer, by its name; of wide layers only a few should be read."""
        return {name: LayerTables(self, index) for index, name in enumerate(self.result.layers)}

    @property
    def quantile(self) -> float:
        """The run's first quantile, of all labels and masks shown."""
        return self.result.info.config.protocol.quantiles[0]

    @property
    def min_iou(self) -> float:
        """The lowest limit for detectors of all layers."""
        return min((run_min_iou(self.result, layer) for layer in self.result.layers), default=0.0)


class UnitsWithPage:
    """The units of a layer that have a page, by number."""

    def __init__(self, units: Sequence[int]) -> None:
        self._units = units
        self._positions = {unit: position for position, unit in enumerate(units)}

    def __contains__(self, unit: object) -> bool:
        return unit in self._positions

    def __iter__(self) -> Iterator[int]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def neighbors(self, unit: int) -> tuple[int | None, int | None]:
        """Return the previous and the next unit of one that has a page."""
        position = self._positions[unit]
        previous = self._units[position - 1] if position else None
        return previous, self._units[position + 1] if position + 1 < len(self._units) else None


def number_runs(
    results: Sequence[Result],
    names: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    max_pages: int | None = None,
) -> tuple[NumberedRun, ...]:
    """Give each result that is shown together an index and a title.

    Parameters
    ----------
    results
        At least one.
    names
        Titles of the runs; None: the names of their networks, numbered where two have the same name.
    data_root
        The data set's folder, if it has moved since the runs.
    max_pages
        Units of a layer with a page: those with the highest IoU; None: all.
    """
    titles = list(run_names(results, names))
    repeated = {title for title in titles if titles.count(title) > 1}
    titles = [f"{title} ({titles[:index].count(title) + 1})" if title in repeated else title
              for index, title in enumerate(titles)]  # fmt: skip
    data = [(result.info.data.root, result.info.data.digest) for result in results]
    distinct = list(dict.fromkeys(data))
    return tuple(
        NumberedRun(index, title, result, distinct.index(data[index]), data_root, max_pages)
        for index, (title, result) in enumerate(zip(titles, results, strict=True))
    )


def concept_indices(runs: Sequence[NumberedRun]) -> dict[str, int]:
    """Return the position of each concept among those of all runs, by name."""
    names = (name for run in runs for name in run.result.concepts["concept"])
    return {name: index for index, name in enumerate(dict.fromkeys(names))}


@dataclass(frozen=True)
class Level:
    """The quantile and the limit at which a layer is shown.

    Attributes
    ----------
    quantile
        One of the run's: that of labels and counts.
    min_iou
        A unit with at least this IoU is a detector.
    thresholds
        float32 (U,): thresholds of the masks, at any quantile; None: those at `quantile`.
    """

    quantile: float
    min_iou: float
    thresholds: npt.NDArray[np.float32] | None = None


class LayerTables:
    """The tables of one layer, by unit.

    Parameters
    ----------
    run
        The run.
    index
        Position of the layer in it.
    level
        Quantile and limit; None: the run's first quantile and own limit.
    chosen
        Only the rows of these units are read; None: of all.
    """

    def __init__(
        self, run: NumberedRun, index: int, level: Level | None = None, chosen: Collection[int] | None = None
    ) -> None:
        self.run = run
        self.index = index
        self.name = list(run.result.layers)[index]
        self._own_limit = run_min_iou(run.result, self.name)
        self._level = level or Level(run.quantile, self._own_limit)
        self._chosen = None if chosen is None else list(chosen)

    @property
    def layer(self) -> LayerResult:
        """The layer's result."""
        return self.run.result.layers[self.name]

    @property
    def info(self) -> LayerInfo:
        """Type, size and receptive field of the layer."""
        return self.layer.info

    @cached_property
    def masks(self) -> MaskGrid:
        """How its maps become masks."""
        return MaskGrid.of(self.run.result.info, self.layer)

    @cached_property
    def label_ids(self) -> dict[str, int]:
        """Label id of each concept, by its name."""
        return dict(self.run.result.concepts.select("concept", "label_id").iter_rows())

    @property
    def quantile(self) -> float:
        """The run's quantile of labels and counts."""
        return self._level.quantile

    @property
    def min_iou(self) -> float:
        """A unit with at least this IoU is a detector."""
        return self._level.min_iou

    @property
    def at_own_limit(self) -> bool:
        """Whether the limit is the run's own: statistics of counts are of that one alone."""
        return self.min_iou == self._own_limit

    @property
    def units_with_page(self) -> UnitsWithPage:
        """The units of the layer that have a page."""
        return self.run.units_with_page[self.index]

    @cached_property
    def labels(self) -> pl.DataFrame:
        """Unit, label, category, iou, ``dead`` and ``detector`` of every unit, also of those that are not chosen."""
        units = layer_units(self.run.result, self.name, self.quantile, self.min_iou)
        return units.select("unit", "label", "category", "iou", "dead", "detector")

    @cached_property
    def units(self) -> dict[int, dict[str, Any]]:
        """Each unit's row of the table of units, with ``detector`` and ``max_activation``."""
        frame = self._of_chosen(layer_units(self.run.result, self.name, self.quantile, self.min_iou).lazy())
        maxima = self._at_quantile(self.layer.thresholds.lazy()).select("unit", "max_activation")
        rows = frame.join(maxima, on="unit").sort("unit").collect().iter_rows(named=True)
        thresholds = self._level.thresholds
        if thresholds is None:
            return {row["unit"]: row for row in rows}
        return {row["unit"]: row | {"threshold": float(thresholds[row["unit"]])} for row in rows}

    @cached_property
    def scores(self) -> Rows:
        """Each unit's best concepts, best first; see `netdissect.result.queries.best_scores`."""
        return by_unit(best_scores(self.run.result, self.name, self.quantile, MAX_LISTED_CONCEPTS, self._chosen))

    @cached_property
    def top(self) -> Rows:
        """Each unit's top images on which it is active: rank, image_index, image, max_activation, sizes of labels."""
        return by_unit(self._of_chosen(active_top_images(self.layer)).collect())

    def active_images(self, unit: int) -> int | None:
        """Return the number of images on which a unit is active, if there are fewer than a run keeps; None: more."""
        active, kept = len(self.top.get(unit, ())), self.layer.top_maps.shape[1]
        return active if active < min(kept, self.run.result.info.data.images) else None

    @cached_property
    def range_images(self) -> Rows:
        """Each unit's images over its range, as in the table of statistics ``activation_range``, with ``map``."""
        rows = self._all_rows("activation_range")
        shape = self.info.height, self.info.width
        for row in (row for of_unit in rows.values() for row in of_unit):
            cells, activations = row.pop("cells"), row.pop("activations")
            row["map"] = np.full(shape, LOWEST, np.float32)
            np.put(row["map"], cells, activations)
        return rows

    @cached_property
    def scored_thresholds(self) -> npt.NDArray[np.float32]:
        """Threshold of each unit at the run's first quantile, also of those that are not chosen, float32 (U,)."""
        own = self.layer.thresholds.filter(pl.col("quantile") == self.run.quantile)
        return own.sort("unit")["threshold"].to_numpy()

    @cached_property
    def first_images(self) -> dict[int, dict[str, Any]]:
        """Each unit's row of its first top image, also of units that are not chosen."""
        return {row["unit"]: row for row in self.layer.top.filter(pl.col("rank") == 0).iter_rows(named=True)}

    @cached_property
    def other_quantiles(self) -> Rows:
        """Each unit's labels at the other quantiles: quantile, label, iou."""
        frame = self._of_chosen(self.layer.units.lazy()).select("quantile", "unit", "label", "iou")
        return by_unit(frame.filter(pl.col("quantile") != self.quantile).collect())

    @cached_property
    def unit_statistics(self) -> dict[int, dict[str, Any]]:
        """Statistics of each unit's label, q-values if there were enough permutations; empty: not measured."""
        unreported = () if reports_q_values(self.run.result, self.name) else Q_VALUES
        return {
            unit: {name: value for name, value in rows[0].items() if name not in unreported}
            for unit, rows in self._statistics("units").items()
        }

    @cached_property
    def score_statistics(self) -> dict[tuple[int, str], dict[str, Any]]:
        """Statistics of scores, by unit and concept; empty: not measured."""
        return {(unit, row["concept"]): row for unit, rows in self._statistics("scores").items() for row in rows}

    @cached_property
    def basis_scores(self) -> dict[int, dict[str, Any]]:
        """Each unit's scores in the evaluation of bases, those that are known; empty: not measured.

        See `netdissect.evaluation.dictionaries.bases_evaluation.BasesEvaluation.unit_scores`.
        """
        if self.run.bases is None:
            return {}
        rows = self._of_chosen(self.run.bases.unit_scores(self.name).lazy()).collect().iter_rows(named=True)
        return {row["unit"]: known(row) for row in rows}

    @cached_property
    def iqr(self) -> dict[int, dict[str, Any]]:
        """The threshold and label of the highest information quality ratio of each unit that has one; empty: none."""
        return {unit: rows[0] for unit, rows in self._all_rows("iqr").items()}

    @cached_property
    def linear_terms(self) -> Rows:
        """Each unit's linear explanation, one row for each concept; empty: not measured."""
        return self._all_rows("linear_explanations")

    @cached_property
    def count_statistics(self) -> dict[tuple[float, str, str], dict[str, Any]]:
        """Statistics of the detector counts, by quantile, rule and category; empty: not measured."""
        if "counts" not in self._tables or not self.at_own_limit:
            return {}
        rows = self._tables["counts"].collect().iter_rows(named=True)
        return {(row["quantile"], row["rule"], row["category"]): row for row in rows}

    @cached_property
    def histograms(self) -> Rows:
        """Each unit's histogram of activations: bin_low, bin_high, count."""
        return self._all_rows("histogram")

    @cached_property
    def firing_maps(self) -> Rows:
        """How often each unit is active at each cell: y, x, count."""
        return self._all_rows("firing_map")

    @cached_property
    def error_images(self) -> dict[str, Rows]:
        """Each unit's false positives and false negatives, by type: see the table ``error_images``; empty: not kept."""
        if "error_images" not in self._tables:
            return {}
        frame = self._at_quantile(self._of_chosen(self._tables["error_images"])).collect()
        return {name: by_unit(images) for (name,), images in frame.group_by("type", maintain_order=True)}

    @property
    def _tables(self) -> Mapping[str, pl.LazyFrame]:
        return self.layer.statistics

    def _at_quantile(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("quantile") == self.quantile)

    def _of_chosen(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame if self._chosen is None else frame.filter(pl.col("unit").is_in(self._chosen))

    def _statistics(self, name: str) -> Rows:
        if name not in self._tables:
            return {}
        return by_unit(self._at_quantile(self._of_chosen(self._tables[name])).collect())

    def _all_rows(self, name: str) -> Rows:
        return by_unit(self._of_chosen(self._tables[name]).collect()) if name in self._tables else {}


def by_unit(frame: pl.DataFrame) -> Rows:
    """Group the rows of a table by its column ``unit``."""
    groups: Rows = {}
    for row in frame.iter_rows(named=True):
        groups.setdefault(row["unit"], []).append(row)
    return groups


def known(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values of a row that are not null; None: no value."""
    return {} if row is None else {name: value for name, value in row.items() if value is not None}
