"""Counts in plain tensor code, for devices on which the compiled loop does not run.

The integers equal those of `netdissect.scoring.iou_counter`; a test compares them. Only pixels near active cells are
interpolated, about one in forty. Counts stay on the device until they are read.

    active cells -> pieces of the label map around them -> active pixels -> counts

How many pieces and pixels there are is known on the device alone. The host learns it after it has handed over the next
batch, so the device never waits for the host.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations.transfers import PendingNumber, as_host_array, upload
from netdissect.concepts import ConceptData, Size
from netdissect.config import Restriction
from netdissect.scoring.device_axis import device_axis, interpolate_pieces, pieces_near, resample
from netdissect.scoring.iou_counter import (
    ALL_QUANTILES,
    BatchLabels,
    BatchMasks,
    ImageLabels,
    IoUCounts,
    LeadingQuantiles,
)
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.sparse.count_rows import CountRows
from netdissect.scoring.upsampling import Upsampler

CHUNK_BYTES = 256 * 2**20
"""Of float64 values that are interpolated at a time."""
KEPT_BYTES = 2**30
"""Of pixels, active or not, until the host knows how many of them are active; and of counts of single images."""
MOST_WAITING = 3
"""Batches of which the host does not know a number yet."""
Steps = Generator[Tensor, int, None]
"""Yields numbers on the device, int64 (), and is sent each of them as an integer."""


class TorchIoUCounter:
    """Counts batches of one layer on a device; see `netdissect.scoring.iou_counter.IoUCounter`."""

    def __init__(
        self,
        data: ConceptData,
        thresholds: npt.NDArray[np.float32],
        restriction: Restriction,
        device: torch.device,
        leading: LeadingQuantiles = ALL_QUANTILES,
    ) -> None:
        quantiles, units = thresholds.shape
        self._restriction = restriction
        reported, self._record_images_for, self._list_runs_for = leading.of(quantiles)
        masks = CountRows.of(thresholds, reported)
        self._further_rows = masks.further
        # Units agree in the order of quantiles; see `IoUCounter`.
        self._threshold_order = np.lexsort(thresholds.T).tolist()
        self._thresholds = upload(thresholds, device)
        self._rising = upload(thresholds[self._threshold_order], device)
        self._data = data
        self._waiting: list[_WaitingBatch] = []
        self.restore(IoUCounts.zeros(reported, units, data, masks.num_further))

    @property
    def counts(self) -> IoUCounts:
        """The counts so far, brought to the host."""
        self._finish(0)
        tensors = (self._intersection, self._activation, self._firing_map, *self._further)
        intersection, activation, firing_map, *further = (as_host_array(tensor) for tensor in tensors)
        return IoUCounts(intersection, activation, firing_map, self._histogram, *further)

    def restore(self, counts: IoUCounts) -> None:
        """Continue from earlier counts."""
        self._waiting = []
        further = counts.further_intersection, counts.further_activation
        arrays = (counts.intersection, counts.activation, counts.firing_map, *further)
        self._intersection, self._activation, self._firing_map, *self._further = (
            upload(array, self._thresholds.device).clone() for array in arrays
        )
        self._histogram = counts.histogram

    def update_batch(self, maps: Tensor, labels: BatchLabels, upsampler: Upsampler) -> BatchMasks:
        """Count one batch, or begin to: `counts` ends what was begun.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the device. They are read later, and must not be changed.
        labels
            Labels of the images.
        upsampler
            From the size of the maps to the size of the label maps.

        Returns
        -------
        BatchMasks
            Counts at the first `record_images_for` quantiles and runs at the first `list_runs_for`. Where either is not
            0 the host waits for the device.
        """
        if self._firing_map.numel():
            self._firing_map += (maps > self._thresholds[0][:, None, None]).sum(dim=0)
        masks = _HostMasks()
        batch = _WaitingBatch(self._count(maps, _DeviceLabels.of(labels, self._data, maps.device), upsampler, masks))
        # Those before it only now: the device has the new batch to do while the host reads what they tell.
        self._waiting = [*(waiting for waiting in self._waiting if waiting.advance()), batch]
        self._finish(0 if self._record_images_for or self._list_runs_for else MOST_WAITING)
        return masks.result(*maps.shape[:2])

    def _finish(self, most: int) -> None:
        """Count the batches that were begun first until at most `most` are left."""
        while len(self._waiting) > most:
            if not self._waiting[0].advance():
                del self._waiting[0]

    def _count(self, maps: Tensor, labels: "_DeviceLabels", upsampler: Upsampler, masks: "_HostMasks") -> Steps:
        """Count a batch, some units at a time."""
        cells = resample(maps, upsampler)
        size = Size(upsampler.rows.pixels, upsampler.columns.pixels)
        by_quantile = np.argsort(self._threshold_order).tolist()
        step = max(1, KEPT_BYTES // (8 * len(by_quantile) * len(maps) * (labels.label_ids.shape[1] + 1)))
        for start in range(0, maps.shape[1], step):
            units = slice(start, start + step)
            counts = _PixelCounts(self._rising[:, units], labels)
            listed: list[_ActivePixels] = []
            yield from _count_pixels(cells[:, units], upsampler, counts, listed if self._list_runs_for else None)
            mask_pixels, label_pixels = counts.totals()
            for quantile, row in enumerate(by_quantile):
                self._add(quantile, units, mask_pixels[row], label_pixels[row], labels)
            recorded = by_quantile[: self._record_images_for]
            if recorded:
                of_masks, of_labels = (
                    torch.stack([part[row] for row in recorded]) for part in (mask_pixels, label_pixels)
                )
                masks.record(start, of_masks, of_labels, labels)
            for quantile in range(self._list_runs_for if listed else 0):
                masks.list_runs(quantile, start, self._thresholds[quantile, units], _ActivePixels.join(listed), size)

    def _add(
        self, quantile: int, units: slice, mask_pixels: Tensor, label_pixels: Tensor, labels: "_DeviceLabels"
    ) -> None:
        """Add the counts of one quantile, int64 (B, U) and (B, U, n)."""
        if quantile < len(self._intersection):
            intersection, activation = self._intersection[quantile, units], self._activation[quantile, units]
        else:
            rows = self._further_rows[quantile - len(self._intersection), units]
            own = np.flatnonzero(rows >= 0)
            if not len(own):
                return
            # Rows rise with the units.
            intersection, activation = (part[rows[own[0]] : rows[own[-1]] + 1] for part in self._further)
            mask_pixels, label_pixels = mask_pixels[:, own], label_pixels[:, own]
        label_ids = labels.label_ids.reshape(1, -1).expand(len(intersection), -1)
        intersection.scatter_add_(1, label_ids, label_pixels.transpose(0, 1).reshape(label_ids.shape))
        match self._restriction:
            case "annotated":
                # Integers below 2**53 multiply exactly in float64; devices have no matrix product of integers.
                activation += (mask_pixels.double().T @ (labels.categories.sum(dim=1) > 0).double()).long()
            case "overlap":
                overlaps = (label_pixels > 0).double() @ labels.categories > 0
                activation += (overlaps * mask_pixels[:, :, None]).sum(dim=0)
            case "none":
                activation += mask_pixels.sum(dim=0)[:, None]


class _WaitingBatch:
    """A batch whose counting continues once the host has read a number."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._number = PendingNumber(next(steps))

    def advance(self) -> bool:
        """Read the number and go on to the next; return False once all is counted."""
        try:
            self._number = PendingNumber(self._steps.send(self._number.read()))
        except StopIteration:
            return False
        return True


