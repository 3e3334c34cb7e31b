"""Clusters of cells as units: each cell activates the one unit whose center is nearest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

LEAST = 1e-6
"""Activation of a cell that is as far from its center as the farthest one of the sample, or farther."""


@dataclass(frozen=True, eq=False)
class KMeansBasis:
    """Units that are active on the cells of one cluster each, the more the nearer a cell is to its center.

    Attributes
    ----------
    source
        Name of the layer.
    centers : float32 (K, U)
        Of the clusters.
    radii : float32 (K,)
        Distance of the farthest cell of the sample in each cluster.

    Notes
    -----
    A unit is graded by minus the distance to its center, plus the radius, so that it is above zero inside its cluster
    and zero, the value of a dead unit, outside. The radius is the same for all cells: it does not change which of them
    exceed a threshold.
    """

    kind: ClassVar[str] = "kmeans"
    sparse: ClassVar[bool] = False
    most_active: ClassVar[int | None] = None

    source: str
    centers: Tensor
    radii: Tensor

    @classmethod
    def from_state(cls, source: str, state: Mapping[str, Tensor]) -> Self:
        """Make a basis of the tensors of `state`."""
        return cls(source, state["centers"], state["radii"])

    @property
    def inputs(self) -> int:
        """Units of the layer."""
        return self.centers.shape[1]

    @property
    def units(self) -> int:
        """Number of clusters."""
        return len(self.centers)

    def state(self) -> dict[str, Tensor]:
        """Return centers and radii."""
        return {"centers": self.centers, "radii": self.radii}

    def encode(self, cells: Tensor) -> Tensor:
        """Return radius less distance in the column of the nearest center and zero in all others, float32 (N, K)."""
        centers, radii = self.centers.to(cells.device), self.radii.to(cells.device)
        nearest, distances = nearest_centers(cells, centers)
        codes = cells.new_zeros(len(cells), len(centers))
        return codes.scatter_(1, nearest[:, None], (radii[nearest] - distances).clamp_min(LEAST)[:, None])

    def decode(self, codes: Tensor) -> Tensor:
        """Return the center of each cell's cluster, float32 (N, U); 0 where the unit of none is active."""
        highest, cluster = codes.max(dim=1, keepdim=True)
        return self.centers.to(codes.device)[cluster[:, 0]].where(highest > 0, 0)


def nearest_centers(cells: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest center of each cell, int64 (N,), and its distance, float32 (N,)."""
    closeness = cells @ centers.T - centers.square().sum(dim=1) / 2
    nearest = closeness.argmax(dim=1)
    # Not by way of products, which cancel where a cell is near its center.
    return nearest, (cells - centers[nearest]).norm(dim=1)
