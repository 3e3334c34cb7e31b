"""Write runs as a folder of pages that open from disk: no server, no network, no script from elsewhere.

What the files are called is said in `netdissect.report.urls`. An image is written once, however many units fire on
it: masks are drawn over it by the page. A list of what was written lies beside the pages, so that a later, smaller
report in the same folder leaves nothing behind.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import polars as pl

from netdissect.activations import prefetch
from netdissect.config import Progress
from netdissect.errors import ResultError
from netdissect.paths import contained
from netdissect.plots.example_images import image_folder, read_image, webp
from netdissect.report import urls
from netdissect.report.examples import find_examples
from netdissect.report.layer_tables import LayerTables, NumberedRun, number_runs
from netdissect.report.pages import GENERATOR, PageNotes, Pages, script, style
from netdissect.report.views import (
    CARD_IMAGES,
    ConceptView,
    RunView,
    Tile,
    UnitDetail,
    UnitView,
    concept_views,
    run_views,
    unit_detail,
    unit_view,
)
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.result.folder_lock import hold

LIST, WRITING = "files.txt", ".writing"
PAGE_IMAGES = 25
CONCEPT_IMAGES = 4
# Pillow decodes and encodes without the interpreter lock.
DRAWING_THREADS = 2


def report(
    results: Result | Sequence[Result],
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one or more runs as a folder of plain files to look at.

    Parameters
    ----------
    results
        Finished runs, for example from `netdissect.result.load_result`.
    out
        Folder to write; an earlier report there is replaced.
    names
        What the runs are called; None: as their networks.
    data_root
        The data set's folder, or its ``images/``, if it has moved since the run. Without the images the
        report is written all the same, and says so.
    progress
        Called with the stage and the number of units done and in all.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ResultError
        If there is no run, if `out` holds a page that is no report, if it cannot be written, if another process writes
        a report there, or if a run was replaced meanwhile.
    """
    each = [results] if isinstance(results, Result) else list(results)
    if not each:
        raise ResultError("a report was asked for without a run. Name at least one finished run.")
    out = Path(out)
    _refuse_foreign(out)
    try:
        with _Folder(out) as folder:
            _Writer(number_runs(each, names, data_root), folder, data_root, progress).write()
            for result in each:
                result.check_unchanged()
    except (OSError, pl.exceptions.PolarsError) as error:
        for result in each:  # a table that is gone is no fault of the report's folder
            result.check_unchanged()
        raise ResultError(
            f"the report cannot be written to {out} ({error}). Nothing there is complete; free space or choose "
            "another folder."
        ) from error
    return out / urls.INDEX


class _Folder:
    """The folder of a report, and the list of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self._list: TextIO | None = None
        self._before: set[str] = set()

    def __enter__(self) -> Self:
        writing = self.path / WRITING
        writing.mkdir(parents=True, exist_ok=True)
        self._lock = hold(writing)
        listed = self.path / LIST
        if listed.exists():
            self._before = set(listed.read_text(encoding="utf-8").splitlines())
        # Appended to until all is written: what a killed report left is known to the next one.
        self._list = listed.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._list is not None:
                self._list.close()
            if kind is None:
                self._remove(self._before - set(self.sizes))
                names = "".join(f"{name}\n" for name in self.sizes).encode()
                write_whole(self.path / LIST, lambda file: file.write(names))
        finally:
            shutil.rmtree(self.path / WRITING, ignore_errors=True)
            self._lock.release()

    def write(self, address: str, content: bytes | str) -> None:
        """Write one file."""
        data = content.encode() if isinstance(content, str) else content
        path = contained(self.path, address, f"the report in {self.path}", ResultError)
        if path.parent != self.path:
            path.parent.mkdir(parents=True, exist_ok=True)
        if self._list is not None and address not in self._before:
            self._list.write(f"{address}\n")
            self._list.flush()
        path.write_bytes(data)
        self.sizes[address] = len(data)

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files of an earlier report, and the folders that are empty without them."""
        for name in names:
            if not urls.is_address(name):
                continue
            path = contained(self.path, name, self.path / LIST, ResultError)
            if path.is_file():
                path.unlink()
                for parent in path.parents:
                    if parent == self.path or any(parent.iterdir()):
                        break
                    parent.rmdir()


