"""The report's pages, rendered when they are opened: same templates and addresses, below ``/report/``."""

import re
from collections.abc import Sequence
from functools import cached_property
from threading import Lock

from netdissect.errors import RequestError
from netdissect.explorer.run_registry import OpenRun, RunRegistry
from netdissect.plots.example_images import read_image, webp
from netdissect.report import urls
from netdissect.report.layer_tables import LayerTables, NumberedRun, number_runs
from netdissect.report.pages import PageNotes, Pages, script, style
from netdissect.report.unit_views import CARD_IMAGES, CONCEPT_IMAGES, PAGE_IMAGES, unit_detail, unit_view
from netdissect.report.views import ConceptView, RunView, concept_views, run_views

CACHED_PAGES = 256
"""Pages in the cache, of about 30 kB each (a layer's page is larger)."""

_UNIT = re.compile(r"r(\d{1,6})/l(\d{1,6})/u(\d{1,9})\.html")
_LAYER = re.compile(r"r(\d{1,6})/l(\d{1,6})/index\.html")
_CONCEPT = re.compile(r"concepts/c(\d{1,9})\.html")
_IMAGE = re.compile(r"images/(\d{1,6})/(\d{1,9})\.webp")


class LiveReport:
    """A report that is not written to disk: pages are rendered on request and cached."""

    def __init__(self, registry: RunRegistry) -> None:
        self._open: Sequence[OpenRun] = list(registry)
        self._cache: dict[str, bytes] = {}
        # File names of images with false positives or false negatives, by address: they may be no top images.
        self._error_images: dict[str, str] = {}
        # One page at a time: matplotlib is not thread-safe.
        self._lock = Lock()

    def file(self, address: str) -> bytes:
        """Return the content of a file of the report.

        Raises
        ------
        RequestError
            If the report has no such file.
        """
        with self._lock:
            if address not in self._cache:
                data = self._render(address)
                while len(self._cache) >= CACHED_PAGES:
                    del self._cache[next(iter(self._cache))]
                self._cache[address] = data
            return self._cache[address]

    @cached_property
    def _runs(self) -> tuple[NumberedRun, ...]:
        return number_runs([run.result for run in self._open], [run.name for run in self._open])

    @cached_property
    def _pages(self) -> Pages:
        return Pages(self._runs)

    @cached_property
    def _views(self) -> list[RunView]:
        return run_views(self._runs)

    @cached_property
    def _concepts(self) -> list[ConceptView]:
        return concept_views(self._runs)

    def _render(self, address: str) -> bytes:
        if address == urls.STYLE:
            return style().encode()
        if address == urls.SCRIPT:
            return script().encode()
        if address == urls.INDEX:
            return self._pages.index(self._views, self._concepts, PageNotes()).encode()
        if address == urls.CONCEPTS:
            return self._pages.concepts(self._views, self._concepts).encode()
        for pattern, make in (
            (_UNIT, self._unit),
            (_LAYER, self._layer),
            (_CONCEPT, self._concept),
            (_IMAGE, self._image),
        ):
            match = pattern.fullmatch(address)
            if match:
                return make(*(int(number) for number in match.groups()))
        raise _not_in_report(address)

    def _tables(self, run: int, index: int) -> LayerTables:
        if run >= len(self._runs) or index >= len(self._runs[run].result.layers):
            raise _not_in_report(f"r{run}/l{index}")
        return LayerTables(self._runs[run], index)

    def _unit(self, run: int, index: int, unit: int) -> bytes:
        tables = self._tables(run, index)
        if unit >= tables.info.units:
            raise _not_in_report(urls.unit(run, index, unit))
        detail = unit_detail(tables, unit)
        self._error_images |= {image.url: image.image for image in (*detail.false_positives, *detail.false_negatives)}
        return self._pages.unit(tables, self._views[run], unit_view(tables, unit, PAGE_IMAGES), detail).encode()

    def _layer(self, run: int, index: int) -> bytes:
        tables = self._tables(run, index)
        cards = [unit_view(tables, unit, CARD_IMAGES) for unit in tables.units]
        return self._pages.layer(tables, self._views[run], cards).encode()

    def _concept(self, number: int) -> bytes:
        view = next((each for each in self._concepts if each.url == urls.concept(number)), None)
        if view is None:
            raise _not_in_report(urls.concept(number))
        found = [
            (each, unit_view(self._tables(each.run.index, each.index), each.unit, CONCEPT_IMAGES)) for each in view.best
        ]
        return self._pages.concept(view, found).encode()

    def _image(self, data: int, row: int) -> bytes:
        address = urls.image(data, row)
        for run, numbered in zip(self._open, self._runs, strict=True):
            name = run.image_names.get(row, self._error_images.get(address))
            if numbered.data_index == data and name is not None:
                pixels = read_image(run.images, name)
                if pixels is not None:
                    return webp(pixels)
        raise _not_in_report(address)


def _not_in_report(address: str) -> RequestError:
    return RequestError(f"the report has no file {address!r}. Start at /report/index.html.")
