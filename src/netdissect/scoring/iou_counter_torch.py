"""Counts in plain tensor code, for devices on which the compiled loop does not run.

The integers equal those of `netdissect.scoring.iou_counter`; a test compares them. A batch is counted without a loop
over images or units. Counts stay on the device until they are read.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from netdissect.concepts import ConceptData
from netdissect.config import Restriction
from netdissect.scoring.iou_counter import BatchLabels, BatchMasks, ImageLabels, IoUCounts
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.upsampling import Upsampler, UpsamplingAxis

CHUNK_BYTES = 256 * 2**20  # of upsampled float64 maps at a time


def upsample(maps: Tensor, upsampler: Upsampler) -> Tensor:
    """Interpolate maps, float32 (..., h, w), to float32 (..., sh, sw): `Upsampler.upsample` on any device."""
    for axis, dim in ((upsampler.columns, -1), (upsampler.rows, -2)):
        if axis.resample_matrix is not None:
            weights = torch.from_numpy(axis.resample_matrix).to(maps.device)
            maps = torch.movedim(torch.movedim(maps, dim, -1).double() @ weights.T, -1, dim).float()
    wide_rows = _interpolate(maps.double(), upsampler.columns)
    if upsampler.round_rows:
        wide_rows = wide_rows.float().double()
    return _interpolate(wide_rows.transpose(-1, -2), upsampler.rows).transpose(-1, -2).float()


def _interpolate(values: Tensor, axis: UpsamplingAxis) -> Tensor:
    lower = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    upper = np.minimum(lower + 1, len(axis.start) - 2)
    arrays = (lower, upper, axis.lower_weight, axis.upper_weight)
    first, second, lower_weight, upper_weight = (torch.from_numpy(array).to(values.device) for array in arrays)
    return values[..., first] * lower_weight + values[..., second] * upper_weight


class TorchIoUCounter:
    """Counts batches of one layer on a device; see `netdissect.scoring.iou_counter.IoUCounter`."""

    def __init__(
        self,
        data: ConceptData,
        thresholds: npt.NDArray[np.float32],
        restriction: Restriction,
        device: torch.device,
        record_images_for: int | None = None,
        list_runs_for: int = 0,
    ) -> None:
        quantiles, units = thresholds.shape
        zeros = IoUCounts.zeros(quantiles, units, data)
        self._restriction = restriction
        self._record_images_for = quantiles if record_images_for is None else record_images_for
        self._list_runs_for = list_runs_for
        self._thresholds = torch.from_numpy(thresholds).to(device)
        # Units agree in the order of quantiles; see `IoUCounter`.
        self._threshold_order = np.lexsort(thresholds.T).tolist()
        self._data = data
        self._intersection = torch.from_numpy(zeros.intersection).to(device)
        self._activation = torch.from_numpy(zeros.activation).to(device)
        self._firing_map = torch.from_numpy(zeros.firing_map).to(device)
        self._histogram = zeros.histogram

    @property
    def counts(self) -> IoUCounts:
        """The counts so far, brought to the host."""
        tensors = (self._intersection, self._activation, self._firing_map)
        intersection, activation, firing_map = (tensor.cpu().numpy().copy() for tensor in tensors)
        return IoUCounts(intersection, activation, firing_map, self._histogram)

    def restore(self, counts: IoUCounts) -> None:
        """Continue from earlier counts."""
        self._intersection = torch.from_numpy(counts.intersection).to(self._intersection.device)
        self._activation = torch.from_numpy(counts.activation).to(self._activation.device)
        self._firing_map = torch.from_numpy(counts.firing_map).to(self._activation.device)
        self._histogram = counts.histogram

    def update_batch(self, maps: Tensor, labels: BatchLabels, upsampler: Upsampler) -> BatchMasks:
        """Count one batch.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the device.
        labels
            Labels of the images.
        upsampler
            From the size of the maps to the size of the label maps.

        Returns
        -------
        BatchMasks
            Counts at the first `record_images_for` quantiles and runs at the first `list_runs_for`.
        """
        batch_labels = _DeviceLabels(labels.images, self._data, maps.device)
        step = max(1, CHUNK_BYTES // (8 * len(maps) * upsampler.rows.pixels * upsampler.columns.pixels))
        intersections: list[ImageIntersections] = []
        runs = _RunLists([], [])
        if self._firing_map.numel():
            self._firing_map += (maps > self._thresholds[0][:, None, None]).sum(dim=0)
        for start in range(0, maps.shape[1], step):
            units = slice(start, start + step)
            pixels = upsample(maps[:, units], upsampler)
            for quantile in range(self._list_runs_for):
                runs.add(quantile, start, pixels > self._thresholds[quantile, units, None, None])
            counts = _count(pixels, self._thresholds[self._threshold_order, units], batch_labels)
            counted = zip(self._threshold_order, *counts, strict=True)
            for quantile, mask_pixels, label_pixels in sorted(counted, key=itemgetter(0)):
                self._add(quantile, units, mask_pixels, label_pixels, batch_labels)
                if quantile < self._record_images_for:
                    intersections += _intersections(quantile, start, mask_pixels, label_pixels, labels.images)
        return BatchMasks(ImageIntersections.join(intersections), runs.split(len(maps), maps.shape[1]))

    def _add(
        self, quantile: int, units: slice, mask_pixels: Tensor, label_pixels: Tensor, labels: "_DeviceLabels"
    ) -> None:
        intersection, activation = self._intersection[quantile, units], self._activation[quantile, units]
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


class _RunLists(NamedTuple):
    """Runs of masks as `MaskRuns.split` takes them, part after part: int64 (4, m) and int64 (2, N)."""

    masks: list[npt.NDArray[np.int64]]
    runs: list[npt.NDArray[np.int64]]

    def add(self, quantile: int, first_unit: int, active: Tensor) -> None:
        """Add the masks of some units at one quantile, bool (B, units, height, width)."""
        width = active.shape[3]
        edges = functional.pad(active.to(torch.int8), (1, 1)).diff()
        first, last = (edges > 0).nonzero(), (edges < 0).nonzero()[:, 3]
        mask, counts = torch.unique_consecutive(first[:, 0] * active.shape[1] + first[:, 1], return_counts=True)
        image, unit = mask // active.shape[1], mask % active.shape[1] + first_unit
        self.masks.append(torch.stack([image, torch.full_like(image, quantile), unit, counts]).cpu().numpy())
        self.runs.append(torch.stack([first[:, 2] * width + first[:, 3], last - first[:, 3]]).cpu().numpy())

    def split(self, images: int, units: int) -> tuple[MaskRuns, ...]:
        """Return the masks of each image."""
        masks = np.concatenate([np.empty((4, 0), np.int64), *self.masks], axis=1)
        runs = np.concatenate([np.empty((2, 0), np.int64), *self.runs], axis=1)
        order = np.argsort(masks[0], kind="stable")
        runs_in_order = np.argsort(np.repeat(masks[0], masks[3]), kind="stable")
        return tuple(MaskRuns.split(masks[:, order], runs[:, runs_in_order], images, units))


def _count(pixels: Tensor, thresholds: Tensor, labels: "_DeviceLabels") -> tuple[Tensor, Tensor]:
    """Count pixels, float32 (B, U, sh, sw), at thresholds (Q, U) that rise along Q.

    Returns
    -------
    mask_pixels, label_pixels
        int64 (Q, B, U) and, for each label of an image, int64 (Q, B, U, n).
    """
    image, unit, y, x = (pixels > thresholds[0][:, None, None]).nonzero(as_tuple=True)
    # Pixels above the lowest threshold first: a threshold is passed only with all lower ones.
    passed = (pixels[image, unit, y, x] > thresholds[1:, unit]).sum(dim=0)
    masks = (passed * pixels.shape[0] + image) * pixels.shape[1] + unit
    shape = (len(thresholds), *pixels.shape[:2])
    mask_pixels, label_pixels = (masks.new_zeros(size) for size in (shape, (*shape, labels.label_ids.shape[1] + 1)))
    mask_pixels.view(-1).scatter_add_(0, masks, torch.ones_like(masks))
    for channel in labels.label_index.unbind(1):
        # Unlabeled pixels are counted in the last column, which costs less than leaving them out.
        cells = masks * label_pixels.shape[3] + channel[image, y, x]
        label_pixels.view(-1).scatter_add_(0, cells, torch.ones_like(cells))
    mask_pixels, label_pixels = (part.flip(0).cumsum(0).flip(0) for part in (mask_pixels, label_pixels))
    return mask_pixels, label_pixels[..., :-1] + mask_pixels[..., None] * labels.image_level[:, None, :]


def _intersections(
    quantile: int, first_unit: int, mask_pixels: Tensor, label_pixels: Tensor, images: Sequence[ImageLabels]
) -> Iterator[ImageIntersections]:
    masks, labels = mask_pixels.cpu().numpy(), label_pixels.cpu().numpy()
    for index, image in enumerate(images):
        intersections = ImageIntersections.of(
            index, quantile, masks[index], labels[index, :, : len(image.label_ids)], image.label_ids
        )
        yield intersections._replace(units=intersections.units + first_unit)


class _DeviceLabels:
    """Labels of a batch as tensors on the device: one transfer a batch.

    Attributes
    ----------
    label_ids
        int64 (B, n), n the largest number of labels of an image; 0 beyond the labels of an image.
    label_index
        int64 (B, P, sh, sw): index of each pixel's label in `label_ids`; n where unlabeled.
    image_level
        int64 (B, n): how often each label is an image-level label.
    categories
        float64 (B, n, K): 1 at the category of each label.
    """

    def __init__(self, images: Sequence[ImageLabels], data: ConceptData, device: torch.device) -> None:
        most = max(len(image.label_ids) for image in images)
        channels = max(image.label_sets.label_ids.shape[1] for image in images)
        label_index = np.full((len(images), channels, *images[0].size), most)
        label_ids, image_level = np.zeros((2, len(images), most), np.int64)
        categories = np.zeros((len(images), most, len(data.categories)))
        for index, image in enumerate(images):
            count = len(image.label_ids)
            set_labels = image.label_sets.label_ids.T
            label_index_of_set = np.where(set_labels > 0, np.searchsorted(image.label_ids, set_labels), most)
            label_index[index, : len(set_labels)] = label_index_of_set[:, image.label_sets.index_map]
            label_ids[index, :count] = image.label_ids
            np.add.at(image_level[index], np.searchsorted(image.label_ids, image.image_level), 1)
            categories[index, np.arange(count), data.category_of[image.label_ids]] = 1
        self.label_index, self.label_ids, self.image_level, self.categories = (
            torch.from_numpy(array).to(device) for array in (label_index, label_ids, image_level, categories)
        )
