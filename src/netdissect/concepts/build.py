"""Build one data set from several sources: the common code behind ``netdissect concepts build``."""

from collections.abc import Sequence
from pathlib import Path

from netdissect.concepts.render import WriteOptions
from netdissect.concepts.sample import Sample
from netdissect.concepts.sources import Source
from netdissect.concepts.writer import check_target, write_dataset
from netdissect.config import Progress
from netdissect.errors import SourceError


def build_dataset(
    out: str | Path,
    sources: Sequence[Source],
    *,
    size: int = 224,
    colors: bool = False,
    color_table: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the pictures of all `sources` as one data set.

    Parameters
    ----------
    sources
        In the order in which their pictures stand in ``index.csv``; `parse_source` makes them of words.
    size, colors, color_table
        See `WriteOptions`.
    overwrite, workers, progress
        See `write_dataset`.

    Returns
    -------
    Path
        The folder of the data set.

    Raises
    ------
    SourceError
        If a source's layout or any of its files cannot be used.
    ConceptsError
        If `out` is in the way, nothing is labeled, or the disk cannot be written.

    Notes
    -----
    Concepts of the same normalized name (`normalize_name`) are one, whatever their source; a name in two
    categories keeps both. A source's pictures lie in a folder of its name; a second source of that name gets ``-2``.
    """
    options = WriteOptions(size=size, colors=colors, color_table=color_table)
    check_target(Path(out), overwrite=overwrite)
    if not sources:
        raise SourceError(
            "there is no source to build from. Expected at least one, e.g. masks:DIR or folders:DIR=scene."
        )
    samples: list[Sample] = []
    counts: dict[str, int] = {}
    for prefix, source in zip(_prefixes(sources), sources, strict=True):
        before = len(samples)
        samples.extend(source.samples(prefix))
        if len(samples) == before:
            raise SourceError(f"the source {source.text} holds no picture. Expected at least one; correct the folder.")
        counts[prefix] = len(samples) - before
    told = [
        {"source": source.text, "folder": prefix, "images": images}
        for source, (prefix, images) in zip(sources, counts.items(), strict=True)
    ]
    return write_dataset(
        out, samples, options, about={"sources": told}, overwrite=overwrite, workers=workers, progress=progress
    )


def _prefixes(sources: Sequence[Source]) -> list[str]:
    taken: set[str] = set()
    prefixes = []
    for source in sources:
        prefix, number = source.name, 1
        while prefix.casefold() in taken:
            number += 1
            prefix = f"{source.name}-{number}"
        taken.add(prefix.casefold())
        prefixes.append(prefix)
    return prefixes
