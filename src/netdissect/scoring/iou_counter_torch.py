"""The tally in plain tensor code, for devices on which the compiled loop does not run.

Same integers as `netdissect.scoring.iou_counter`, which a test holds it to. A batch is counted at once, without a
loop over images or units; counts stay on the device until they are asked for.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.concepts import ConceptData
from netdissect.config import Restriction
from netdissect.scoring.iou_counter import BatchLabels, ImageLabels, IoUCounts
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.upsampling import Upsampler, UpsamplingAxis

CHUNK_BYTES = 256 * 2**20  # of upsampled float64 maps at a time


def upsample(maps: Tensor, grid: Upsampler) -> Tensor:
    """Interpolate maps, float32 (..., h, w), to float32 (..., sh, sw): `Upsampler.upsample` on any device."""
    for axis, dim in ((grid.columns, -1), (grid.rows, -2)):
        if axis.resample_matrix is not None:
            weights = torch.from_numpy(axis.resample_matrix).to(maps.device)
            maps = torch.movedim(torch.movedim(maps, dim, -1).double() @ weights.T, -1, dim).float()
    across = _interpolate(maps.double(), grid.columns)
    if grid.round_rows:
        across = across.float().double()
    return _interpolate(across.transpose(-1, -2), grid.rows).transpose(-1, -2).float()


def _interpolate(values: Tensor, axis: UpsamplingAxis) -> Tensor:
    lower = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    upper = np.minimum(lower + 1, len(axis.start) - 2)
    first, second, near, far = (
        torch.from_numpy(a).to(values.device) for a in (lower, upper, axis.lower_weight, axis.upper_weight)
    )
    return values[..., first] * near + values[..., second] * far


class TorchIoUCounter:
    """Adds batches of one layer to a tally on a device; see `netdissect.scoring.iou_counter.IoUCounter`."""

    def __init__(
        self,
        data: ConceptData,
        thresholds: npt.NDArray[np.float32],
        restriction: Restriction,
        device: torch.device,
        listed: int | None = None,
    ) -> None:
        quantiles, units = thresholds.shape
        zeros = IoUCounts.zeros(quantiles, units, data)
        self._restriction = restriction
        self._record_images_for = quantiles if listed is None else listed
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
        counts = (self._intersection, self._activation, self._firing_map)
        intersection, activation, places = (count.cpu().numpy().copy() for count in counts)
        return IoUCounts(intersection, activation, places, self._histogram)

    def restore(self, tally: IoUCounts) -> None:
        """Go on from an earlier tally."""
        self._intersection = torch.from_numpy(tally.intersection).to(self._intersection.device)
        self._activation = torch.from_numpy(tally.activation).to(self._activation.device)
        self._firing_map = torch.from_numpy(tally.firing_map).to(self._activation.device)
        self._histogram = tally.histogram

    def update_batch(self, maps: Tensor, labels: BatchLabels, grid: Upsampler) -> ImageIntersections:
        """Count one batch.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the device.
        labels
            Those of the images.
        grid
            From the maps' size to the label maps'.

        Returns
        -------
        Overlaps
            The masks of the batch, the first image being row 0.
        """
        of_batch = _DeviceLabels(labels.images, self._data, maps.device)
        step = max(1, CHUNK_BYTES // (8 * len(maps) * grid.rows.pixels * grid.columns.pixels))
        found: list[ImageIntersections] = []
        if self._firing_map.numel():
            self._firing_map += (maps > self._thresholds[0][:, None, None]).sum(dim=0)
        for start in range(0, maps.shape[1], step):
            units = slice(start, start + step)
            pixels = upsample(maps[:, units], grid)
            counted = zip(
                self._threshold_order,
                *_count(pixels, self._thresholds[self._threshold_order, units], of_batch),
                strict=True,
            )
            for quantile, on, counts in sorted(counted, key=itemgetter(0)):
                self._add(quantile, units, on, counts, of_batch)
                if quantile < self._record_images_for:
                    found += _overlaps(quantile, start, on, counts, labels.images)
        return ImageIntersections.join(found)

    def _add(self, quantile: int, units: slice, on: Tensor, counts: Tensor, labels: "_DeviceLabels") -> None:
        intersection, activation = self._intersection[quantile, units], self._activation[quantile, units]
        numbers = labels.numbers.reshape(1, -1).expand(len(intersection), -1)
        intersection.scatter_add_(1, numbers, counts.transpose(0, 1).reshape(numbers.shape))
        match self._restriction:
            case "annotated":
                # Integers below 2**53 multiply exactly in float64; devices have no matrix product of integers.
                activation += (on.double().T @ (labels.categories.sum(dim=1) > 0).double()).long()
            case "overlap":
                overlaps = (counts > 0).double() @ labels.categories > 0
                activation += (overlaps * on[:, :, None]).sum(dim=0)
            case "none":
                activation += on.sum(dim=0)[:, None]


def _count(pixels: Tensor, thresholds: Tensor, labels: "_DeviceLabels") -> tuple[Tensor, Tensor]:
    """Count pixels, float32 (B, U, sh, sw), at thresholds (Q, U) that rise along Q.

    Returns
    -------
    on, counts
        int64 (Q, B, U) and, of each of an image's labels, int64 (Q, B, U, n).
    """
    image, unit, y, x = (pixels > thresholds[0][:, None, None]).nonzero(as_tuple=True)
    # Above the lowest threshold first; each further one is passed only with those before it.
    passed = (pixels[image, unit, y, x] > thresholds[1:, unit]).sum(dim=0)
    masks = (passed * pixels.shape[0] + image) * pixels.shape[1] + unit
    shape = (len(thresholds), *pixels.shape[:2])
    on, counts = (masks.new_zeros(size) for size in (shape, (*shape, labels.numbers.shape[1] + 1)))
    on.view(-1).scatter_add_(0, masks, torch.ones_like(masks))
    for plane in labels.places.unbind(1):
        # Unlabeled pixels are counted along, in the last column, which costs less than leaving them out.
        cells = masks * counts.shape[3] + plane[image, y, x]
        counts.view(-1).scatter_add_(0, cells, torch.ones_like(cells))
    on, counts = (part.flip(0).cumsum(0).flip(0) for part in (on, counts))
    return on, counts[..., :-1] + on[..., None] * labels.whole[:, None, :]


def _overlaps(
    quantile: int, first: int, on: Tensor, counts: Tensor, images: Sequence[ImageLabels]
) -> Iterator[ImageIntersections]:
    masks, labels = on.cpu().numpy(), counts.cpu().numpy()
    for row, image in enumerate(images):
        found = ImageIntersections.of(
            row, quantile, masks[row], labels[row, :, : len(image.label_ids)], image.label_ids
        )
        yield found._replace(units=found.units + first)


class _DeviceLabels:
    """Labels of a batch as tensors on the device: one transfer a batch.

    With n the most labels of any image: numbers int64 (B, n), 0 beyond an image's own; places int64 (B, P, sh, sw),
    the label of each pixel as a place in them, n where unlabeled; whole int64 (B, n), how often each label stands for
    the whole image; categories float64 (B, n, K), 1 at each label's category.
    """

    def __init__(self, images: Sequence[ImageLabels], data: ConceptData, device: torch.device) -> None:
        most = max(len(image.label_ids) for image in images)
        channels = max(image.label_sets.label_ids.shape[1] for image in images)
        places = np.full((len(images), channels, *images[0].size), most)
        numbers, whole = np.zeros((2, len(images), most), np.int64)
        categories = np.zeros((len(images), most, len(data.categories)))
        for index, image in enumerate(images):
            own = len(image.label_ids)
            borne = image.label_sets.label_ids.T
            places_of = np.where(borne > 0, np.searchsorted(image.label_ids, borne), most)
            places[index, : len(borne)] = places_of[:, image.label_sets.index_map]
            numbers[index, :own] = image.label_ids
            np.add.at(whole[index], np.searchsorted(image.label_ids, image.image_level), 1)
            categories[index, np.arange(own), data.category_of[image.label_ids]] = 1
        self.places, self.numbers, self.whole, self.categories = (
            torch.from_numpy(array).to(device) for array in (places, numbers, whole, categories)
        )
