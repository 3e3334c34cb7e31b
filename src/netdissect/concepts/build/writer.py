"""Write samples in the published Broden layout.

    samples -> render (workers) -> consolidate -> renumber (workers) -> write_tables -> publish

Images are decoded once. Label maps are first written with ids of their own image, and renumbered when all names are
known, because label ids are sorted by frequency. All files are written in a hidden folder next to the target, which is
renamed when it is complete; a killed build resumes from it.
"""

import hashlib
import json
import logging
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from netdissect.concepts.build.apply_vocabulary import consolidate
from netdissect.concepts.build.atomic_dir import check_target, publish, staging_dir
from netdissect.concepts.build.broden_tables import write_tables
from netdissect.concepts.build.manifest import BuildManifest, InputHasher
from netdissect.concepts.build.parallel import map_in_order
from netdissect.concepts.build.render import render, renumber
from netdissect.concepts.build.rendered import Folders, Rendered
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.vocabulary import Vocabulary, VocabularyEntry
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.colors import read_color_table
from netdissect.config import Progress
from netdissect.counted import counted, size_text
from netdissect.errors import ConceptsError, SourceError
from netdissect.progress import ShowProgress, shown

__all__ = ["Progress", "WriteOptions", "check_target", "write_dataset"]

logger = logging.getLogger(__name__)

TRIALS = 8  # images that are written once more at the start, to estimate the size of the data set
PROBLEMS_SHOWN = 10

README = """\
A concept data set in Broden's layout, written by netdissect {version}.

{images} images of {size} x {size} pixels, {concepts} concepts in {categories}.

index.csv         image,split,ih,iw,sh,sw, then one column for each category. A cell is empty or holds items
                  separated by ';': label numbers (of the whole image) and paths of label maps.
label.csv         number,name,category,frequency,coverage,syns. Numbers fall with frequency, then coverage.
category.csv      name,first,last,count,frequency.
c_<category>.csv  code,number,name,frequency,coverage within that category.
images/           images, and label maps of {map_size} x {map_size} pixels: label = red + 256 * green, 0 = unlabeled.
build.json        what it was built from, and which labels were dropped as too rare.

frequency: images that carry the label. coverage: share of label-map pixels that bear it, summed over images.
In label.csv and category.csv both are summed over categories or labels.
"""


def write_dataset(
    out: str | Path,
    samples: Iterable[Sample],
    options: WriteOptions | None = None,
    *,
    about: Mapping[str, object] | None = None,
    sources: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ShowProgress = None,
) -> Path:
    """Write a data set that `ConceptData.open` reads.

    Parameters
    ----------
    out
        The new folder; it may exist if it is empty.
    samples
        Read one after the other; never held in memory together.
    options
        Sizes, formats, colors. None: 224 pixels as published, without colors.
    about
        Description of the origin, for ``build.json``; JSON values.
    sources
        Specifications of the sources by the first folder of their samples' names; each must have a label.
    files
        Content of further files of the data set, by name.
    overwrite
        Replace a finished data set at `out`. Nothing else is ever replaced.
    workers
        Processes that decode and encode. None or 1: this process. Files are the same, byte for byte, for any number.
        More than one starts fresh interpreters: call from a script under ``if __name__ == "__main__"``.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called for every image and for every image's
        label maps.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    SourceError
        If samples cannot be used (the message names the first ten files and the number of all), or one of several
        sources has no label. Nothing is written.
    ConceptsError
        If `out` must not be replaced, nothing is labeled, or the disk cannot be written.
    """
    out, options = Path(out), options or WriteOptions()
    if options.color_table is not None:
        read_color_table(options.color_table)
    with staging_dir(out, "building", overwrite=overwrite) as folder, shown(progress) as display:
        work = _Work(options, workers, display)
        folders = Folders(folder / "set" / "images", folder / "drafts")
        journal = BuildManifest(folder, folders, _key(options, about or {}))
        _prepare(folders, journal)
        if isinstance(samples, Sequence):
            _announce(samples, folder, options, done=len(journal))
        rendered = _render_all(samples, folders, work, journal)
        _check_all_label(rendered, sources or {})
        _remove_strangers(rendered, folders)
        carried, vocabulary = consolidate(rendered, folders, options)
        _log_dropped(vocabulary, options)
        turned = _log_turned(rendered)
        _renumber_all(carried, folders, vocabulary, work)
        write_tables(carried, folder / "set", vocabulary, options)
        facts = {"images": len(carried), "turned_upright": turned}
        _write_notes(folder / "set", facts, vocabulary, options, about or {})
        for name, content in (files or {}).items():
            (folder / "set" / name).write_text(content, encoding="utf-8")
        publish(folder / "set", out, overwrite=overwrite)
    return out


