"""Write runs as a folder of pages that open from disk, without a server or a network connection.

`netdissect.report.urls` names the files. An image is written once, whatever the number of units that show it: the
page draws masks over it. A list of the written files is kept next to the pages, so that a later, smaller report in the
same folder leaves nothing behind.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import polars as pl

from netdissect.activations import prefetch
from netdissect.config import Progress
from netdissect.errors import ResultError
from netdissect.paths import contained
from netdissect.plots.example_images import image_folder, read_image, read_labels, webp
from netdissect.progress import ShowProgress, shown
from netdissect.report import urls
from netdissect.report.drawing.concept_scripts import concept_script
from netdissect.report.drawing.examples import examples_of_runs
from netdissect.report.layer_tables import MAX_UNIT_PAGES, LayerTables, NumberedRun, number_runs
from netdissect.report.pages import GENERATOR, PageNotes, Pages, script, style
from netdissect.report.views.intervention_views import Interventions, open_interventions
from netdissect.report.views.masked_images import (
    CARD_IMAGES,
    CONCEPT_IMAGES,
    PAGE_IMAGES,
    MaskedImage,
    read_concept_masks,
)
from netdissect.report.views.matched_units import RunMatching, run_matchings
from netdissect.report.views.run_views import ConceptView, RunView, concept_views, run_views
from netdissect.report.views.training_views import Trainings, open_trainings, training_images
from netdissect.report.views.unit_views import UnitDetail, UnitRows, UnitView, unit_detail, unit_rows, unit_view
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.result.folder_lock import lock_folder
from netdissect.result.result import runs_given

FILE_LIST, WRITING = "files.txt", ".writing"
# Pillow decodes and encodes without the interpreter lock.
IMAGE_THREADS = 2


def report(
    results: Result | Sequence[Result],
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    unit_pages: int = MAX_UNIT_PAGES,
    training: Trainings = (),
    interventions: Interventions = (),
    progress: ShowProgress = None,
) -> Path:
    """Write the report of one or more runs as a folder of plain files.

    Parameters
    ----------
    results
        Finished runs, for example from `netdissect.result.load_result`.
    out
        Folder to write; an earlier report there is replaced.
    names
        Titles of the runs; None: the names of their networks.
    data_root
        The data set's folder, or its ``images/``, if it has moved since the run. Without the images the
        report is written, and says so.
    unit_pages
        Units of each layer that have a page: those with the highest IoU. The page of the layer lists all units.
    training
        Results of the experiment `training-dynamics`, or their folders, for a page of the concepts at each step.
    interventions
        Files that ``netdissect intervene RUN --json`` printed, for a page of the areas of concepts before and after.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called with the stage, the number of units
        done and their total.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ResultError
        If there is no run, if `out` contains a page that is not a report, if it cannot be written, if another process
        writes a report there, or if a run was replaced meanwhile.
    """
    each = runs_given(results)
    if not each:
        raise ResultError("a report needs a run and none was given. Name at least one finished run.")
    out = Path(out)
    _refuse_foreign(out)
    runs = number_runs(each, names, data_root, unit_pages)
    try:
        trainings, changes = open_trainings(training, runs), open_interventions(interventions, runs)
        with _Folder(out) as folder, shown(progress) as display:
            _Writer(folder, Pages(runs, trainings=trainings, interventions=changes), data_root, display).write()
            for result in each:
                result.check_unchanged()
    except (OSError, pl.exceptions.PolarsError) as error:
        for result in each:  # a missing table is not an error of the report's folder
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
        self._lock = lock_folder(writing)
        listed = self.path / FILE_LIST
        if listed.exists():
            self._before = set(listed.read_text(encoding="utf-8").splitlines())
        # Appended to until all is written, so that the next report knows the files of a killed one.
        self._list = listed.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._list is not None:
                self._list.close()
            if error_type is None:
                self._remove(self._before - set(self.sizes))
                names = "".join(f"{name}\n" for name in self.sizes).encode()
                write_whole(self.path / FILE_LIST, lambda file: file.write(names))
        finally:
            shutil.rmtree(self.path / WRITING, ignore_errors=True)
            self._lock.release()

    def write(self, url: str, content: bytes | str) -> None:
        """Write one file."""
        data = content.encode() if isinstance(content, str) else content
        path = contained(self.path, url, f"the report in {self.path}", ResultError)
        if path.parent != self.path:
            path.parent.mkdir(parents=True, exist_ok=True)
        if self._list is not None and url not in self._before:
            self._list.write(f"{url}\n")
            self._list.flush()
        path.write_bytes(data)
        self.sizes[url] = len(data)

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files of an earlier report, and the folders that are empty without them."""
        for name in names:
            if not urls.is_report_file(name):
                continue
            path = contained(self.path, name, self.path / FILE_LIST, ResultError)
            if path.is_file():
                path.unlink()
                for parent in path.parents:
                    if parent == self.path or any(parent.iterdir()):
                        break
                    parent.rmdir()


