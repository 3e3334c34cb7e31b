"""Render pages from views and templates.

    Pages(runs).index(...), .layer(...), .unit(...), .concepts(...), .concept(...)

The report on disk and the explorer have the same pages at the same addresses. The explorer passes a folder of further
templates (`live`): its own pages, and ``live_*.html.j2``, which a page includes where ``live`` is true. A control of
the explorer asks for the same page at other values and exchanges the elements that have the same ``data-part``.

To add a section: values in a view (`views`, `unit_views`), then ``{% call section("name", "Title") %}`` in the
page's template; the macros `masked` (an image with a mask) and `card` (a unit) are in ``parts.html.j2``. Both
programs show it; give an element ``data-part`` if it depends on the quantile or the limit.

Nothing here writes a file. Names come from data sets and networks, and every template escapes them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from netdissect import plots
from netdissect.counted import counted
from netdissect.plots.overlap import REGION_COLORS
from netdissect.report import urls
from netdissect.report.drawing import chart_values
from netdissect.report.drawing.inline_svg import firing_map_svg, histogram_svg, unit_map_svg
from netdissect.report.formulas.formula_views import formula_view
from netdissect.report.layer_tables import MIN_LISTED_IOU, LayerTables, NumberedRun, concept_indices
from netdissect.report.terms import TERMS
from netdissect.report.views.intervention_views import InterventionView
from netdissect.report.views.masked_images import MaskedImage
from netdissect.report.views.matched_units import MatchingView, RunMatching
from netdissect.report.views.run_views import ConceptView, LayerView, MatchingUnit, RunView, difference_views, legend
from netdissect.report.views.training_views import TrainingView
from netdissect.report.views.unit_scores import SCORES, score_parts, sorting_scores
from netdissect.report.views.unit_views import UnitDetail, UnitView
from netdissect.report.views.wall import wall_tiles
from netdissect.result import RunInfo
from netdissect.result.queries import limits
from netdissect.result.summary import basis_note, interval_text, null_text
from netdissect.scoring.detectors import limit_in_words, limit_number
from netdissect.scoring.number_text import change_text, iou_text, p_text

GENERATOR = "netdissect report"
PAGE_UNITS = 60
"""Units of a layer that are shown at first, and in each request of the explorer: whole rows of 1 to 6 cards."""
WALL_SIZE = 24
"""Concepts on the first page; the others are shown by "Show all"."""
DEPTH_WIDTH = 3.7
"""Inches: a telephone's screen."""
TEMPLATES = Path(__file__).parent / "templates"
_LINK = '<a href="{}" aria-label="{}"><title>{}</title>'


@dataclass(frozen=True)
class PageNotes:
    """Notes on the report itself, for the first page.

    Attributes
    ----------
    imageless
        Whether none of the images could be read.
    missing
        Names of the images that could not be read.
    files, size
        Number of files and their total size, as text; empty where nothing is written.
    """

    imageless: bool = False
    missing: tuple[str, ...] = ()
    files: int = 0
    size: str = ""


