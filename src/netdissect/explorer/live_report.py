"""The report's pages, made when they are opened: the same templates, the same addresses below ``/report/``."""

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
from netdissect.report.views import ConceptView, RunView, concept_views, run_views, unit_detail, unit_view

KEPT = 256
"""Pages kept, of about 30 kB each (a layer's page is larger)."""
PAGE_IMAGES, CARD_IMAGES, CONCEPT_IMAGES = 25, 6, 4

_UNIT = re.compile(r"r(\d{1,6})/l(\d{1,6})/u(\d{1,9})\.html")
_LAYER = re.compile(r"r(\d{1,6})/l(\d{1,6})/index\.html")
_CONCEPT = re.compile(r"concepts/c(\d{1,9})\.html")
_IMAGE = re.compile(r"images/(\d{1,6})/(\d{1,9})\.webp")


class LiveReport:
    """A report that is not written: each page is made when it is asked for, and some are kept."""

    def __init__(self, shelf: RunRegistry) -> None:
        self._open: Sequence[OpenRun] = list(shelf)
        self._kept: dict[str, bytes] = {}
        # Beside the top images: those on which a unit and its label disagree, as pages name them.
        self._named: dict[str, str] = {}
        # One page at a time: charts are drawn with a library that does not draw in two threads.
        self._lock = Lock()

    def file(self, address: str) -> bytes:
        """Return what a written report would hold at an address.

        Raises
        ------
        RequestError
            If it would hold nothing there.
        """
        with self._lock:
            if address not in self._kept:
                data = self._made(address)
                while len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[address] = data
            return self._kept[address]

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

    def _made(self, address: str) -> bytes:
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
            found = pattern.fullmatch(address)
            if found:
                return make(*(int(number) for number in found.groups()))
        raise _nothing(address)

    def _tables(self, run: int, index: int) -> LayerTables:
        if run >= len(self._runs) or index >= len(self._runs[run].result.layers):
            raise _nothing(f"r{run}/l{index}")
        return LayerTables(self._runs[run], index)

    def _unit(self, run: int, index: int, unit: int) -> bytes:
        tables = self._tables(run, index)
        if unit >= tables.info.units:
            raise _nothing(urls.unit(run, index, unit))
        detail = unit_detail(tables, unit)
        self._named |= {tile.file: tile.image for tile in (*detail.alarms, *detail.misses)}
        return self._pages.unit(tables, self._views[run], unit_view(tables, unit, PAGE_IMAGES), detail).encode()

    def _layer(self, run: int, index: int) -> bytes:
        tables = self._tables(run, index)
        cards = [unit_view(tables, unit, CARD_IMAGES) for unit in tables.units]
        return self._pages.layer(tables, self._views[run], cards).encode()

    def _concept(self, number: int) -> bytes:
        view = next((each for each in self._concepts if each.address == urls.concept(number)), None)
        if view is None:
            raise _nothing(urls.concept(number))
        found = [
            (each, unit_view(self._tables(each.run.index, each.index), each.unit, CONCEPT_IMAGES)) for each in view.best
        ]
        return self._pages.concept(view, found).encode()

    def _image(self, data: int, row: int) -> bytes:
        address = urls.image(data, row)
        for run, numbered in zip(self._open, self._runs, strict=True):
            name = run.image_names.get(row, self._named.get(address))
            if numbered.data == data and name is not None:
                pixels = read_image(run.images, name)
                if pixels is not None:
                    return webp(pixels)
        raise _nothing(address)


def _nothing(address: str) -> RequestError:
    return RequestError(f"the report has nothing at {address!r}. Begin at /report/index.html.")