class _Writer:
    """Write the pages of some runs into a folder, layer by layer."""

    def __init__(
        self,
        folder: _Folder,
        pages: Pages,
        data_root: str | Path | None,
        progress: Progress | None,
    ) -> None:
        runs = self.runs = pages.runs
        self.folder = folder
        self.progress = progress
        self.roots = {run.data_index: image_folder(run.result.info.data.root, data_root) for run in runs}
        self.missing: dict[str, str] = {}
        pages.missing = self.missing
        self.pages = pages
        self.views = run_views(runs)
        self.done = 0

    def write(self) -> None:
        """Write all pages, the first one last."""
        for url, text in ((urls.STYLE, style()), (urls.SCRIPT, script())):
            self.folder.write(url, text)
        for run, view in zip(self.runs, self.views, strict=True):
            for index in range(len(view.layers)):
                self._layer(LayerTables(run, index, chosen=run.units_with_page[index]), view)
        concepts = concept_views(self.runs)
        self.folder.write(urls.TERMS, self.pages.terms())
        self.folder.write(urls.CONCEPTS, self.pages.concepts(self.views, concepts))
        self._concepts(concepts)
        if self.pages.trainings:
            for run, image in training_images(self.pages.trainings, self.runs):
                self._write_images(run, [image])
            self.folder.write(urls.TRAINING, self.pages.training())
        if self.pages.interventions:
            self.folder.write(urls.INTERVENTIONS, self.pages.changed_units())
        matchings = self._matchings()
        text = self.pages.index(self.views, concepts, self._notes(), matchings)
        write_whole(self.folder.path / urls.INDEX, lambda file: file.write(text.encode()))
        self.folder.sizes[urls.INDEX] = len(text.encode())

    def _layer(self, tables: LayerTables, run: RunView) -> None:
        total = sum(len(units) for run in self.runs for units in run.units_with_page)
        cards = []
        read_concept_masks(tables, tables.units_with_page)
        for batch in _batches(list(tables.units_with_page), 64):
            units = [(unit_view(tables, unit, PAGE_IMAGES), unit_detail(tables, unit)) for unit in batch]
            self._write_images(tables.run, [image for pair in units for image in _images_of(*pair)])
            for unit, detail in units:
                self.folder.write(unit.url, self.pages.unit(tables, run, unit, detail))
                cards.append(_card(unit))
                self.done += 1
                if self.progress:
                    self.progress("report", self.done, total)
        self.folder.write(run.layers[tables.index].url, self.pages.layer(tables, run, cards))
        if len(tables.units_with_page) < tables.info.units:
            self.folder.write(urls.unit_rows(run.index, tables.index), _script_of(unit_rows(tables)))

    def _concepts(self, concepts: Sequence[ConceptView]) -> None:
        best: dict[tuple[int, int], set[int]] = {}
        for each in (unit for concept in concepts for unit in concept.best):
            best.setdefault((each.run.index, each.index), set()).add(each.unit)
        tables = {key: LayerTables(self.runs[key[0]], key[1], chosen=units) for key, units in best.items()}
        examples = examples_of_runs(self.runs)
        for run, images in examples.values():
            self._write_images(run, images)
        for concept in concepts:
            units = [
                (each, unit_view(tables[each.run.index, each.index], each.unit, CONCEPT_IMAGES))
                for each in concept.best
            ]
            for each, view in units:  # a unit without a page may have images that no page has shown
                self._write_images(each.run, view.top_images)
            _, images = examples.get(concept.concept, (None, []))
            shown = [image for image in images if image.url not in self.missing]
            self.folder.write(concept.url, self.pages.concept(concept, units, shown))

    def _matchings(self) -> list[RunMatching]:
        """Write the matched units of the first run and each other one."""
        matchings = run_matchings(self.runs)
        for matching in matchings:
            for pair in (pair for layer in matching.layers for pair in layer.pairs):
                self._write_images(matching.left, pair.left.top_images)
                self._write_images(matching.right, pair.right.top_images)
            if matching.layers:
                self.folder.write(urls.matched_units(matching.right.index), self.pages.run_matching(matching))
        return matchings

    def _write_images(self, run: NumberedRun, images: Iterable[MaskedImage]) -> None:
        """Write the images that are not written yet, and the masks of their concepts."""
        images = list(images)
        self._write_concepts_of(run, images)
        done = (self.folder.sizes, self.missing)
        names = {image.url: image.image for image in images if not any(image.url in each for each in done)}
        encode = partial(_encoded_image, self.roots[run.data_index])
        encoded = prefetch(encode, list(names.values()), IMAGE_THREADS, 8 * IMAGE_THREADS)
        for (url, name), data in zip(names.items(), encoded, strict=True):
            if data is None:
                self.missing[url] = name
            else:
                self.folder.write(url, data)

    def _write_concepts_of(self, run: NumberedRun, images: Iterable[MaskedImage]) -> None:
        shown = {urls.concept_masks(image.url): image.index for image in images if image.concept}
        new = {url: index for url, index in shown.items() if url not in self.folder.sizes}
        if run.dataset is None or not new:
            return
        runs = [each for each in self.runs if each.data_index == run.data_index]
        read = prefetch(partial(read_labels, run.dataset), list(new.values()), IMAGE_THREADS, 8 * IMAGE_THREADS)
        for url, labels in zip(new, read, strict=True):
            self.folder.write(url, concept_script(runs, labels))

    def _notes(self) -> PageNotes:
        has_images = any(name.endswith(".webp") for name in self.folder.sizes)
        size = sum(self.folder.sizes.values())
        return PageNotes(
            imageless=bool(self.missing) and not has_images,
            missing=tuple(sorted(set(self.missing.values()))),
            files=len(self.folder.sizes) + 2,  # the first page and the list of files
            size=f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB",
        )


