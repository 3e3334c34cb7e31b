"""One file a source: labeled images in the layout of their authors, as an iterator of samples.

    parse_source("masks:photos=part") -> SourceWords -> Source -> samples(prefix) -> build_dataset

To add one: a class with `name`, `text` and `samples` (see `ConceptSource`) in a file of its own, and its word in
`KINDS`.
"""

from collections.abc import Callable

from netdissect.concepts.sources.annotation_tools.polygon_files import PolygonSource
from netdissect.concepts.sources.csv_labels import LabelSource
from netdissect.concepts.sources.datasets.ade20k import Ade20kSource
from netdissect.concepts.sources.datasets.cityscapes import CityscapesSource
from netdissect.concepts.sources.datasets.coco import CocoSource
from netdissect.concepts.sources.datasets.dtd import DtdSource
from netdissect.concepts.sources.datasets.huggingface import HuggingFaceSource
from netdissect.concepts.sources.datasets.opensurfaces import OpenSurfacesSource
from netdissect.concepts.sources.datasets.pascal import PascalSource
from netdissect.concepts.sources.image_folder import FolderSource
from netdissect.concepts.sources.mask_folder import MaskSource
from netdissect.concepts.sources.source import ConceptSource
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

KINDS: dict[str, Callable[[SourceSpec], ConceptSource]] = {
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
    "ConceptSource",
    "DtdSource",
    "FolderSource",
    "HuggingFaceSource",
    "LabelSource",
    "MaskSource",
    "OpenSurfacesSource",
    "PascalSource",
    "PolygonSource",
    "SourceSpec",
    "parse_source",
]


def parse_source(text: str) -> ConceptSource:
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
    spec = SourceSpec.read(text)
    if spec.type not in KINDS:
        raise SourceError(
            f"the source {text!r} cannot be read: the kind {spec.type!r} is unknown. Expected KIND:DIR or "
            f"KIND:DIR=CATEGORY where KIND is {' or '.join(KINDS)}, e.g. masks:photos=object or "
            "folders:textures=texture; 'netdissect concepts build --help' says which of them reads what."
        )
    return KINDS[spec.type](spec)