@dataclass(frozen=True, slots=True)
class _Work:
    options: WriteOptions
    workers: int | None
    progress: Progress | None

    def report_progress(self, stage: str, done: int, total: int | None) -> None:
        if self.progress:
            self.progress(stage, done, total)


def _key(options: WriteOptions, about: Mapping[str, object]) -> str:
    """Return a digest of what affects the files of a sample, without the options that drop and merge labels later."""
    late = {"merge_variants", "min_images", "min_coverage"}
    facts = [version("netdissect"), options.model_dump(mode="json", exclude=late), about]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    if options.color_table is not None:
        digest.update(options.color_table.read_bytes())
    return digest.hexdigest()


def _prepare(folders: Folders, journal: BuildManifest) -> None:
    if not journal.is_ours:
        for folder in (folders.images.parent, folders.drafts):
            shutil.rmtree(folder, ignore_errors=True)
    folders.images.mkdir(parents=True, exist_ok=True)
    folders.drafts.mkdir(exist_ok=True)
    if len(journal):
        logger.info("going on with a build that was interrupted after %d images", len(journal))


def _announce(samples: Sequence[Sample], folder: Path, options: WriteOptions, done: int) -> None:
    """Log the number of images and bytes to write, estimated from a few images that are written for trial.

    Raises
    ------
    ConceptsError
        If the disk does not have enough space.
    """
    if not samples:
        return
    trial = Folders(folder / "trial" / "images", folder / "trial" / "drafts")
    tries = min(TRIALS, 1 + len(samples) // 25)
    drawn = [samples[(2 * n + 1) * len(samples) // (2 * tries)] for n in range(tries)]
    written = sum(
        isinstance(render(sample, Folders(trial.images / str(n), trial.drafts / str(n)), options), Rendered)
        for n, sample in enumerate(drawn)
    )
    images, maps = (sum(p.stat().st_size for p in f.rglob("*") if p.is_file()) for f in (trial.images, trial.drafts))
    shutil.rmtree(folder / "trial", ignore_errors=True)
    if not written:
        return  # the errors of samples are listed when all of them are read
    final = (images + maps) * len(samples) // written
    free = shutil.disk_usage(folder).free
    logger.info(
        "writing %d images of %d x %d pixels with their label maps, about %s (%s are free)",
        len(samples), options.size, options.size, size_text(final), size_text(free),
    )  # fmt: skip
    needed = (images + 2 * maps) * (len(samples) - done) // written
    if needed > free:
        raise ConceptsError(
            f"{folder.parent} has {size_text(free)} free, but {counted(len(samples), 'images')} take about "
            f"{size_text(needed)} while they are written. Make room or choose another disk."
        )


def _check_all_label(rendered: Iterable[Rendered], sources: Mapping[str, str]) -> None:
    """Raise an error if one of several sources has no label."""
    labeling = {one.source for one in rendered if any(one.pixels.values())}
    empty = [text for folder, text in sources.items() if folder not in labeling]
    if empty and labeling:
        raise SourceError(
            f"the source {empty[0]} labels no pixel and no image, so no data set was written. Expected at least one "
            "label of each source; check its names, classes and masks, or leave it out."
        )


def _remove_strangers(rendered: Iterable[Rendered], folders: Folders) -> None:
    """Remove images that an interrupted build wrote for samples that the sources no longer have."""
    ours = {folders.images / one.image for one in rendered}
    for path in list(folders.images.rglob("*")):
        if path.is_file() and path not in ours:
            path.unlink()


def _log_dropped(vocabulary: Vocabulary, options: WriteOptions) -> None:
    if vocabulary.dropped:
        logger.info(
            "dropped %d of %d labels: fewer than %d images or a coverage below %g; build.json lists them",
            len(vocabulary.dropped), len(vocabulary.dropped) + len(vocabulary.entries),
            options.min_images, options.min_coverage,
        )  # fmt: skip


def _log_turned(rendered: Iterable[Rendered]) -> int:
    turned = sum(one.turned for one in rendered)
    if turned:
        logger.info(
            "turned %d images upright as EXIF says; masks stored without a turn were turned with their images",
            turned,
        )
    return turned


def _render_all(samples: Iterable[Sample], folders: Folders, work: _Work, journal: BuildManifest) -> list[Rendered]:
    total = len(samples) if isinstance(samples, Sequence) else None
    rendered: list[Rendered] = []
    problems: list[str] = []
    owners: dict[str, Rendered] = {}
    task = partial(render, folders=folders, options=work.options)
    with journal:
        waiting: deque[str | None] = deque()
        results = map_in_order(task, _unfinished(samples, journal, waiting), work.workers)
        for done, one in enumerate(results, start=1):
            stamp = waiting.popleft()
            if isinstance(one, Rendered):
                rendered.append(one)
                problems.extend(_collisions(one, owners))
                if stamp is not None:
                    journal.add(stamp, one)
            else:
                problems.extend(one)
            work.report_progress("images", done, total)
    if problems:
        raise SourceError(_describe(problems))
    if not rendered:
        raise SourceError(
            "the sources hold no image. Expected at least one labeled image; check the folders that were named."
        )
    return rendered


def _unfinished(
    samples: Iterable[Sample], journal: BuildManifest, waiting: deque[str | None]
) -> Iterator[Sample | Rendered]:
    """Yield each sample or its earlier record; append its stamp to `waiting`, or None if the record is reused."""
    stamper = InputHasher()
    for sample in samples:
        stamp = stamper.stamp(sample)
        finished = journal.find(stamp)
        waiting.append(None if finished else stamp)
        yield finished or sample


def _collisions(one: Rendered, owners: dict[str, Rendered]) -> list[str]:
    """Return a message for each file of `one` that another sample has written, too."""
    problems = []
    for path in one.files:
        owner = owners.setdefault(path.casefold(), one)  # on some disks a name in other case is the same file
        if owner is not one:
            both = f"{one.image} and {owner.image}"
            if one.image == owner.image:
                both = "two images whose names differ only in their ending or in capital letters"
            problems.append(f"{both} would both be written as {path}; rename one of them.")
    return problems


def _describe(problems: Sequence[str]) -> str:
    listing = "".join(f"\n  - {problem}" for problem in problems[:PROBLEMS_SHOWN])
    more = len(problems) - PROBLEMS_SHOWN
    return (
        f"{len(problems)} labeled images or masks cannot be used, so no data set was written. "
        f"Mend or remove them and run again:{listing}" + (f"\n  ... and {more} more." if more > 0 else "")
    )


def _renumber_all(rendered: Sequence[Rendered], folders: Folders, vocabulary: Vocabulary, work: _Work) -> None:
    numbers = {**vocabulary.label_ids(), "": 0}
    maps = (tuple((m.path, tuple(numbers[name] for name in m.names)) for m in one.maps) for one in rendered)
    task = partial(renumber, folders=folders, map_size=work.options.map_size)
    for done, _ in enumerate(map_in_order(task, maps, work.workers), start=1):
        work.report_progress("label maps", done, len(rendered))


def _write_notes(
    folder: Path, counts: Mapping[str, int], vocabulary: Vocabulary, options: WriteOptions, about: Mapping[str, object]
) -> None:
    facts = {
        "layout": "broden",
        "netdissect": version("netdissect"),
        **counts,
        "concepts": len(vocabulary.entries),
        "categories": list(vocabulary.categories),
        "map_size": options.map_size,
        "options": options.model_dump(mode="json"),
        "about": about,
        "dropped": [_dropped_facts(entry, options) for entry in vocabulary.dropped],
    }
    (folder / "build.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = README.format(
        version=facts["netdissect"],
        images=counts["images"],
        size=options.size,
        map_size=options.map_size,
        concepts=len(vocabulary.entries),
        categories=", ".join(vocabulary.categories),
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")


def _dropped_facts(entry: VocabularyEntry, options: WriteOptions) -> dict[str, object]:
    total, coverage = entry.total, entry.total.pixels / options.map_size**2
    few = [f"fewer than {counted(options.min_images, 'images')}"] if total.images < options.min_images else []
    small = [f"a coverage below {options.min_coverage:g}"] if coverage < options.min_coverage else []
    return {
        "name": entry.name,
        "categories": sorted(entry.counts),
        "frequency": total.images,
        "coverage": round(coverage, 9),
        "why": " and ".join((*few, *small)),
    }
