"""What a permutation test costs, from the number of runs of mask pixels: expected before a run, counted after."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from netdissect.concepts import ConceptData, Size
from netdissect.config import DissectConfig
from netdissect.counted import counted
from netdissect.dissect.cost_plan import LayerPlan, cells_of

NANOSECONDS_PER_RUN, NANOSECONDS_PER_MAP = 6, 1000  # of one permutation, as measured on real images
# --permutations auto: as many as take a fifth of the time of a small network, 20 ms an image.
NANOSECONDS_PER_IMAGE = 4_000_000
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 100, 1000


class PermutationCost(NamedTuple):
    """What the cost of a permutation test depends on.

    Attributes
    ----------
    runs
        Runs of pixels of all masks of all layers.
    layers
        Number of layers.
    images
        Number of images.
    """

    runs: int
    layers: int
    images: int

    @classmethod
    def expected(cls, layers: Sequence[LayerPlan], data: ConceptData, config: DissectConfig) -> Self:
        """Return the cost before masks are known: on average they hold a share of the pixels, the quantile.

        A run is taken to be as long as two cells of the layer are wide, as on real images. The share is smaller
        where fewer units of a sparse layer are active.
        """
        side, runs = config.protocol.segmentation_size, 0.0
        sizes = [row.size if side is None else Size(side, side) for row in data.rows]
        for plan in layers:
            in_row = cells_of(plan.layer).width / 2
            places = plan.layer.units * sum(size.height * min(in_row, size.width) for size in sizes)
            runs += places * sum(map(plan.mask_share, config.protocol.quantiles))
        return cls(round(runs), len(layers), len(sizes))

    @property
    def nanoseconds(self) -> int:
        """Computing time of one permutation."""
        return NANOSECONDS_PER_RUN * self.runs + NANOSECONDS_PER_MAP * self.layers * self.images

    @property
    def auto_permutations(self) -> int:
        """Number of permutations that takes a fifth of the time of a small network."""
        return min(max(NANOSECONDS_PER_IMAGE * self.images // self.nanoseconds, MIN_PERMUTATIONS), MAX_PERMUTATIONS)

    def text(self, permutations: int) -> str:
        """Return how long so many permutations take."""
        seconds = 1e-9 * permutations * self.nanoseconds
        return f"{counted(permutations, 'permutations')}, about {seconds:.0f} s of computing"