class _ActivePixels(NamedTuple):
    """Pixels above the lowest threshold: image, unit, row and column, int64 (m,), and value, float32 (m,)."""

    image: Tensor
    unit: Tensor
    y: Tensor
    x: Tensor
    value: Tensor

    @classmethod
    def join(cls, parts: Sequence["_ActivePixels"]) -> Self:
        """Join several parts."""
        return cls(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _count_pixels(
    cells: Tensor, upsampler: Upsampler, counts: "_PixelCounts", listed: list[_ActivePixels] | None
) -> Steps:
    """Find the active pixels of maps, float32 (B, U, h, w), count them, and list them if requested."""
    lowest = counts.rising[0]
    rows, columns = (device_axis(axis, cells.device) for axis in (upsampler.rows, upsampler.columns))
    pixels = rows.side * columns.side
    near = pieces_near(cells > lowest[:, None, None], upsampler)
    index = torch.nonzero_static(near, size=(yield near.sum())).T
    most, few = (max(1, size // pixels) for size in (KEPT_BYTES // 5, CHUNK_BYTES // 24))
    for begin in range(0, index.shape[1], most):
        part = index[:, begin : begin + most]
        steps = range(0, part.shape[1], few)
        values = torch.cat([interpolate_pieces(cells, part[:, first : first + few], upsampler) for first in steps])
        active = values > lowest[part[1]][:, None, None]
        piece, row, column = torch.nonzero_static(active, size=(yield active.sum())).T
        image, unit, row_piece, column_piece = part[:, piece]
        y, x = rows.piece_pixels[row_piece, row], columns.piece_pixels[column_piece, column]
        found = _ActivePixels(image, unit, y, x, values[piece, row, column])
        counts.add(found)
        if listed is not None:
            listed.append(found)


class _PixelCounts:
    """Counts of the pixels of some units of a batch, at thresholds that rise, float32 (Q, U)."""

    def __init__(self, rising: Tensor, labels: "_DeviceLabels") -> None:
        self.rising = rising
        self._labels = labels
        shape = (len(rising), len(labels.label_ids), rising.shape[1])
        self._mask_pixels = torch.zeros(shape, dtype=torch.int64, device=rising.device)
        # Unlabeled pixels are counted in the last column, which costs less than leaving them out.
        self._label_pixels = self._mask_pixels.new_zeros((*shape, labels.label_ids.shape[1] + 1))

    def add(self, pixels: _ActivePixels) -> None:
        """Count pixels by the highest threshold that they exceed."""
        _, images, units = self._mask_pixels.shape
        passed = (pixels.value > self.rising[1:, pixels.unit]).sum(dim=0)
        masks = (passed * images + pixels.image) * units + pixels.unit
        ones = masks.new_ones(1).expand(len(masks))
        self._mask_pixels.view(-1).scatter_add_(0, masks, ones)
        label_set = self._labels.index_map[pixels.image, pixels.y, pixels.x] + self._labels.first_set[pixels.image]
        for channel in self._labels.set_labels.unbind(1):
            counters = masks * self._label_pixels.shape[3] + channel[label_set]
            self._label_pixels.view(-1).scatter_add_(0, counters, ones)

    def totals(self) -> tuple[Tensor, Tensor]:
        """Return mask pixels, int64 (Q, B, U), and those with each label of an image, int64 (Q, B, U, n)."""
        mask_pixels, label_pixels = _with_higher(self._mask_pixels), _with_higher(self._label_pixels)
        return mask_pixels, label_pixels[..., :-1] + mask_pixels[..., None] * self._labels.image_level[:, None, :]


def _with_higher(counts: Tensor) -> Tensor:
    """Add to each threshold the counts of those above it, which are passed only with it."""
    return counts.flip(0).cumsum(0).flip(0) if len(counts) > 1 else counts


class _HostMasks:
    """What is returned of a batch, part after part: counts of single masks, and runs as `MaskRuns.split` takes them."""

    def __init__(self) -> None:
        self._intersections: list[ImageIntersections] = []
        self._masks: list[npt.NDArray[np.int64]] = []
        self._runs: list[npt.NDArray[np.int64]] = []

    def record(self, first_unit: int, mask_pixels: Tensor, label_pixels: Tensor, labels: "_DeviceLabels") -> None:
        """Bring the counts of single masks to the host, from int64 (Q, B, U) and (Q, B, U, n)."""
        mask_pixels, label_pixels = mask_pixels.transpose(0, 1), label_pixels.transpose(0, 1)
        image, quantile, unit = mask_pixels.nonzero(as_tuple=True)
        of_mask = label_pixels[image, quantile, unit]
        mask, label = of_mask.nonzero(as_tuple=True)
        columns = (image, quantile, unit + first_unit, mask_pixels[image, quantile, unit], (of_mask > 0).sum(dim=1))
        entries = (labels.label_ids[image[mask], label], of_mask[mask, label])
        self._intersections.append(
            ImageIntersections(*as_host_array(torch.stack(columns)), *as_host_array(torch.stack(entries)))
        )

    def list_runs(self, quantile: int, first_unit: int, thresholds: Tensor, pixels: _ActivePixels, size: Size) -> None:
        """Bring the runs of masks at one quantile to the host, where its thresholds are float32 (U,)."""
        height, width = size
        masks = pixels.image * len(thresholds) + pixels.unit
        keys = (masks * height + pixels.y) * width + pixels.x
        keys = keys[pixels.value > thresholds[pixels.unit]].sort().values
        begins = torch.ones_like(keys, dtype=torch.bool)
        begins[1:] = (keys.diff() > 1) | (keys[1:] % width == 0)
        starts = begins.nonzero()[:, 0]
        lengths = torch.cat([starts, starts.new_full((1,), len(keys))]).diff()
        first = keys[starts]
        mask, counts = torch.unique_consecutive(first // (height * width), return_counts=True)
        image, unit = mask // len(thresholds), mask % len(thresholds) + first_unit
        self._masks.append(as_host_array(torch.stack([image, torch.full_like(image, quantile), unit, counts])))
        self._runs.append(as_host_array(torch.stack([first % (height * width), lengths])))

    def result(self, images: int, units: int) -> BatchMasks:
        """Return the masks of each image."""
        masks = np.concatenate([np.empty((4, 0), np.int64), *self._masks], axis=1)
        runs = np.concatenate([np.empty((2, 0), np.int64), *self._runs], axis=1)
        order = np.argsort(masks[0], kind="stable")
        runs_in_order = np.argsort(np.repeat(masks[0], masks[3]), kind="stable")
        of_images = MaskRuns.split(masks[:, order], runs[:, runs_in_order], images, units)
        return BatchMasks(ImageIntersections.join(self._intersections), tuple(of_images))


class _DeviceLabels(NamedTuple):
    """Labels of a batch on the device, copied as a map of label sets and one table.

    Attributes
    ----------
    index_map
        Integers (B, sh, sw), as small as they can be: label set of each pixel among those of its image.
    first_set
        int64 (B,): index of the first label set of each image in `set_labels`.
    set_labels
        int64 (K, P): index of each label of a label set in the `label_ids` of its image; n where unlabeled.
    label_ids
        int64 (B, n), n the largest number of labels of an image; 0 beyond the labels of an image.
    image_level
        int64 (B, n): how often each label is an image-level label.
    categories
        float64 (B, n, K): 1 at the category of each label.
    """

    index_map: Tensor
    first_set: Tensor
    set_labels: Tensor
    label_ids: Tensor
    image_level: Tensor
    categories: Tensor

    @classmethod
    def of(cls, labels: BatchLabels, data: ConceptData, device: torch.device) -> Self:
        """Copy the labels of a batch: two transfers."""
        tables = _tables(labels.images, data)
        largest = max(len(image.label_sets.set_sizes) for image in labels.images)
        dtype = next(dtype for dtype in (np.uint8, np.int16, np.int32) if largest <= np.iinfo(dtype).max + 1)
        joined = upload(np.concatenate([table.ravel() for table in tables]), device)
        ends = np.cumsum([table.size for table in tables]).tolist()
        first_set, set_labels, label_ids, image_level, categories = (
            joined[end - table.size : end].view(table.shape) for end, table in zip(ends, tables, strict=True)
        )
        known = torch.arange(len(data.categories), device=device)
        one_hot = (categories[:, :, None] == known).double()
        index_map = upload(labels.arrays.index_map.astype(dtype), device)
        return cls(index_map, first_set, set_labels, label_ids, image_level, one_hot)


def _tables(images: Sequence[ImageLabels], data: ConceptData) -> list[npt.NDArray[np.int64]]:
    """Return `first_set`, `set_labels`, `label_ids`, `image_level`, and the category of each label, -1 for none."""
    most = max(len(image.label_ids) for image in images)
    channels = max(image.label_sets.label_ids.shape[1] for image in images)
    set_ends = np.cumsum([len(image.label_sets.label_ids) for image in images])
    set_labels = np.full((set_ends[-1], channels), most)
    label_ids, image_level = np.zeros((2, len(images), most), np.int64)
    categories = np.full((len(images), most), -1)
    for index, (image, end) in enumerate(zip(images, set_ends, strict=True)):
        count, of_sets = len(image.label_ids), image.label_sets.label_ids
        positions = np.where(of_sets > 0, np.searchsorted(image.label_ids, of_sets), most)
        set_labels[end - len(of_sets) : end, : of_sets.shape[1]] = positions
        label_ids[index, :count] = image.label_ids
        np.add.at(image_level[index], np.searchsorted(image.label_ids, image.image_level), 1)
        categories[index, :count] = data.category_of[image.label_ids]
    return [np.append(0, set_ends[:-1]), set_labels, label_ids, image_level, categories]
