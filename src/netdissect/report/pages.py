"""Render pages: a view and a template make text.

    Pages(runs).index(...), .layer(...), .unit(...), .concepts(...), .concept(...)

Nothing here writes a file. Names come from data sets and networks, and every template escapes them.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from netdissect import plots
from netdissect.report import urls
from netdissect.report.inline_svg import firing_map_svg, histogram_svg
from netdissect.report.layer_tables import FLOOR, LayerTables, NumberedRun, concept_numbers
from netdissect.report.views import ConceptView, FoundUnit, LayerView, RunView, Tile, UnitDetail, UnitView, legend
from netdissect.result import RunInfo
from netdissect.result.queries import limits
from netdissect.scoring.detectors import limit_in_words, limit_number

GENERATOR = "netdissect report"
TEMPLATES = Path(__file__).parent / "templates"
_NAMED = '<a href="{}" aria-label="{}"><title>{}</title>'


@dataclass(frozen=True)
class PageNotes:
    """What the first page says of the report itself.

    Attributes
    ----------
    imageless
        Whether images were expected and none could be read.
    missing
        Names of the images that could not be read.
    files, size
        How many files there are, and how large they are, in words; empty where nothing is written.
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
        What is shown together.
    missing
        Addresses of images that are not there.
    """

    def __init__(self, runs: Sequence[NumberedRun], missing: Collection[str] = ()) -> None:
        self.runs = runs
        self.missing = missing
        self.colors = legend(runs)
        self.numbers = concept_numbers(runs)
        self.environment = environment()

    def index(self, views: Sequence[RunView], concepts: Sequence[ConceptView], notes: PageNotes | None = None) -> str:
        """Return the first page: all runs, their layers, the concepts found."""
        largest = max((layer.unique_detectors for run in views for layer in run.layers), default=0)
        return self._render(
            "index.html.j2", urls.INDEX, runs=views, concepts=concepts, largest=largest, notes=notes or PageNotes()
        )

    def layer(self, tables: LayerTables, run: RunView, units: Iterable[UnitView]) -> str:
        """Return the page of a layer with all its units, best first."""
        view = run.layers[tables.index]
        ordered = sorted(units, key=lambda unit: (-unit.iou, unit.unit))
        return self._render(
            "layer.html.j2", view.address, run=run, layer=view, units=ordered, charts=self._charts(tables, view)
        )

    def unit(self, tables: LayerTables, run: RunView, unit: UnitView, detail: UnitDetail) -> str:
        """Return the page of a unit."""
        color = self.colors.get(unit.category or "", "#7a7a7a")
        return self._render(
            "unit.html.j2",
            unit.address,
            run=run,
            layer=run.layers[tables.index],
            unit=unit,
            detail=detail,
            histogram=histogram_svg(detail.histogram, unit.threshold),
            firing=firing_map_svg(tables, detail.places, color),
        )

    def concepts(self, views: Sequence[RunView], concepts: Sequence[ConceptView]) -> str:
        """Return the table of all concepts."""
        places = [{"run": run.name, "layer": layer.info.name} for run in views for layer in run.layers]
        return self._render("concepts.html.j2", urls.CONCEPTS, runs=views, concepts=concepts, places=places)

    def concept(
        self,
        view: ConceptView,
        found: Sequence[tuple[FoundUnit, UnitView]],
        examples: Sequence[Tile] = (),
    ) -> str:
        """Return the page of a concept: its best units with their images, and examples of it."""
        return self._render(
            "concept.html.j2", view.address, runs=self.runs, concept=view, found=found, examples=examples
        )

    def _charts(self, tables: LayerTables, view: LayerView) -> dict[str, Markup]:
        result = tables.run.result
        charts = {"iou": chart(plots.iou(result, layer=tables.name), "How IoU is distributed over the units.")}
        if view.detectors:
            root = urls.root_of(view.address)
            links = {name: root + urls.concept(number) for name, number in self.numbers.items()}
            figure = plots.bars(result, layer=tables.name, links=links)
            drawn = chart(figure, "Bar graph: how many units detect each concept, grouped by category.")
            for name, address in links.items():
                drawn = Markup(drawn.replace(f'<a href="{address}">', Markup(_NAMED).format(address, name, name)))  # noqa: S704
            charts["bars"] = drawn
        if "sensitivity" in tables.layer.evidence:
            figure = plots.sensitivity(result, tables.name)
            charts["sensitivity"] = chart(figure, "Detectors and unique detectors by the IoU that makes one.")
        return charts

    def _render(self, template: str, address: str, **values: Any) -> str:
        return self.environment.get_template(template).render(
            address=address, colors=self.colors, numbers=self.numbers, missing=self.missing, floor=FLOOR, **values
        )


def environment() -> Environment:
    """Return what renders the templates, names escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"number": lambda value: f"{value:,}", "limit": limit_number}
    made.globals |= {
        "at": urls, "at_most": lambda value: min(round(float(value), 1), 100.0), "data_name": data_name,
        "limits": limits, "limit_in_words": limit_in_words,
        "generator": GENERATOR, "percent": percent, "version": version("netdissect"),
    }  # fmt: skip
    return made


def percent(part: float, whole: float) -> str:
    """Return a share in percent with two digits.

    >>> percent(1, 3), percent(0, 0), percent(0.0004, 1)
    ('33 %', '0 %', '0.04 %')
    """
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def data_name(info: RunInfo) -> str:
    """Return what a run's data set is called: its folder."""
    return PurePath(info.data.root).name


def style() -> str:
    """Return the style sheet of all pages."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def script() -> str:
    """Return the script of all pages."""
    return (TEMPLATES / "report.js").read_text(encoding="utf-8")


def chart(figure: Figure, description: str) -> Markup:
    """Return a figure as SVG that belongs into a page: its inks are the page's, light or dark.

    Parameters
    ----------
    figure
        From `netdissect.plots`.
    description
        What it shows, for those who do not see it.
    """
    text = plots.svg(figure)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = _own_identifiers(_page_inks(text)).replace("xlink:href", "href").replace(' target="_blank"', "")
    role = "group" if "<a href" in text else "img"
    # matplotlib escapes the names that it writes.
    return Markup(text.replace("<svg", f'<svg role="{role}" aria-label="{description}"', 1))  # noqa: S704


def _page_inks(text: str) -> str:
    ramp = {ink: f"var(--ramp-{step})" for step, ink in enumerate(plots.RAMP)}
    inks: Mapping[str, str] = {plots.INK: "currentColor", plots.FAINT: "var(--rule)", **ramp}
    for ink, name in inks.items():
        text = re.sub(re.escape(ink), name, text, flags=re.IGNORECASE)
    return text


def _own_identifiers(text: str) -> str:
    """Drop identifiers that nothing refers to: several charts stand on a page, and an identifier only once."""
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    return re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
