"""The first look in plain tensor code, for devices on which the compiled loops do not run.

Same results as `StreamingTopK`, `TopImages` and `Histogram`, value for value. Nothing leaves the device during the
pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations.histogram import BINS, FIRST, MAGNITUDE, SHIFT, SIDE
from netdissect.activations.topk import interpolate_order_statistics, rank_positions
from netdissect.concepts import Size
from netdissect.config import Threshold


class TorchStreamingTopK:
    """The `keep` largest values of each unit so far; see `StreamingTopK`."""

    def __init__(self, units: int, keep: int, total: int, device: torch.device) -> None:
        self.keep = keep
        self.total = total
        self.seen = 0
        self._kept = torch.empty((units, 0), dtype=torch.float32, device=device)
        self._pending: list[Tensor] = []

    def update(self, values: Tensor) -> None:
        """Take in values, float32 (B, U, n)."""
        self.seen += values.shape[0] * values.shape[2]
        self._pending.append(values.transpose(0, 1).reshape(len(self._kept), -1))
        if sum(part.shape[1] for part in self._pending) >= max(self.keep, 4096):
            self._settle()

    def _settle(self) -> None:
        values = torch.cat([self._kept, *self._pending], dim=1)
        self._kept = values.topk(min(self.keep, values.shape[1]), dim=1, sorted=True).values
        self._pending = []

    def thresholds(self, quantiles: Sequence[float], rule: Threshold) -> npt.NDArray[np.float32]:
        """Return T, float32 (quantiles, U), once all values were seen."""
        self._settle()
        positions, weights = rank_positions(quantiles, self.total, rule)
        neighbors = self._kept[:, torch.from_numpy(positions).to(self._kept.device)]
        return interpolate_order_statistics(neighbors.cpu().numpy(), weights)

    @property
    def kept(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
        """What is kept, as `StreamingTopK.absorb` takes it in."""
        self._settle()
        kept = self._kept.cpu().numpy()
        return kept, np.full(len(kept), kept.shape[1]), self.seen

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        values, filled, seen = self.kept
        return {"values": values, "filled": filled, "seen": np.array(seen)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self._kept = torch.from_numpy(state["values"]).to(self._kept.device)
        self.seen = int(state["seen"])


class TorchTopImages:
    """The images of highest maximum activation of each unit so far; see `TopImages`."""

    def __init__(self, units: int, cells: Size, keep: int, device: torch.device) -> None:
        self._keep = keep
        self._image_index = torch.empty((units, 0), dtype=torch.int64, device=device)
        self._maps = torch.empty((units, 0, *cells), dtype=torch.float32, device=device)

    def update(self, maps: Tensor, rows: npt.NDArray[np.int64]) -> None:
        """Take in maps, float32 (B, U, h, w), of the images `rows`, which rise from call to call."""
        units = len(self._image_index)
        new_rows = torch.from_numpy(rows).to(maps.device).expand(units, -1)
        all_rows = torch.cat([self._image_index, new_rows], dim=1)
        all_maps = torch.cat([self._maps, maps.transpose(0, 1)], dim=1)
        # Stable: of equal maxima the earlier row, which stands further left, stays first.
        order = all_maps.amax(dim=(2, 3)).sort(dim=1, descending=True, stable=True).indices[:, : self._keep]
        self._image_index = all_rows.gather(1, order)
        self._maps = all_maps.gather(1, order[:, :, None, None].expand(-1, -1, *all_maps.shape[2:]))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        return {"rows": self._image_index.cpu().numpy(), "maps": self._maps.cpu().numpy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self._image_index, self._maps = (
            torch.from_numpy(state[name]).to(self._image_index.device) for name in ("rows", "maps")
        )

    def ranked(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return rows (U, K), maxima (U, K) and maps (U, K, h, w), best first; row -1 where there are fewer images."""
        missing = self._keep - self._image_index.shape[1]
        rows = np.pad(self._image_index.cpu().numpy(), ((0, 0), (0, missing)), constant_values=-1)
        maps = self._maps.cpu().numpy()
        maxima = np.pad(maps.max(axis=(2, 3)), ((0, 0), (0, missing)), constant_values=-np.inf)
        return rows, maxima, np.pad(maps, ((0, 0), (0, missing), (0, 0), (0, 0)))


class TorchHistogram:
    """The same in plain tensor code on a device; see `Histogram`."""

    def __init__(self, units: int, device: torch.device) -> None:
        self._counts = torch.zeros((units, BINS), dtype=torch.int64, device=device)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Counts so far, brought to the host."""
        return self._counts.cpu().numpy().copy()

    def update(self, maps: Tensor) -> None:
        """Take in maps, float32 (B, U, h, w) on the device, finite."""
        bits = maps.transpose(0, 1).flatten(1).contiguous().view(torch.int32)
        place = (((bits & MAGNITUDE) >> SHIFT) - FIRST).clamp(0, SIDE)
        bins = torch.where(bits < 0, SIDE - place, SIDE + place).long()
        self._counts.scatter_add_(1, bins, torch.ones_like(bins))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything needed to go on later."""
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        self._counts = torch.from_numpy(state["counts"]).to(self._counts.device)
