"""Non-negative matrix factorization: a cell as a sum of parts with non-negative weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

STEPS = 200
"""Of the accelerated projected gradient: the squared error is then within 0.1 % of the least one (see its test)."""


@dataclass(frozen=True, eq=False)
class NmfBasis:
    """Weights of non-negative parts: the non-negative codes h with the least ``|x - h parts|``.

    Attributes
    ----------
    source
        Name of the layer.
    parts : float32 (K, U)
        Rows of length 1, never negative: a weight has the unit of an activation.

    Notes
    -----
    The codes of one cell are a non-negative least squares problem, which FISTA (Beck and Teboulle 2009) solves for all
    cells at once, with a fixed number of steps: no cell depends on another one.
    """

    kind: ClassVar[str] = "nmf"
    sparse: ClassVar[bool] = False
    most_active: ClassVar[int | None] = None

    source: str
    parts: Tensor

    @classmethod
    def from_state(cls, source: str, state: Mapping[str, Tensor]) -> Self:
        """Make a basis of the tensors of `state`."""
        return cls(source, state["parts"])

    @property
    def inputs(self) -> int:
        """Units of the layer."""
        return self.parts.shape[1]

    @property
    def units(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def state(self) -> dict[str, Tensor]:
        """Return the parts."""
        return {"parts": self.parts}

    def encode(self, cells: Tensor) -> Tensor:
        """Return the weights of each part, float32 (N, K)."""
        parts, products = self.parts.to(cells.device), self._products.to(cells.device)
        target = cells @ parts.T
        codes = torch.zeros_like(target)
        ahead, momentum = codes, 1.0
        for _ in range(STEPS):
            following = (ahead - (ahead @ products - target) / self._largest).clamp_min_(0)
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = following + (momentum - 1) / faster * (following - codes)
            codes, momentum = following, faster
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return the sums of the weighted parts, float32 (N, U)."""
        return codes @ self.parts.to(codes.device)

    @cached_property
    def _products(self) -> Tensor:
        return self.parts @ self.parts.T

    @cached_property
    def _largest(self) -> float:
        """Return the largest eigenvalue of the products: the steepest curvature of the squared error."""
        return float(torch.linalg.eigvalsh(self._products.double())[-1])
