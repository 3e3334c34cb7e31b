from .combine import Selection as Selection
from .combine import merge as merge
from .combine import subset as subset
from .dataset import ConceptData as ConceptData
from .types import Concept as Concept
from .types import Labels as Labels
from .types import Size as Size
