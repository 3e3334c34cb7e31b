"""The threshold pass in plain tensor code, for devices on which the compiled loops do not run.

Results equal those of `StreamingTopK`, `TopImages` and `Histogram`, value for value. Arrays stay on the device during
the pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations.activation_range import ChosenRows
from netdissect.activations.histogram import BINS, BINS_PER_SIGN, FIRST_BIN, MAGNITUDE, SHIFT
from netdissect.activations.topk import interpolate_order_statistics, rank_positions
from netdissect.activations.transfers import as_host_array, upload
from netdissect.concepts import Size
from netdissect.config import Threshold

MERGED_VALUES = 2**26
"""Values among which the largest are found at a time: torch returns their positions, too, in 8 bytes each."""
ZERO_COUNTERS = 32
"""Counters of zeros: most activations are 0, and a device adds to one counter one by one."""


class TorchStreamingTopK:
    """The `keep` largest values of each unit so far; see `StreamingTopK`."""

    lowest = np.float32(-np.inf)

    def __init__(self, units: int, keep: int, total: int, device: torch.device) -> None:
        self.keep = keep
        self.total = total
        self.seen = 0
        self._kept = torch.empty((units, 0), dtype=torch.float32, device=device)
        self._pending: list[Tensor] = []

    def update(self, values: Tensor) -> None:
        """Add values, float32 (B, U, n)."""
        self.seen += values.shape[0] * values.shape[2]
        self._pending.append(values.transpose(0, 1).reshape(len(self._kept), -1))
        if sum(part.shape[1] for part in self._pending) >= max(self.keep, 4096):
            self._merge_pending()

    def _merge_pending(self) -> None:
        columns = self._kept.shape[1] + sum(part.shape[1] for part in self._pending)
        kept = self._kept.new_empty((len(self._kept), min(self.keep, columns)))
        step = max(1, MERGED_VALUES // max(columns, 1))
        for start in range(0, len(kept), step):
            units = slice(start, start + step)
            values = torch.cat([part[units] for part in (self._kept, *self._pending)], dim=1)
            # In any order: sorting takes longer than finding them.
            kept[units] = values.topk(kept.shape[1], dim=1, sorted=False).values
        self._kept, self._pending = kept, []

    def thresholds(self, quantiles: Sequence[float], rule: Threshold) -> npt.NDArray[np.float32]:
        """Return T, float32 (quantiles, U), once all values were seen."""
        self._merge_pending()
        positions, weights = rank_positions(quantiles, self.total, rule)
        falling = self._kept.sort(dim=1, descending=True).values
        neighbors = falling[:, torch.from_numpy(positions).to(falling.device)]
        return interpolate_order_statistics(neighbors.cpu().numpy(), weights)

    @property
    def kept(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
        """The arguments of `StreamingTopK.merge`."""
        self._merge_pending()
        kept = self._kept.cpu().numpy()
        return kept, np.full(len(kept), kept.shape[1]), self.seen

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        values, filled, seen = self.kept
        return {"values": values, "filled": filled, "seen": np.array(seen)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._kept = torch.from_numpy(state["values"]).to(self._kept.device)
        self.seen = int(state["seen"])


class TorchTopImages:
    """The images of highest maximum activation of each unit so far; see `TopImages`."""

    def __init__(self, units: int, cells: Size, keep: int, device: torch.device) -> None:
        self._keep = keep
        self._image_index = torch.empty((units, 0), dtype=torch.int64, device=device)
        self._maps = torch.empty((units, 0, *cells), dtype=torch.float32, device=device)

    def update(self, maps: Tensor, image_index: npt.NDArray[np.int64]) -> None:
        """Add maps, float32 (B, U, h, w), of the images `image_index`, which rise from call to call."""
        units = len(self._image_index)
        new_index = upload(image_index, maps.device).expand(units, -1)
        all_index = torch.cat([self._image_index, new_index], dim=1)
        all_maps = torch.cat([self._maps, maps.transpose(0, 1)], dim=1)
        # Stable: of equal maxima the earlier image, which is further left, stays first.
        order = all_maps.amax(dim=(2, 3)).sort(dim=1, descending=True, stable=True).indices[:, : self._keep]
        self._image_index = all_index.gather(1, order)
        self._maps = all_maps.gather(1, order[:, :, None, None].expand(-1, -1, *all_maps.shape[2:]))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"image_index": self._image_index.cpu().numpy(), "maps": self._maps.cpu().numpy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._image_index, self._maps = (
            torch.from_numpy(state[name]).to(self._image_index.device) for name in ("image_index", "maps")
        )

    def ranked(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return indices (U, K), maxima (U, K) and maps (U, K, h, w), best first; index -1 where there are fewer."""
        missing = self._keep - self._image_index.shape[1]
        image_index = np.pad(self._image_index.cpu().numpy(), ((0, 0), (0, missing)), constant_values=-1)
        maps = self._maps.cpu().numpy()
        maxima = np.pad(maps.max(axis=(2, 3)), ((0, 0), (0, missing)), constant_values=-np.inf)
        return image_index, maxima, np.pad(maps, ((0, 0), (0, missing), (0, 0), (0, 0)))


class TorchHistogram:
    """Histogram of activations on a device; see `Histogram`."""

    def __init__(self, units: int, device: torch.device) -> None:
        self._counts = torch.zeros((units, BINS + ZERO_COUNTERS), dtype=torch.int64, device=device)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Counts so far, copied to the host."""
        counts = self._counts[:, :BINS].clone()
        counts[:, BINS_PER_SIGN] += self._counts[:, BINS:].sum(dim=1)
        return as_host_array(counts)

    def update(self, maps: Tensor) -> None:
        """Add maps, float32 (B, U, h, w) on the device, finite."""
        bits = maps.transpose(0, 1).flatten(1).contiguous().view(torch.int32)
        magnitude = (((bits & MAGNITUDE) >> SHIFT) - FIRST_BIN).clamp(0, BINS_PER_SIGN)
        bins = torch.where(bits < 0, BINS_PER_SIGN - magnitude, BINS_PER_SIGN + magnitude).long()
        zero_counters = BINS + torch.arange(bins.shape[1], device=maps.device) % ZERO_COUNTERS
        bins = torch.where(magnitude == 0, zero_counters, bins)
        self._counts.scatter_add_(1, bins, bins.new_ones((1, 1)).expand_as(bins))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._counts.zero_()
        self._counts[:, :BINS] = torch.from_numpy(state["counts"])


class TorchRangeMaps:
    """The activation maps of chosen images, collected on a device; see `RangeMaps`."""

    def __init__(self, image_index: npt.NDArray[np.int64], cells: Size, device: torch.device) -> None:
        self._chosen = ChosenRows(image_index)
        self._maps = torch.zeros((*image_index.shape, *cells), dtype=torch.float32, device=device)

    @property
    def maps(self) -> npt.NDArray[np.float32]:
        """Maps so far, float32 (U, S, h, w), copied to the host."""
        return as_host_array(self._maps)

    def update(self, maps: Tensor, first: int) -> None:
        """Add maps, float32 (B, U, h, w) on the device, of the images from index `first` on."""
        image, unit, slot = upload(self._chosen.of_batch(first, len(maps)), maps.device)
        self._maps[unit, slot] = maps[image, unit]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"maps": self.maps}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._maps.copy_(torch.from_numpy(state["maps"]))
