from .dataset import ConceptData as ConceptData
from .labels import Concept as Concept
from .labels import Labels as Labels
from .labels import Size as Size
from .transfer.subset_merge import Selection as Selection
from .transfer.subset_merge import merge as merge
from .transfer.subset_merge import subset as subset
