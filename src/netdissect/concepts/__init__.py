"""What a pixel means: concepts, the data sets that carry them, and their builders."""

from netdissect.concepts.dataset import ConceptData
from netdissect.concepts.types import Concept, Labels, Size

__all__ = ["Concept", "ConceptData", "Labels", "Size"]
