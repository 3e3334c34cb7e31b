"""One file a source: labeled pictures in the layout of their authors, as an iterator of samples.

    parse_source("masks:photos=part") -> Source -> samples(prefix) -> build_dataset

To add one: a class with `name`, `text` and `samples` (see `Source`) in a file of its own, and its word in `KINDS`.
"""

from collections.abc import Callable
from pathlib import Path

from netdissect.concepts.render import CATEGORY_SPELLING
from netdissect.concepts.sources.folders import FolderSource
from netdissect.concepts.sources.masks import MaskSource
from netdissect.concepts.sources.source import Source
from netdissect.errors import SourceError

KINDS: dict[str, Callable[[Path, str | None], Source]] = {
    "masks": MaskSource.parse,
    "folders": FolderSource.parse,
}

__all__ = ["KINDS", "FolderSource", "MaskSource", "Source", "parse_source"]


def parse_source(text: str) -> Source:
    """Read the words that name a source: ``KIND:DIR`` or ``KIND:DIR=CATEGORY``.

    Raises
    ------
    SourceError
        If the kind is unknown, the folder is not named, or a category is missing or misspelled.

    Examples
    --------
    >>> parse_source("masks:photos=part")
    MaskSource(folder=PosixPath('photos'), category='part')
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        seen = f"the kind {kind!r} is unknown" if colon else "it names no kind"
        raise SourceError(
            f"the source {text!r} cannot be read: {seen}. Expected KIND:DIR or KIND:DIR=CATEGORY where KIND is "
            f"{' or '.join(KINDS)}, e.g. masks:photos=object or folders:textures=texture."
        )
    folder, equals, category = rest.rpartition("=")
    if not equals or "/" in category or "\\" in category:  # an equals sign inside the path
        folder, category = rest, ""
    elif not CATEGORY_SPELLING.fullmatch(category):
        raise SourceError(
            f"the source {text!r} names the category {category!r}. Expected lower-case letters, digits and "
            "underscores, e.g. object, part, material, scene or texture."
        )
    if not folder:
        raise SourceError(f"the source {text!r} names no folder. Expected {kind}:DIR or {kind}:DIR=CATEGORY.")
    return KINDS[kind](Path(folder), category or None)
