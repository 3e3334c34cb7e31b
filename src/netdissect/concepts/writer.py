"""Write samples in the published Broden layout.

    samples -> render (workers) -> Census -> Vocabulary -> renumber (workers) -> tables -> rename into place

Pictures are decoded once. Label maps are first written with numbers of their own picture and numbered when
all names are known, because numbers fall with frequency. Everything happens in a hidden folder beside the
target, which gets its name only when it is whole.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from netdissect.concepts.colors import read_color_table
from netdissect.concepts.render import Rendered, WriteOptions, render, renumber
from netdissect.concepts.sample import Sample
from netdissect.concepts.tables import write_tables
from netdissect.concepts.unify import Census, Vocabulary
from netdissect.concepts.workers import map_in_order
from netdissect.config import Progress
from netdissect.errors import ConceptsError, SourceError

__all__ = ["Progress", "WriteOptions", "check_target", "write_dataset"]

PROBLEMS_TOLD = 10

README = """\
A concept data set in Broden's layout, written by netdissect {version}.

{images} pictures of {size} x {size} pixels, {concepts} concepts in {categories}.

index.csv         image,split,ih,iw,sh,sw, then one column for each category. A cell is empty or holds items
                  separated by ';': label numbers (of the whole picture) and paths of label maps.
label.csv         number,name,category,frequency,coverage,syns. Numbers fall with frequency, then coverage.
category.csv      name,first,last,count,frequency.
c_<category>.csv  code,number,name,frequency,coverage within that category.
images/           pictures, and label maps of {map_size} x {map_size} pixels: label = red + 256 * green, 0 = unlabeled.
build.json        what it was built from.

frequency: pictures that carry the label. coverage: share of label-map pixels that bear it, summed over pictures.
In label.csv and category.csv both are summed over categories or labels.
"""


def write_dataset(
    out: str | Path,
    samples: Iterable[Sample],
    options: WriteOptions | None = None,
    *,
    about: Mapping[str, object] | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a data set that `ConceptData.open` reads.

    Parameters
    ----------
    out
        The new folder. An empty folder may stand there.
    samples
        Read one after the other; never held in memory together.
    options
        Sizes, formats, colors. None: as published at 224 pixels, without colors.
    about
        What the data set was made from, for ``build.json``; must fit into JSON.
    overwrite
        Replace a finished data set at `out`. Nothing else is ever replaced.
    workers
        Processes that decode and encode. None or 1: this process. Files are the same, byte for byte, for any number.
        More than one starts fresh interpreters: call from a script under ``if __name__ == "__main__"``.
    progress
        Told of every picture and of every set of label maps.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    SourceError
        If any sample cannot be used; names the first ten files and how many there are. Nothing is left behind.
    ConceptsError
        If `out` is in the way, nothing is labeled, or the disk cannot be written.
    """
    out, options = Path(out), options or WriteOptions()
    if options.color_table is not None:
        read_color_table(options.color_table)
    check_target(out, overwrite=overwrite)
    with _staging(out, overwrite=overwrite) as folder:
        (folder / "images").mkdir()
        rendered = _render_all(samples, folder, options, workers, progress)
        census = Census()
        for one in rendered:
            census.add(one.pixels)
        vocabulary = Vocabulary.number(census)
        _renumber_all(rendered, folder, vocabulary, options, workers, progress)
        write_tables(rendered, folder, vocabulary, options)
        _write_notes(folder, len(rendered), vocabulary, options, about or {})
    return out


def check_target(out: Path, *, overwrite: bool) -> None:
    """Make sure that a data set may be written at `out`.

    Raises
    ------
    ConceptsError
        If something stands there that must not be replaced.
    """
    if not (out.exists() or out.is_symlink()):
        return
    if not out.is_dir() or out.is_symlink():
        raise ConceptsError(f"{out} is in the way: it is no folder. Expected a free name; choose another.")
    finished = (out / "index.csv").is_file() and (out / "category.csv").is_file()
    if finished and not overwrite:
        raise ConceptsError(
            f"{out} already holds a finished data set. Expected a free name; choose another, or say that it may "
            "be replaced (--overwrite, overwrite=True)."
        )
    if not finished and any(out.iterdir()):
        raise ConceptsError(
            f"{out} is not empty and holds no finished data set, so it is never replaced. Expected a free name; "
            "choose another or clear the folder yourself."
        )


