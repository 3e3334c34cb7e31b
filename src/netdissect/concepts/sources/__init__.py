"""Sources of labeled images: one file for each layout, which yields samples.

    parse_source("masks:photos=part") -> spec.py (SourceSpec) -> ConceptSource -> samples(prefix) -> build_dataset

Generic layouts are in this folder, published data sets in `datasets/`, annotation programs in `annotation_tools/`. To
add a source, write a class with `name`, `text` and `samples` (see `ConceptSource`) in a file of its own, and add its
type to `SOURCE_TYPES`.
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

SOURCE_TYPES: dict[str, Callable[[SourceSpec], ConceptSource]] = {
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
    "SOURCE_TYPES",
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
    """Parse the specification of a source: ``TYPE:DIR[=CATEGORY][?OPTION=VALUE&OPTION=VALUE]``.

    Raises
    ------
    SourceError
        If the type is unknown, the folder is missing, or a category or an option is missing, unknown or misspelled.

    Examples
    --------
    >>> parse_source("masks:photos=part")
    MaskSource(folder=PosixPath('photos'), category='part')
    """
    spec = SourceSpec.read(text)
    if spec.type not in SOURCE_TYPES:
        raise SourceError(
            f"the source {text!r} cannot be read: the type {spec.type!r} is unknown. Expected TYPE:DIR or "
            f"TYPE:DIR=CATEGORY where TYPE is {' or '.join(SOURCE_TYPES)}, e.g. masks:photos=object or "
            "folders:textures=texture; 'netdissect concepts build --help' describes them."
        )
    return SOURCE_TYPES[spec.type](spec)