class Pages:
    """The pages of some runs.

    Parameters
    ----------
    runs
        The runs of the report.
    missing
        URLs of images that could not be read.
    live
        Folder of the explorer's templates; None: the pages are written to disk.
    trainings
        Results of `training-dynamics` that are shown with the runs.
    interventions
        Interventions in generators of the runs.
    """

    def __init__(
        self,
        runs: Sequence[NumberedRun],
        missing: Collection[str] = (),
        live: Path | None = None,
        trainings: Sequence[TrainingView] = (),
        interventions: Sequence[InterventionView] = (),
    ) -> None:
        self.runs = runs
        self.interventions = interventions
        self.trainings = trainings
        self.missing = missing
        self.colors = legend(runs)
        self.concept_indices = concept_indices(runs)
        self.environment = environment(live)

    def index(
        self,
        views: Sequence[RunView],
        concepts: Sequence[ConceptView],
        notes: PageNotes | None = None,
        matchings: Sequence[RunMatching] = (),
        **live: Any,
    ) -> str:
        """Return the first page: the best unit of each concept, a chart of the layers, and their tables."""
        largest = max((layer.unique_detectors for run in views for layer in run.layers), default=0)
        return self.render(
            "index.html.j2", urls.INDEX, runs=views, concepts=concepts, largest=largest, notes=notes or PageNotes(),
            wall=wall_tiles(concepts), wall_size=WALL_SIZE, depth=self._depth_chart() if largest else None,
            differences=difference_views(self.runs), matchings=matchings, **live,
        )  # fmt: skip

    def _depth_chart(self) -> Markup:
        figure = plots.depth(
            [run.result for run in self.runs], names=[run.name for run in self.runs], width=DEPTH_WIDTH
        )
        values = chart_values.depth_values(self.runs)
        drawn = chart(figure, "Unique detectors of each layer, in order of execution, for each run.", values)
        for number, ink in enumerate(plots.RUN_COLORS[1:], 1):
            drawn = Markup(drawn.replace(ink.lower(), f"var(--run-{number})"))  # noqa: S704
        return drawn

    def layer(self, tables: LayerTables, run: RunView, units: Iterable[UnitView]) -> str:
        """Return the page of a layer with all its units, best first."""
        view = run.layers[tables.index]
        ordered = sorted(units, key=lambda unit: (-unit.iou, unit.unit))
        charts = self.charts(tables, view)
        return self.layer_part(run, view, ordered, len(ordered), charts, page_size=PAGE_UNITS)

    def layer_part(
        self,
        run: RunView,
        view: LayerView,
        units: Sequence[UnitView],
        total: int,
        charts: Mapping[str, Markup],
        **live: Any,
    ) -> str:
        """Return the page of a layer with some of its units, in the order given, of the `total` that match a query."""
        return self.render(
            "layer.html.j2", view.url, run=run, layer=view, units=units, total=total, charts=charts, **live
        )

    def unit(self, tables: LayerTables, run: RunView, unit: UnitView, detail: UnitDetail, **live: Any) -> str:
        """Return the page of a unit."""
        color = self.colors.get(unit.category or "", "#7a7a7a")
        return self.render(
            "unit.html.j2",
            unit.url,
            run=run,
            layer=run.layers[tables.index],
            unit=unit,
            detail=detail,
            histogram=histogram_svg(detail.histogram, unit.threshold),
            firing=firing_map_svg(tables, detail.firing_map, color),
            formula=formula_view(tables, unit),
            formula_length=found.config.length if (found := tables.run.main_formulas) else 0,
            **live,
        )

    def concepts(self, views: Sequence[RunView], concepts: Sequence[ConceptView], **live: Any) -> str:
        """Return the table of all concepts."""
        layers = [{"run": run.name, "layer": layer.info.name} for run in views for layer in run.layers]
        return self.render("concepts.html.j2", urls.CONCEPTS, runs=views, concepts=concepts, layers=layers, **live)

    def concept(
        self,
        view: ConceptView,
        units: Sequence[tuple[MatchingUnit, UnitView]],
        examples: Sequence[MaskedImage] = (),
        **live: Any,
    ) -> str:
        """Return the page of a concept: its best units with their images, and examples of it."""
        return self.render(
            "concept.html.j2", view.url, runs=self.runs, concept=view, units=units, examples=examples, **live
        )

    def training(self, **live: Any) -> str:
        """Return the page of all trainings: the concepts with detectors at each snapshot."""
        return self.render("training.html.j2", urls.TRAINING, **live)

    def changed_units(self, **live: Any) -> str:
        """Return the page of all interventions: areas of concepts before and after, with controls."""
        charts = []
        for view in self.interventions:
            saved, rows = view.saved, [dict(effect.values) | {"name": effect.name} for effect in view.effects]
            figure = plots.intervention(saved.table, saved.map_table, names=saved.set_names)
            description = f"{view.title}: change of the area of each concept, with 95 % intervals and controls."
            values = {name: [row[name] for row in rows] for name in rows[0] if name != "set"}
            charts.append(chart(figure, str(escape(description)), values))
        return self.render("interventions.html.j2", urls.INTERVENTIONS, charts=charts, **live)

    def charts(self, tables: LayerTables, view: LayerView) -> dict[str, Markup]:
        """Draw the charts of a layer's page: iou, and bars, sensitivity and map where there is something to draw."""
        result = tables.run.result
        values = chart_values.iou_values(tables)
        charts = {"iou": chart(plots.iou(result, layer=tables.name), "Distribution of IoU over the units.", values)}
        if view.detectors:
            root = urls.root_of(view.url)
            links = {name: root + urls.concept(index) for name, index in self.concept_indices.items()}
            figure = plots.bars(result, layer=tables.name, links=links)
            values = chart_values.bars_values(tables)
            drawn = chart(figure, "Bar graph: number of units that detect each concept, grouped by category.", values)
            for name, url in links.items():
                drawn = Markup(drawn.replace(f'<a href="{url}">', Markup(_LINK).format(url, name, name)))  # noqa: S704
            charts["bars"] = drawn
        if "sensitivity" in tables.layer.statistics:
            figure = plots.sensitivity(result, tables.name)
            values = chart_values.sensitivity_values(tables)
            charts["sensitivity"] = chart(
                figure, "Detectors and unique detectors as functions of the IoU limit.", values
            )
        unit_map = unit_map_svg(tables)
        if unit_map is not None:
            charts["map"] = Markup(self.render("unit_map.html.j2", view.url, map=unit_map))  # noqa: S704 - a template
        return charts

    def matches(self, matching: MatchingView, url: str) -> str:
        """Return the rows of matched units, as a part of the page at `url`."""
        return self.render("matched_units.html.j2", url, matching=matching, root=urls.root_of(url))

    def run_matching(self, matching: RunMatching) -> str:
        """Return the page of the matched units of two runs."""
        return self.render("run_matching.html.j2", urls.matched_units(matching.right.index), runs=matching)

    def terms(self) -> str:
        """Return the list of terms."""
        return self.render("terms.html.j2", urls.TERMS)

    def render(self, template: str, url: str, **values: Any) -> str:
        """Render a template as the page at `url`."""
        return self.environment.get_template(template).render(
            url=url,
            colors=self.colors,
            concept_indices=self.concept_indices,
            missing=self.missing,
            trainings=self.trainings,
            interventions=self.interventions,
            min_listed_iou=MIN_LISTED_IOU,
            **values,
        )