@contextmanager
def _staging(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder beside `out`; rename it when the block succeeds, remove it when it fails."""
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a symbolic link to another disk
    folder = out.with_name(f".{out.name}.building-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder.mkdir()
        try:
            yield folder
            _move_into_place(folder, out, overwrite=overwrite)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ConceptsError(
            f"writing the data set {out} failed: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else "")
            + ". Nothing was left behind; make room or choose a folder that can be written, and run again."
        ) from error


def _move_into_place(folder: Path, out: Path, *, overwrite: bool) -> None:
    check_target(out, overwrite=overwrite)  # another build may have finished since
    if out.exists():
        old = folder.with_name(f"{folder.name}-replaced")
        out.rename(old)
        try:
            folder.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        folder.rename(out)


def _remove_leftovers(out: Path) -> None:
    """Remove hidden folders of builds of `out` that were killed."""
    if sys.platform == "win32":
        return  # os.kill(pid, 0) would not ask there, but kill
    prefix = f".{out.name}.building-"
    for folder in out.parent.glob(f"{prefix}*"):
        owner = folder.name.removeprefix(prefix)
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # our own folder does not exist yet: a namesake in another container left it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _render_all(
    samples: Iterable[Sample], folder: Path, options: WriteOptions, workers: int | None, progress: Progress | None
) -> list[Rendered]:
    total = len(samples) if isinstance(samples, Sequence) else None
    work = partial(render, images=folder / "images", options=options)
    rendered: list[Rendered] = []
    problems: list[str] = []
    owners: dict[str, Rendered] = {}
    for done, one in enumerate(map_in_order(work, samples, workers), start=1):
        if isinstance(one, Rendered):
            rendered.append(one)
            problems.extend(_collisions(one, owners))
        else:
            problems.extend(one)
        if progress:
            progress("pictures", done, total)
    if problems:
        raise SourceError(_tell(problems))
    if not rendered:
        raise SourceError(
            "the sources hold no picture. Expected at least one labeled picture; check the folders that were named."
        )
    return rendered


def _collisions(one: Rendered, owners: dict[str, Rendered]) -> list[str]:
    """Say which files of `one` another sample has written, too."""
    problems = []
    for path in one.files:
        owner = owners.setdefault(path.casefold(), one)  # on some disks a name in other case is the same file
        if owner is not one:
            problems.append(f"{one.image} and {owner.image} would both be written as {path}; rename one of them.")
    return problems


def _tell(problems: Sequence[str]) -> str:
    told = "".join(f"\n  - {problem}" for problem in problems[:PROBLEMS_TOLD])
    more = len(problems) - PROBLEMS_TOLD
    return (
        f"{len(problems)} labeled pictures or masks cannot be used, so no data set was written. "
        f"Mend or remove them and run again:{told}" + (f"\n  ... and {more} more." if more > 0 else "")
    )


def _renumber_all(
    rendered: Sequence[Rendered],
    folder: Path,
    vocabulary: Vocabulary,
    options: WriteOptions,
    workers: int | None,
    progress: Progress | None,
) -> None:
    numbers = vocabulary.numbers()
    maps = (tuple((m.path, tuple(numbers[name] for name in m.names)) for m in one.maps) for one in rendered)
    work = partial(renumber, images=folder / "images", map_size=options.map_size)
    for done, _ in enumerate(map_in_order(work, maps, workers), start=1):
        if progress:
            progress("label maps", done, len(rendered))


def _write_notes(
    folder: Path, images: int, vocabulary: Vocabulary, options: WriteOptions, about: Mapping[str, object]
) -> None:
    facts = {
        "layout": "broden",
        "netdissect": version("netdissect"),
        "images": images,
        "concepts": len(vocabulary.entries),
        "categories": list(vocabulary.categories),
        "map_size": options.map_size,
        "options": options.model_dump(mode="json"),
        "about": about,
    }
    (folder / "build.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = README.format(
        version=facts["netdissect"],
        images=images,
        size=options.size,
        map_size=options.map_size,
        concepts=len(vocabulary.entries),
        categories=", ".join(vocabulary.categories),
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")
