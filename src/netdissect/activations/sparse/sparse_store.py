"""What is kept between the two passes of a layer whose maps are sparse: every active cell."""

from pathlib import Path

import numpy as np

from netdissect.activations.array_log import AppendOnlyFile
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.store import ActivationStore
from netdissect.concepts import Size


class SparseStore(AppendOnlyFile):
    """An append-only file of the sparse maps of one layer, batch by batch: eight bytes for each active cell.

    Parameters
    ----------
    path
        As for `AppendOnlyFile`.
    units, cells
        Units of the layer, U, and size of their maps.
    """

    dense = True
    """No cell is lost."""
    remedy, disk_full_remedy = ActivationStore.remedy, ActivationStore.disk_full_remedy

    def __init__(self, path: Path, units: int, cells: Size) -> None:
        super().__init__(path)
        self._shape = (units, *cells)

    def truncate(self, offsets: list[int]) -> None:  # type: ignore[override]
        """Continue after the batches of an earlier session; a removed file holds none of them."""
        super().truncate(offsets if self.path.exists() else [0])

    def append(self, maps: SparseMaps) -> None:
        """Write the maps of one batch."""
        counts = np.concatenate([maps.map_starts, np.diff(maps.value_starts)])
        integers = [array.astype(np.int32) for array in (counts, maps.units, maps.cells)]
        self.write([part.data for part in (*integers, np.ascontiguousarray(maps.values))])

    def read(self, batch: int, images: int) -> SparseMaps:
        """Return the maps of one batch of `images` images."""
        content = self.record(batch)
        integers = np.frombuffer(content, np.int32)
        map_starts = integers[: images + 1].astype(np.int64)
        maps = int(map_starts[-1])
        lengths, units = integers[images + 1 :][: 2 * maps].reshape(2, maps).astype(np.int64)
        value_starts = np.append(0, lengths.cumsum())
        begin, count = images + 1 + 2 * maps, int(value_starts[-1])
        cells = integers[begin : begin + count].astype(np.int64)
        # A copy may be written: compiled loops take it as they take maps that were not stored.
        values = np.frombuffer(content, np.float32, offset=4 * (begin + count)).copy()
        return SparseMaps((images, *self._shape), map_starts, units, value_starts, cells, values)