def _script_of(rows: UnitRows) -> str:
    """Return rows as a script: a page on disk cannot read JSON."""
    return f"globalThis.unitRows = {json.dumps(asdict(rows), separators=(',', ':'))};\n"


def _images_of(unit: UnitView, detail: UnitDetail) -> tuple[MaskedImage, ...]:
    of_range = (image for band in detail.activation_range for image in band.images)
    of_similar = (similar.image for similar in detail.similar_units if similar.image is not None)
    return (*unit.top_images, *detail.false_positives, *detail.false_negatives, *of_range, *of_similar)


def _card(unit: UnitView) -> UnitView:
    return replace(unit, top_images=unit.top_images[:CARD_IMAGES])


def _encoded_image(root: Path, name: str) -> bytes | None:
    pixels = read_image(root, name)
    return None if pixels is None else webp(pixels)


def _batches(units: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (units[start : start + size] for start in range(0, len(units), size))


def _refuse_foreign(out: Path) -> None:
    if out.is_file():
        raise ResultError(f"the report cannot be written to {out}, which is a file. Name a folder.")
    page = out / urls.INDEX
    if not page.exists():
        return
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            is_report = GENERATOR in file.read(2000)
    except OSError:
        is_report = False
    if not is_report:
        raise ResultError(
            f"{page} exists and is not a report of netdissect; it would be overwritten. Name another folder."
        )
