"""The report's pages, rendered when they are opened, with the explorer's controls on them.

Templates, views and addresses are the report's. The page of a layer has some of its units; further ones come from the
same address with another offset, and its charts with ``charts=true`` when the reader comes near them.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock

import polars as pl
from markupsafe import Markup

from netdissect.errors import RequestError
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.networks.run_network import unavailable_reason
from netdissect.explorer.queries.decoder_neighbors import decoder_neighbors
from netdissect.explorer.queries.image_details import image_detail
from netdissect.explorer.queries.requests import ImageQuery, LayerPageQuery, MatchQuery
from netdissect.explorer.queries.segmentations import segmentation_detail
from netdissect.explorer.queries.unit_details import check_unit, labeled_units, select_units, shown_level, unit_words
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.plots.example_images import read_labels
from netdissect.report.drawing.concept_scripts import concept_script
from netdissect.report.drawing.examples import examples_of_runs
from netdissect.report.layer_tables import LayerTables, Level
from netdissect.report.pages import Pages
from netdissect.report.views.intervention_views import InterventionView
from netdissect.report.views.masked_images import CARD_IMAGES, CONCEPT_IMAGES, PAGE_IMAGES
from netdissect.report.views.matched_units import matching_view
from netdissect.report.views.run_views import ConceptView, RunView, concept_views, layer_view, run_views
from netdissect.report.views.training_views import TrainingView
from netdissect.report.views.unit_views import unit_detail, unit_view
from netdissect.result.queries import run_min_iou

TEMPLATES = Path(__file__).parent / "templates"
ACTIVE_IMAGES = 3
"""Top images beside each unit that is active in an image."""
CACHED_PAGES = 256
"""Pages in the cache, of about 50 kB each."""


@dataclass(frozen=True)
class QuantileSlider:
    """The slider of the masks' quantile: its ends, the run's quantiles, and what is exact at the chosen one."""

    low: float
    high: float
    quantiles: tuple[float, ...]
    note: str


class LiveReport:
    """The pages of open runs: rendered on request, and cached."""

    def __init__(
        self,
        registry: RunRegistry,
        trainings: Sequence[TrainingView] = (),
        interventions: Sequence[InterventionView] = (),
        *,
        rating: bool = False,
    ) -> None:
        self._open: Sequence[OpenRun] = list(registry)
        self._numbered = [run.numbered for run in registry]
        # The renderer of the pages; made at once, so that it renders even when the files of a run are gone.
        self.pages = Pages(self._numbered, live=TEMPLATES, trainings=trainings, interventions=interventions)
        self._rating = rating
        self._cache: dict[Hashable, str] = {}
        self._drawn: dict[tuple[int, int], dict[str, Markup]] = {}
        # One page at a time, and one drawing at a time (matplotlib is not thread-safe), which no other page waits for.
        self._lock, self._drawing = RLock(), RLock()

    @cached_property
    def concept_list(self) -> list[ConceptView]:
        """All concepts, with their best units."""
        return concept_views(self._numbered)

    def render(self, template: str, url: str, **values: object) -> str:
        """Return a page of the explorer's own."""
        with self._lock:
            return self.pages.render(template, url, **values)

    def index(self) -> str:
        """Return the first page."""

        def make() -> str:
            reasons = [(run.name, unavailable_reason(run)) for run in self._open]
            unavailable = [(name, reason) for name, reason in reasons if reason]
            return self.pages.index(
                self._views, self.concept_list, unavailable=unavailable, rating=self._rating, json="api/runs"
            )

        with self._drawing:
            return self._cached("index", make)

    def layer(self, run: int, index: int, query: LayerPageQuery) -> str:
        """Return the page of a layer with the units of a query.

        Raises
        ------
        RequestError
            If there is no such layer, or the quantile is unknown.
        """
        opened = self._run(run)
        layer = opened.layer(index)
        charts = self._charts(run, index) if query.charts else {}

        def make() -> str:
            level, slider = self._level(run, index, query.quantile, query.min_iou)
            matching = select_units(opened, layer, level.quantile, query)["unit"]
            chosen = matching.slice(query.offset, query.limit).to_list()
            tables = LayerTables(self._numbered[run], index, level, chosen)
            cards = [unit_view(tables, unit, CARD_IMAGES) for unit in chosen]
            own = query.quantile is None and query.min_iou is None
            view = self._views[run].layers[index] if own else layer_view(tables)
            return self.pages.layer_part(
                self._views[run], view, cards, len(matching), charts, slider=slider,
                page_size=query.limit,
                own_limit=run_min_iou(opened.result, layer.info.name),
                json=f"api/runs/{opened.id}/layers/{index}/units",
                words=unit_words(opened, layer.info.name, chosen, query), searchable=opened.words.search is not None,
            )  # fmt: skip

        return self._cached(("layer", run, index, query.model_dump_json()), make)

    def unit(self, run: int, index: int, unit: int, quantile: float | None) -> str:
        """Return the page of a unit with its masks at a quantile.

        Raises
        ------
        RequestError
            If there is no such unit, or the quantile is unknown.
        """
        opened = self._run(run)
        check_unit(opened.layer(index).info, unit)

        def make() -> str:
            level, slider = self._level(run, index, quantile, None)
            tables = LayerTables(self._numbered[run], index, level, [unit])
            return self.pages.unit(
                tables, self._views[run], unit_view(tables, unit, PAGE_IMAGES), unit_detail(tables, unit),
                slider=slider, run_id=opened.id, json=f"api/runs/{opened.id}/layers/{index}/units/{unit}",
                words=unit_words(opened, opened.layer(index).info.name, [unit]),
                neighbors=decoder_neighbors(opened.directions(opened.layer(index)), unit, tables),
            )  # fmt: skip

        return self._cached(("unit", run, index, unit, quantile), make)

    def concepts(self) -> str:
        """Return the table of all concepts."""
        return self._cached(
            "concepts", lambda: self.pages.concepts(self._views, self.concept_list, json="api/concepts")
        )

    def concept(self, number: int) -> str:
        """Return the page of a concept.

        Raises
        ------
        RequestError
            If there is no such concept.
        """

        def make() -> str:
            view = next((each for each in self.concept_list if each.index == number), None)
            if view is None:
                raise RequestError(f"there is no concept {number}: there are {len(self.concept_list)}, counted from 0.")
            units = [
                (each, unit_view(LayerTables(each.run, each.index, chosen=[each.unit]), each.unit, CONCEPT_IMAGES))
                for each in view.best
            ]
            _, examples = examples_of_runs(self._numbered, [view.concept]).get(view.concept, (None, []))
            return self.pages.concept(view, units, examples)

        return self._cached(("concept", number), make)

    def matches(self, left: OpenRun, right: OpenRun, query: MatchQuery) -> str:
        """Return the rows of matched units of two layers.

        Raises
        ------
        NetdissectError
            If there is no such layer, or units cannot be matched; see `netdissect.report.views.matched_units`.
        """
        left.layer(query.left_layer)
        right.layer(query.right_layer)

        def make() -> str:
            sides = LayerTables(left.numbered, query.left_layer), LayerTables(right.numbered, query.right_layer)
            return self.pages.matches(matching_view(*sides), "compare")

        return self._cached(("matches", query.model_dump_json()), make)

    def image_answer(self, run: OpenRun, image: ProcessedImage, query: ImageQuery, *, classifier: bool) -> str:
        """Return the parts of the page about an image: its segments and the units active in it."""
        detail = image_detail(run, image, query.model_copy(update={"images": ACTIVE_IMAGES}))
        segmentation = segmentation_detail(run, image, query)
        with self._lock:
            level, slider = self._level(run.numbered.index, query.layer, query.quantile, None)
            return self.pages.render(
                "image_answer.html.j2", "image", detail=detail, segmentation=segmentation, slider=slider,
                layer=self._views[run.numbered.index].layers[query.layer], limit=level.min_iou, classifier=classifier,
                generator=run.result.info.network.generator, detected=_detected(run, query.layer, level),
            )  # fmt: skip

    def training(self) -> str:
        """Return the page of the trainings."""
        return self._cached("training", lambda: self.pages.training(json="api/trainings"))

    def changed_units(self) -> str:
        """Return the page of the interventions."""
        with self._drawing:
            return self._cached("interventions", lambda: self.pages.changed_units(json="api/interventions"))

    def run_on(self, data_index: int) -> OpenRun:
        """Return a run on one of the data sets.

        Raises
        ------
        RequestError
            If there is no such data set.
        """
        for run in self._open:
            if run.numbered.data_index == data_index:
                return run
        raise RequestError(f"there is no data set {data_index}.")

    def concept_script(self, data_index: int, image_index: int) -> str:
        """Return the script with the masks of the concepts in an image of a data set.

        Raises
        ------
        RequestError
            If there is no such data set or image.
        """
        opened = self.run_on(data_index)
        opened.image(image_index)
        runs = [run for run in self._numbered if run.data_index == data_index]
        data = opened.numbered.dataset
        return concept_script(runs, None if data is None else read_labels(data, image_index))

    @cached_property
    def _views(self) -> list[RunView]:
        return run_views(self._numbered)

    def _run(self, run: int) -> OpenRun:
        if run >= len(self._open):
            raise RequestError(f"there is no run {run}: there are {len(self._open)}, counted from 0.")
        return self._open[run]

    def _level(
        self, run: int, index: int, quantile: float | None, min_iou: float | None
    ) -> tuple[Level, QuantileSlider]:
        """Return the quantile and limit of a page, and the slider at this quantile."""
        opened = self._open[run]
        level, masks, _ = shown_level(opened, index, quantile, min_iou)
        low, high = opened.curves(opened.layer(index)).range
        return level, QuantileSlider(low, high, opened.result.info.config.protocol.quantiles, masks.note)

    def _charts(self, run: int, index: int) -> dict[str, Markup]:
        key = (run, index)
        with self._drawing:
            if key not in self._drawn:
                self._drawn[key] = self.pages.charts(
                    LayerTables(self._numbered[run], index), self._views[run].layers[index]
                )
            return self._drawn[key]

    def _cached(self, key: Hashable, make: Callable[[], str]) -> str:
        with self._lock:
            if key not in self._cache:
                page = make()
                while len(self._cache) >= CACHED_PAGES:
                    del self._cache[next(iter(self._cache))]
                self._cache[key] = page
            return self._cache[key]


def _detected(run: OpenRun, index: int, level: Level) -> dict[str, int]:
    """Return the concepts that units of a layer detect, with the number of their detectors."""
    units = labeled_units(run, run.layer(index), level.quantile, None).filter(pl.col("state") == "detector")
    return {str(concept): len(part) for (concept,), part in units.group_by("label", maintain_order=True)}
