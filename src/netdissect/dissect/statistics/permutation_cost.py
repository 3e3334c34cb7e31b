"""What a permutation test costs, from the number of runs of mask pixels: expected before a run, counted after."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from netdissect.concepts import ConceptData, Size
from netdissect.config import DissectConfig
from netdissect.counted import counted
from netdissect.dissect.cost_plan import LayerPlan, cells_of

NANOSECONDS_PER_RUN, NANOSECONDS_PER_MAP = 6, 1000  # of one permutation, as measured on real images
NANOSECONDS_PER_COUNT, NANOSECONDS_PER_STEP = 5, 1_000_000  # of one permutation; of one image
COUNT_BYTES, MEGABYTE = 4, 2**20
# --permutations auto: as many as take a fifth of the time of a small network, 20 ms an image.
NANOSECONDS_PER_IMAGE = 4_000_000
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 100, 1000


class PermutationCost(NamedTuple):
    """What the cost of a permutation test depends on.

    Attributes
    ----------
    runs
        Runs of pixels of all masks of all layers.
    masks
        Number of masks of each layer on each image: units at each quantile.
    label_ids
        Number of label ids.
    images
        Number of images.
    """

    runs: int
    masks: tuple[int, ...]
    label_ids: int
    images: int

    @classmethod
    def expected(cls, layers: Sequence[LayerPlan], data: ConceptData, config: DissectConfig) -> Self:
        """Return the cost before masks are known: on average they hold a share of the pixels, the quantile.

        A run is taken to be as long as two cells of the layer are wide, as on real images. The share is smaller
        where fewer units of a sparse layer are active.
        """
        side, runs, quantiles = config.protocol.segmentation_size, 0.0, config.protocol.quantiles
        sizes = [row.size if side is None else Size(side, side) for row in data.rows]
        for plan in layers:
            in_row = cells_of(plan.layer).width / 2
            places = plan.layer.units * sum(size.height * min(in_row, size.width) for size in sizes)
            runs += places * sum(map(plan.mask_share, quantiles))
        masks = tuple(plan.layer.units * len(quantiles) for plan in layers)
        label_ids = 1 + max((concept.label_id for concept in data.concepts), default=0)
        return cls(round(runs), masks, label_ids, len(sizes))

    @property
    def nanoseconds(self) -> int:
        """Computing time of one permutation, without what a step takes."""
        of_counts = NANOSECONDS_PER_COUNT * sum(self.masks) * self.label_ids
        return NANOSECONDS_PER_RUN * self.runs + NANOSECONDS_PER_MAP * len(self.masks) * self.images + of_counts

    @property
    def auto_permutations(self) -> int:
        """Number of permutations that takes a fifth of the time of a small network."""
        return min(max(NANOSECONDS_PER_IMAGE * self.images // self.nanoseconds, MIN_PERMUTATIONS), MAX_PERMUTATIONS)

    def masks_at_once(self, permutations: int, memory_bytes: int) -> int:
        """Return of how many masks of one layer the counts in all permutations fit into memory."""
        return max(1, memory_bytes // (COUNT_BYTES * self.label_ids * permutations))

    def steps(self, permutations: int, memory_bytes: int) -> int:
        """Return the number of steps, each of which counts all images: one, or some for each layer."""
        at_once = self.masks_at_once(permutations, memory_bytes)
        return 1 if sum(self.masks) <= at_once else sum(-(-masks // at_once) for masks in self.masks)

    def text(self, permutations: int, memory_bytes: int) -> str:
        """Return how long so many permutations take."""
        of_steps = NANOSECONDS_PER_STEP * self.images * self.steps(permutations, memory_bytes)
        seconds = 1e-9 * (permutations * self.nanoseconds + of_steps)
        return f"{counted(permutations, 'permutations')}, about {seconds:.0f} s of computing"