def environment(live: Path | None = None) -> Environment:
    """Return the Jinja environment of the templates, with those of the explorer in `live`; it escapes names."""
    templates = Environment(
        loader=FileSystemLoader([TEMPLATES, *([live] if live else [])]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    templates.filters |= {
        "number": lambda value: f"{value:,}",
        "counted": counted,
        "change": change_text,
        "limit": limit_number,
        "unbroken": unbroken,
    }
    templates.globals |= {
        "region_colors": REGION_COLORS,
        "live": live is not None, "urls": urls, "data_name": data_name, "words": {}, "searchable": False,
        "neighbors": (),
        "at_most": lambda value: min(round(float(value), 1), 100.0), "basis_note": basis_note, "iou_text": iou_text,
        "p_text": p_text,
        "limits": limits, "limit_in_words": limit_in_words, "interval_text": interval_text, "null_text": null_text,
        "score_parts": score_parts, "sorting_scores": sorting_scores, "SCORES": SCORES,
        "generator": GENERATOR, "percent": percent, "terms": TERMS,
        "version": version("netdissect"),
    }  # fmt: skip
    return templates


def percent(part: float, whole: float) -> str:
    """Return a share in percent with two digits, or with two digits of what is missing from all.

    >>> percent(1, 3), percent(0, 0), percent(0.0004, 1), percent(39020, 39200)
    ('33 %', '0 %', '0.04 %', '99.54 %')
    """
    share = 100 * part / whole if whole else 0.0
    if 99.5 <= share < 100:
        return f"{100 - Decimal(f'{100 * (whole - part) / whole:.2g}')} %"
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def unbroken(text: str) -> Markup:
    """Return a text in which options of commands and words like q-value are not broken over two lines.

    >>> unbroken("no permutation null: --permutations 100")
    Markup('no permutation null: <code class="option">--permutations 100</code>')
    >>> unbroken("p-values of units")
    Markup('<span class="unbroken">p-values</span> of units')
    """
    parts = re.split(r"(--[a-z-]+(?: \d+)?)|\b([a-z]-[a-z]+)\b", text)
    texts, commands, words = parts[::3], parts[1::3], parts[2::3]
    marked = [
        Markup('<code class="option">{}</code>').format(command)
        if command
        else Markup('<span class="unbroken">{}</span>').format(word)
        for command, word in zip(commands, words, strict=True)
    ]
    return Markup("").join(part for pair in zip_longest(texts, marked, fillvalue="") for part in pair)


def data_name(info: RunInfo) -> str:
    """Return the name of a run's data set: that of its folder."""
    return PurePath(info.data.root).name


def style() -> str:
    """Return the style sheet of all pages."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def script() -> str:
    """Return the script of all pages, with the definitions of terms."""
    definitions = {name: term.definition for name, term in TERMS.items()}
    text = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "copy_menu.js"))
    return f"{text}globalThis.definitions = {json.dumps(definitions)};\n"


def chart(figure: Figure, description: str, values: chart_values.Columns | None = None) -> Markup:
    """Return a figure as SVG for a page, in the colors of its light or dark scheme.

    Parameters
    ----------
    figure
        From `netdissect.plots`.
    description
        Text alternative for screen readers.
    values
        What the copy menu saves; None: nothing.
    """
    text = plots.svg(figure)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = _drop_unused_ids(_page_inks(text)).replace("xlink:href", "href").replace(' target="_blank"', "")
    role = "group" if "<a href" in text else "img"
    held = f" data-values='{htmlsafe_json_dumps(values)}'" if values else ""
    # matplotlib escapes the names that it writes.
    return Markup(text.replace("<svg", f'<svg role="{role}" aria-label="{description}"{held}', 1))  # noqa: S704


def _page_inks(text: str) -> str:
    ramp = {ink: f"var(--ramp-{step})" for step, ink in enumerate(plots.RAMP)}
    inks: Mapping[str, str] = {
        plots.INK: "currentColor", plots.FAINT: "var(--rule)", plots.PAPER: "var(--page)", **ramp
    }  # fmt: skip
    for ink, name in inks.items():
        text = re.sub(re.escape(ink), name, text, flags=re.IGNORECASE)
    return text


def _drop_unused_ids(text: str) -> str:
    """Drop unused identifiers: a page has several charts, and an identifier must be unique in it."""
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    return re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
