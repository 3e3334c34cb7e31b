"""One file a source: labeled pictures in the layout of their authors, as an iterator of samples.

    parse_source("masks:photos=part") -> SourceWords -> Source -> samples(prefix) -> build_dataset

To add one: a class with `name`, `text` and `samples` (see `Source`) in a file of its own, and its word in `KINDS`.
"""

from collections.abc import Callable

from netdissect.concepts.sources.ade20k import Ade20kSource
from netdissect.concepts.sources.cityscapes import CityscapesSource
from netdissect.concepts.sources.coco import CocoSource
from netdissect.concepts.sources.dtd import DtdSource
from netdissect.concepts.sources.folders import FolderSource
from netdissect.concepts.sources.huggingface import HuggingFaceSource
from netdissect.concepts.sources.labels import LabelSource
from netdissect.concepts.sources.masks import MaskSource
from netdissect.concepts.sources.opensurfaces import OpenSurfacesSource
from netdissect.concepts.sources.pascal import PascalSource
from netdissect.concepts.sources.polygons import PolygonSource
from netdissect.concepts.sources.source import Source
from netdissect.concepts.sources.words import SourceWords
from netdissect.errors import SourceError

KINDS: dict[str, Callable[[SourceWords], Source]] = {
    "masks": MaskSource.parse,
    "folders": FolderSource.parse,
    "labels": LabelSource.parse,
    "ade20k": Ade20kSource.parse,
    "pascal": PascalSource.parse,
    "polygons": PolygonSource.parse,
    "opensurfaces": OpenSurfacesSource.parse,
    "dtd": DtdSource.parse,
    "coco": CocoSource.parse,
    "cityscapes": CityscapesSource.parse,
    "hf": HuggingFaceSource.parse,
}

__all__ = [
    "KINDS",
    "Ade20kSource",
    "CityscapesSource",
    "CocoSource",
    "DtdSource",
    "FolderSource",
    "HuggingFaceSource",
    "LabelSource",
    "MaskSource",
    "OpenSurfacesSource",
    "PascalSource",
    "PolygonSource",
    "Source",
    "SourceWords",
    "parse_source",
]


def parse_source(text: str) -> Source:
    """Read the words that name a source: ``KIND:DIR[=CATEGORY][?OPTION=VALUE&OPTION=VALUE]``.

    Raises
    ------
    SourceError
        If the kind is unknown, the folder is not named, or a category or an option is missing, unknown or misspelled.

    Examples
    --------
    >>> parse_source("masks:photos=part")
    MaskSource(folder=PosixPath('photos'), category='part')
    """
    words = SourceWords.read(text)
    if words.kind not in KINDS:
        raise SourceError(
            f"the source {text!r} cannot be read: the kind {words.kind!r} is unknown. Expected KIND:DIR or "
            f"KIND:DIR=CATEGORY where KIND is {' or '.join(KINDS)}, e.g. masks:photos=object or "
            "folders:textures=texture; 'netdissect concepts build --help' says which of them reads what."
        )
    return KINDS[words.kind](words)
