"""Images over the whole range of a unit's activation, with their maps: a polysemantic unit shows itself below the top.

A unit's images are ranked by their maximum activation, ties by image index, as in `TopImages`. A percentile p of n
images is shown by the `IMAGES_OF_BAND` images from rank floor((1 - p / 100) n) on, counted from 0: the first ones that
are not above the percentile. It is left out if fewer than that many images are above it, since these are the top
images. Further images are drawn at random from all.

Source: intervals of activation beside top examples show other features than these, as in Bricken et al. 2023
:cite:p:`bricken2023monosemanticity` and in Goh et al. 2021 :cite:p:`goh2021multimodal`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netdissect.activations.image_values import ImageValues, unit_blocks
from netdissect.concepts import Size

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PERCENTILES = (99.9, 99.0, 90.0, 50.0)
"""Of the image maxima of a unit."""
IMAGES_OF_BAND = 4
RANGE_IMAGES = IMAGES_OF_BAND * (len(PERCENTILES) + 1)
"""Images of a unit: those of each percentile, then those drawn at random."""
UNITS_AT_ONCE = 256  # units that are sorted at a time


def band_starts(images: int) -> tuple[int | None, ...]:
    """Return the first rank at each percentile; None: the percentile is left out.

    >>> band_starts(1906)
    (None, 19, 190, 953)
    """
    starts = [round(10 * (100 - percentile)) * images // 1000 for percentile in PERCENTILES]
    return tuple(start if start >= IMAGES_OF_BAND <= images - start else None for start in starts)


def choose_images(parts: Sequence[ImageValues], seed: int) -> tuple[Ints, Floats]:
    """Choose the images of each unit over its range.

    Parameters
    ----------
    parts
        Maxima of each shard, in the order of the images.
    seed
        Of the images at random; a unit's draw depends on its number alone.

    Returns
    -------
    tuple
        Image indices, int64 (U, RANGE_IMAGES), -1 where there is none, and maxima, float32 of the same shape.
    """
    units, images = parts[0].units, sum(part.images for part in parts)
    chosen = np.full((units, RANGE_IMAGES), -1, np.int64)
    maxima = np.full((units, RANGE_IMAGES), -np.inf, np.float32)
    at_random = min(IMAGES_OF_BAND, images)
    ranks = [(band, start) for band, start in enumerate(band_starts(images)) if start is not None]
    for first, block in unit_blocks(parts):
        for begin in range(0, len(block), UNITS_AT_ONCE):
            ranked = _ranked(block[begin : begin + UNITS_AT_ONCE])
            units_of_part = slice(first + begin, first + begin + len(ranked))
            for band, start in ranks:
                slots = slice(band * IMAGES_OF_BAND, (band + 1) * IMAGES_OF_BAND)
                chosen[units_of_part, slots] = ranked[:, start : start + IMAGES_OF_BAND]
        for unit, values in enumerate(block, first):
            drawn = np.random.default_rng([seed, unit]).choice(images, at_random, replace=False)
            chosen[unit, RANGE_IMAGES - IMAGES_OF_BAND :][:at_random] = np.sort(drawn)
            present = chosen[unit] >= 0
            maxima[unit, present] = values[chosen[unit, present]]
    return chosen, maxima


def _ranked(values: Floats) -> Ints:
    """Return the images of each unit by falling value, then by rising index: int64 (U, n) of float32 (U, n).

    Value and index are sorted as one integer, which takes a fifth of the time of a stable sort of the values.
    """
    bits = (-values + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    rising = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    keys = rising.astype(np.uint64) << np.uint64(32) | np.arange(values.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


class ChosenRows:
    """Which of the chosen images are in a batch.

    Parameters
    ----------
    image_index
        Chosen images of each unit, int64 (U, S); -1: none.
    """

    def __init__(self, image_index: Ints) -> None:
        self._slots = image_index.shape[1]
        self._order = np.argsort(image_index, axis=None, kind="stable")
        self._sorted = image_index.ravel()[self._order]

    def of_batch(self, first: int, images: int) -> Ints:
        """Return image in the batch, unit and slot of those among `images` images from `first` on, int64 (3, n)."""
        begin, end = np.searchsorted(self._sorted, (first, first + images))
        return np.stack([self._sorted[begin:end] - first, *np.divmod(self._order[begin:end], self._slots)])


class RangeMaps:
    """The activation maps of chosen images, collected in another pass over the same images.

    Maps of several shards add up: those of images that a shard does not have are 0.

    Parameters
    ----------
    image_index
        Chosen images of each unit, int64 (U, S); -1: none.
    cells
        Size of the layer's maps.

    Attributes
    ----------
    maps
        float32 (U, S, h, w).
    """

    def __init__(self, image_index: Ints, cells: Size) -> None:
        self.maps: Floats = np.zeros((*image_index.shape, *cells), np.float32)
        self._chosen = ChosenRows(image_index)

    def update(self, maps: "Tensor", first: int) -> None:
        """Add maps, float32 (B, U, h, w), of the images from index `first` on."""
        image, unit, slot = self._chosen.of_batch(first, len(maps))
        if len(image):
            self.maps[unit, slot] = maps[image, unit].cpu().numpy()

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a checkpoint."""
        return {"maps": self.maps}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self.maps[:] = state["maps"]


def needed_cells(maps: Floats, thresholds: Floats) -> Bools:
    """Return the cells on which masks depend: those above a threshold and their neighbors.

    What the activation cache keeps of the other cells depends on the order of the images; masks do not depend on it.

    Parameters
    ----------
    maps
        float32 (U, S, h, w).
    thresholds
        The lowest threshold of each unit, float32 (U,).

    Returns
    -------
    bool (U, S, h, w)
    """
    above = maps > thresholds[:, None, None, None]
    rows = np.pad(above, ((0, 0), (0, 0), (1, 1), (0, 0)))
    near = rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
    columns = np.pad(near, ((0, 0), (0, 0), (0, 0), (1, 1)))
    return np.asarray(columns[..., :-2] | columns[..., 1:-1] | columns[..., 2:])
