"""Build one data set from several sources: the common code behind ``netdissect concepts build``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.build.writer import check_target, write_dataset
from netdissect.concepts.sources import ConceptSource
from netdissect.config import one_or_more
from netdissect.errors import SourceError
from netdissect.progress import ShowProgress


def build_dataset(
    out: str | Path,
    sources: Sequence[ConceptSource],
    options: WriteOptions | None = None,
    *,
    files: Mapping[str, str] | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ShowProgress = None,
) -> Path:
    """Write the images of all `sources` as one data set.

    Parameters
    ----------
    sources
        In the order of their images in ``index.csv``; `parse_source` makes a source of its specification.
    options
        Sizes, resizing, colors, and which labels are merged and dropped. None: 224 pixels as published, without
        colors, and no label is dropped.
    files, overwrite, workers, progress
        See `write_dataset`.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    SourceError
        If a source's layout or any of its files cannot be used, or one of several sources has no label.
    ConceptsError
        If `out` must not be replaced, nothing is labeled, or the disk cannot be written.

    Notes
    -----
    Names are unified over all sources (`assign_names`); a name in two categories keeps both. The images of a source are
    in a folder of its name; a second source of that name gets ``-2``. An interrupted build resumes when it is called
    again with the same sources and options. The number of images and bytes to write and the number of dropped labels
    are logged to ``netdissect.concepts``.
    """
    check_target(Path(out), overwrite=overwrite)
    sources = one_or_more(sources)
    for source in sources:
        if isinstance(source, str):
            raise SourceError(
                f"{source!r} is a string. Expected a source: sources=[netdissect.parse_source({source!r})]."
            )
    if not sources:
        raise SourceError(
            "there is no source to build from. Expected at least one, e.g. masks:DIR or folders:DIR=scene."
        )
    options = options or WriteOptions()
    samples: list[Sample] = []
    counts: dict[str, int] = {}
    for prefix, source in zip(prefixes([source.name for source in sources]), sources, strict=True):
        before = len(samples)
        samples.extend(source.samples(prefix))
        if len(samples) == before:
            raise SourceError(f"the source {source.text} holds no image. Expected at least one; correct the folder.")
        counts[prefix] = len(samples) - before
    descriptions = [
        {"source": source.text, "folder": prefix, "images": images}
        for source, (prefix, images) in zip(sources, counts.items(), strict=True)
    ]
    texts = {prefix: source.text for source, prefix in zip(sources, counts, strict=True)}
    return write_dataset(
        out,
        samples,
        options,
        about={"sources": descriptions},
        sources=texts,
        files=files,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )


def prefixes(names: Sequence[str]) -> list[str]:
    """Make folder names of source names, with ``-2`` for the second of a name."""
    used: set[str] = set()
    folders = []
    for name in names:
        prefix, number = name, 1
        while prefix.casefold() in used:
            number += 1
            prefix = f"{name}-{number}"
        used.add(prefix.casefold())
        folders.append(prefix)
    return folders