class _Writer:
    """Write the pages of some runs into a folder, layer by layer."""

    def __init__(
        self, runs: Sequence[NumberedRun], folder: _Folder, data_root: str | Path | None, progress: Progress | None
    ) -> None:
        self.runs = runs
        self.folder = folder
        self.progress = progress
        self.roots = {run.data: image_folder(run.result.info.data.root, data_root) for run in runs}
        self.missing: dict[str, str] = {}
        self.pages = Pages(runs, self.missing)
        self.views = run_views(runs)
        self.done = 0

    def write(self) -> None:
        """Write all pages, the first one last."""
        for address, text in ((urls.STYLE, style()), (urls.SCRIPT, script())):
            self.folder.write(address, text)
        for run, view in zip(self.runs, self.views, strict=True):
            for index in range(len(view.layers)):
                self._layer(LayerTables(run, index), view)
        concepts = concept_views(self.runs)
        self.folder.write(urls.CONCEPTS, self.pages.concepts(self.views, concepts))
        self._concepts(concepts)
        text = self.pages.index(self.views, concepts, self._notes())
        write_whole(self.folder.path / urls.INDEX, lambda file: file.write(text.encode()))
        self.folder.sizes[urls.INDEX] = len(text.encode())

    def _layer(self, tables: LayerTables, run: RunView) -> None:
        total = sum(layer.info.units for view in self.views for layer in view.layers)
        cards = []
        for batch in _batches(list(tables.units), 64):
            units = [(unit_view(tables, unit, PAGE_IMAGES), unit_detail(tables, unit)) for unit in batch]
            self._draw(tables.run, [tile for pair in units for tile in _tiles_of(*pair)])
            for unit, detail in units:
                self.folder.write(unit.address, self.pages.unit(tables, run, unit, detail))
                cards.append(_card(unit))
                self.done += 1
                if self.progress:
                    self.progress("report", self.done, total)
        self.folder.write(run.layers[tables.index].address, self.pages.layer(tables, run, cards))

    def _concepts(self, concepts: Sequence[ConceptView]) -> None:
        places = [(run, index) for run in self.runs for index in range(len(run.result.layers))]
        tables = {(run.index, index): LayerTables(run, index) for run, index in places}
        examples: dict[str, list[Tile]] = {}
        for run in {run.data: run for run in reversed(self.runs)}.values():
            found = {} if run.dataset is None else find_examples(run, run.dataset)
            for name, tiles in found.items():
                examples.setdefault(name, tiles)
                self._draw(run, tiles)
        for concept in concepts:
            units = [
                (each, unit_view(tables[each.run.index, each.index], each.unit, CONCEPT_IMAGES))
                for each in concept.best
            ]
            shown = [tile for tile in examples.get(concept.concept, []) if tile.file not in self.missing]
            self.folder.write(concept.address, self.pages.concept(concept, units, shown))

    def _draw(self, run: NumberedRun, tiles: Iterable[Tile]) -> None:
        """Write the images that are not there yet."""
        wanted = {tile.file: tile.image for tile in tiles}
        wanted = {address: name for address, name in wanted.items() if address not in self.folder.sizes | self.missing}
        encode = partial(_encoded, self.roots[run.data])
        drawn = prefetch(encode, list(wanted.values()), DRAWING_THREADS, 8 * DRAWING_THREADS)
        for (address, name), data in zip(wanted.items(), drawn, strict=True):
            if data is None:
                self.missing[address] = name
            else:
                self.folder.write(address, data)

    def _notes(self) -> PageNotes:
        imaged = any(name.startswith("images/") for name in self.folder.sizes)
        size = sum(self.folder.sizes.values())
        return PageNotes(
            imageless=bool(self.missing) and not imaged,
            missing=tuple(sorted(set(self.missing.values()))),
            files=len(self.folder.sizes) + 2,  # the first page and the list of files
            size=f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB",
        )


def _tiles_of(unit: UnitView, detail: UnitDetail) -> tuple[Tile, ...]:
    return (*unit.tiles, *detail.alarms, *detail.misses)


def _card(unit: UnitView) -> UnitView:
    return replace(unit, tiles=unit.tiles[:CARD_IMAGES])


def _encoded(root: Path, name: str) -> bytes | None:
    pixels = read_image(root, name)
    return None if pixels is None else webp(pixels)


def _batches(units: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (units[start : start + size] for start in range(0, len(units), size))


def _refuse_foreign(out: Path) -> None:
    page = out / urls.INDEX
    if not page.exists():
        return
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            ours = GENERATOR in file.read(2000)
    except OSError:
        ours = False
    if not ours:
        raise ResultError(
            f"{page} exists and is no report of netdissect; it would be overwritten. Name another folder."
        )
