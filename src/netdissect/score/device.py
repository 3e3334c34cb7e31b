"""The tally in plain tensor code, for devices on which the compiled loop does not run.

Same integers as `netdissect.score.tally`, which a test holds it to. A batch is counted at once, without a
loop over images or units; counts stay on the device until they are asked for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.concepts import ConceptData
from netdissect.config import Restriction
from netdissect.score.grid import Axis, Grid
from netdissect.score.tally import ImageLabels, Tally

CHUNK_BYTES = 256 * 2**20  # of upsampled float64 maps at a time


def upsample(maps: Tensor, grid: Grid) -> Tensor:
    """Interpolate maps, float32 (..., h, w), to float32 (..., sh, sw): `Grid.upsample` on any device."""
    for axis, dim in ((grid.columns, -1), (grid.rows, -2)):
        if axis.resample is not None:
            weights = torch.from_numpy(axis.resample).to(maps.device)
            maps = torch.movedim(torch.movedim(maps, dim, -1).double() @ weights.T, -1, dim).float()
    across = _interpolate(maps.double(), grid.columns)
    if grid.round_rows:
        across = across.float().double()
    return _interpolate(across.transpose(-1, -2), grid.rows).transpose(-1, -2).float()


def _interpolate(values: Tensor, axis: Axis) -> Tensor:
    lower = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    upper = np.minimum(lower + 1, len(axis.start) - 2)
    first, second, near, far = (torch.from_numpy(a).to(values.device) for a in (lower, upper, axis.near, axis.far))
    return values[..., first] * near + values[..., second] * far


class DeviceTallier:
    """Adds batches of one layer to a tally on a device; see `netdissect.score.tally.Tallier`."""

    def __init__(
        self, data: ConceptData, thresholds: npt.NDArray[np.float32], restriction: Restriction, device: torch.device
    ) -> None:
        quantiles, units = thresholds.shape
        zeros = Tally.zeros(quantiles, units, data)
        self._restriction = restriction
        self._thresholds = torch.from_numpy(thresholds).to(device)
        self._category_of = torch.from_numpy(np.maximum(data.category_of, 0)).to(device)
        self._intersection = torch.from_numpy(zeros.intersection).to(device)
        self._activation = torch.from_numpy(zeros.activation).to(device)

    @property
    def tally(self) -> Tally:
        """The counts so far, brought to the host."""
        intersection = self._intersection.cpu().numpy().copy()
        intersection[:, :, 0] = 0  # unlabeled pixels were counted along, which costs less than leaving them out
        return Tally(intersection, self._activation.cpu().numpy().copy())

    def restore(self, tally: Tally) -> None:
        """Go on from an earlier tally."""
        self._intersection = torch.from_numpy(tally.intersection).to(self._intersection.device)
        self._activation = torch.from_numpy(tally.activation).to(self._activation.device)

    def update_batch(self, maps: Tensor, images: Sequence[ImageLabels], grid: Grid) -> None:
        """Count one batch.

        Parameters
        ----------
        maps
            float32 (B, U, h, w) on the device.
        images
            Their labels, with label maps of one size.
        grid
            From the maps' size to the label maps'.
        """
        labels = _BatchLabels(images, self._intersection.shape[2], self._activation.shape[2], maps.device)
        step = max(1, CHUNK_BYTES // (8 * len(maps) * grid.rows.pixels * grid.columns.pixels))
        for start in range(0, maps.shape[1], step):
            units = slice(start, start + step)
            pixels = upsample(maps[:, units], grid)
            for quantile, thresholds in enumerate(self._thresholds[:, units]):
                self._count(quantile, units, pixels > thresholds[:, None, None], labels)

    def _count(self, quantile: int, units: slice, masks: Tensor, labels: "_BatchLabels") -> None:
        intersection, activation = self._intersection[quantile, units], self._activation[quantile, units]
        on = masks.sum(dim=(2, 3))
        image, unit, y, x = masks.nonzero(as_tuple=True)
        overlaps = labels.whole_categories[:, None, :].expand(-1, len(intersection), -1).clone()
        for plane in labels.planes.unbind(1):
            numbers = plane[image, y, x].long()
            cells = unit * intersection.shape[1] + numbers
            intersection.view(-1).scatter_add_(0, cells, torch.ones_like(cells))
            labeled = numbers > 0
            overlaps[image[labeled], unit[labeled], self._category_of[numbers[labeled]]] = 1.0
        # Integers below 2**53 multiply exactly in float64; devices have no matrix product of integers.
        intersection += (on.double().T @ labels.whole).long()
        match self._restriction:
            case "annotated":
                activation += (on.double().T @ labels.annotated).long()
            case "overlap":
                activation += (overlaps * on[:, :, None]).sum(dim=0).long()
            case "none":
                activation += on.sum(dim=0)[:, None]


class _BatchLabels:
    """Labels of a batch as tensors on the device: one transfer a batch.

    planes int32 (B, P, sh, sw); whole float64 (B, C), how often each label stands for the whole image;
    whole_categories and annotated float64 (B, K), 1 where an image has a whole-image label, or any, of a category.
    """

    def __init__(self, images: Sequence[ImageLabels], numbers: int, categories: int, device: torch.device) -> None:
        channels = max(len(image.planes) for image in images)
        planes = np.zeros((len(images), channels, *images[0].planes.shape[1:]), np.int32)
        whole = np.zeros((len(images), numbers))
        whole_categories, annotated = np.zeros((2, len(images), categories))
        for index, image in enumerate(images):
            planes[index, : len(image.planes)] = image.planes
            np.add.at(whole[index], image.whole, 1)
            whole_categories[index, image.whole_categories] = 1
            annotated[index, image.categories] = 1
        self.planes, self.whole, self.whole_categories, self.annotated = (
            torch.from_numpy(array).to(device) for array in (planes, whole, whole_categories, annotated)
        )
