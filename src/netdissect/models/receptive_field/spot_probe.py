"""Images with and without spots, and how strongly the cells of a layer respond to the spots.

two images, each eight times with one square spot   -> 18 inputs of one forward pass
activations (18, U, h, w)                           -> response of each cell to each of the 16 spots
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.concepts import Size

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

IMAGES, PAIRS = 2, 8  # images, and pairs of spots on both together
SIDE = 10  # spots that would fit along a side
CLIP = 3.0  # of a unit's change, in its standard deviations
FLOOR = 0.1  # of a unit's deviation, in the median one of the layer's units
ROUNDING = 1e-5  # of a unit's largest value: a smaller deviation is rounding


class SpotProbe(NamedTuple):
    """Images with and without spots.

    Attributes
    ----------
    images
        uint8 (18, C, H, W): two images as they are, then with one spot each.
    original
        int64 (16,): index of the image on which each spot was put.
    spots
        float64 (16, 2): row and column of each spot's center, in pixels.
    """

    images: Pixels
    original: npt.NDArray[np.int64]
    spots: Floats


def make_probe(images: Pixels) -> SpotProbe:
    """Put one spot on each of sixteen copies of two images.

    Parameters
    ----------
    images : uint8 (2, C, H, W)
        Two images of the data set; the same one twice if there is only one.

    Notes
    -----
    A spot is a tenth of the image's height and width; its values are shifted by half their range, modulo the range.
    Spots are on a jittered 4 x 4 grid, in pairs symmetric about the image's center, at the same pixels each time.
    """
    size = Size(*images.shape[2:])
    spot = Size(*(max(1, round(length / SIDE)) for length in size))
    space = np.array([size.height - spot.height, size.width - spot.width])
    jitter = np.random.default_rng(0).random((PAIRS, 2))
    probed, original, corners = list(images), [], []
    for pair, within in enumerate(jitter):
        row, column = divmod(pair, 4)
        corner = np.rint((np.array([row, column]) + within) / 4 * space).astype(np.int64)
        for top, left in (corner, space - corner):
            # Both images get spots in every row and every column of the grid.
            image = (row + column) % IMAGES
            spotted = images[image].copy()
            spotted[:, top : top + spot.height, left : left + spot.width] += np.uint8(128)
            probed.append(spotted)
            original.append(image)
            corners.append((top, left))
    centers = np.array(corners, np.float64) + (np.array([spot.height, spot.width]) - 1) / 2
    return SpotProbe(np.stack(probed), np.array(original), centers)


class CellResponses:
    """How strongly each cell of one layer responds to each spot, collected batch by batch.

    Parameters
    ----------
    original
        Of the probe.
    """

    def __init__(self, original: npt.NDArray[np.int64]) -> None:
        self.units = 0
        self._original = original.tolist()
        self._plain: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._scales: Tensor | None = None

    def update(self, maps: Tensor) -> None:
        """Take the layer's activations, float32 (B, U, h, w), on the next images of the probe.

        Notes
        -----
        The response of a cell is the mean over units of the change that the spot makes, clipped at 3. Changes are in
        standard deviations of the unit over the two images, but at least in a tenth of the median deviation of the
        units that vary.
        """
        self.units = maps.shape[1]
        for image in maps:
            if len(self._plain) < IMAGES:
                self._plain.append(image.clone())
                continue
            plain = self._plain[self._original[len(self._changes)]]
            if self._scales is None:
                self._scales = _scales(torch.stack(self._plain))
            self._changes.append((image - plain).abs_().div_(self._scales).clamp_(max=CLIP).mean(0))

    @property
    def maps(self) -> Floats:
        """float64 (16, h, w), after all images of the probe."""
        return torch.stack(self._changes).double().cpu().numpy()


def _scales(plain: Tensor) -> Tensor:
    """Return the unit of measure of each unit's changes, (U, 1, 1); infinite where no unit varies."""
    deviations = plain.std(dim=(0, 2, 3), correction=0)
    varying = deviations[deviations > ROUNDING * plain.abs().amax(dim=(0, 2, 3))]
    floor = FLOOR * float(varying.median()) if len(varying) else torch.inf
    return deviations.clamp(min=floor)[:, None, None]
