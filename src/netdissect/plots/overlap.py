"""How the mask of a unit and a concept overlap in an image: both, the unit only, and the concept only.

Overlap(unit, concept).regions()    the three regions by name, disjoint
REGION_COLORS                       their colors, everywhere
draw_masked(axes, ...)              an image with the masks, in a figure
ConceptMasks(data, ...).mask(...)   a concept in an image: many units show the same ones, so that each is made once

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (IoU of the masks M_k and L_c).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from threading import RLock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from netdissect.activations import prefetch
from netdissect.concepts import ConceptData, Labels, Size
from netdissect.config import MaskMode, Restriction
from netdissect.plots.example_images import read_labels
from netdissect.plots.outlines import mask_path

Mask = npt.NDArray[np.bool_]

UNIT_COLOR, CONCEPT_COLOR = "#e69f00", "#0072b2"
OVERLAP_COLOR = "#e6ffb2"
"""The sum of the two others, as pages draw it: distinct in hue and in lightness with any color vision."""
REGION_COLORS = {"overlap": OVERLAP_COLOR, "unit only": UNIT_COLOR, "concept only": CONCEPT_COLOR}
"""Colors of the regions; two of Okabe and Ito's, and their sum."""

EDGE = 224
"""Height and width of a drawn image."""
LINE = "#FFDD33"
LINE_WIDTH = 1.1
DIMMING, COLORED = 0.55, 0.62
"""Opacity of what covers an image: black outside of a mask, or the colors of the regions."""
SQUARE = (0.0, 1.0, 1.0, 0.0)

MAX_KEPT = 30_000
"""Masks that are kept: about 4 kB each."""
READING_THREADS, IMAGES_AHEAD = 2, 16


class Overlap(NamedTuple):
    """The masks of a unit and of a concept in an image, both bool (sh, sw)."""

    unit: Mask
    concept: Mask

    def regions(self) -> dict[str, Mask]:
        """Return the disjoint regions by the names of `REGION_COLORS`."""
        return {
            "overlap": self.unit & self.concept,
            "unit only": self.unit & ~self.concept,
            "concept only": self.concept & ~self.unit,
        }

    def counts(self) -> dict[str, int]:
        """Return the pixels of each region, by name."""
        return {name: int(region.sum()) for name, region in self.regions().items()}


def iou_of_counts(counts: Mapping[str, int]) -> float:
    """Return the IoU of the pixels of the regions; 0 without any.

    >>> iou_of_counts({"overlap": 2, "unit only": 1, "concept only": 5})
    0.25
    """
    union = sum(counts.values())
    return counts["overlap"] / union if union else 0.0


def concept_mask(labels: Labels, label_ids: Sequence[int], size: Size) -> Mask:
    """Return where an image has one of some labels on the grid on which masks are scored, bool `size`.

    Parameters
    ----------
    labels
        Of the image.
    label_ids
        The labels; one of the whole image is everywhere.
    size
        Height and width of the grid; label maps of another size are reduced to it as the scoring does.
    """
    if np.isin(label_ids, labels.image_level).any():
        return np.ones(size, np.bool_)
    maps = labels if labels.size == size else labels.resized(size)
    return np.asarray(np.isin(maps.label_channels, label_ids).any(axis=0))


class ImageConcept(NamedTuple):
    """A concept in an image, on the grid on which its masks are scored."""

    image_index: int
    label_id: int
    size: Size


class ConceptMask(NamedTuple):
    """Where an image has a concept.

    Attributes
    ----------
    bits
        Its pixels, packed; see `pixels`.
    size
        Height and width of the grid on which masks are scored.
    counted_bits
        Pixels of which the mask of a unit must contain one, or it does not count in the union; packed.
    """

    bits: bytes
    size: Size
    counted_bits: bytes

    @classmethod
    def of(cls, mask: Mask, counted: Mask) -> "ConceptMask":
        """Pack the pixels of a concept, and those of which a mask must contain one; both bool (sh, sw)."""
        return cls(np.packbits(mask).tobytes(), Size(*mask.shape), np.packbits(counted).tobytes())

    @property
    def path(self) -> str:
        """Its outline; see `netdissect.plots.outlines.mask_path`."""
        return mask_path(self.pixels)

    def contribution(self, unit: Mask) -> dict[str, int]:
        """Return the pixels of the regions of a unit's mask and this one, as they count in the IoU of the run."""
        counts = Overlap(unit, self.pixels).counts()
        return counts if (unit & self._unpacked(self.counted_bits)).any() else counts | {"unit only": 0}

    @property
    def pixels(self) -> Mask:
        """The mask, bool (sh, sw)."""
        return self._unpacked(self.bits)

    def _unpacked(self, bits: bytes) -> Mask:
        pixels = np.unpackbits(np.frombuffer(bits, np.uint8), count=self.size.height * self.size.width)
        return pixels.astype(np.bool_).reshape(self.size)


class ConceptMasks:
    """The masks of concepts in the images of a data set.

    Parameters
    ----------
    data
        The data set.
    restriction
        In which images the mask of a unit counts; see `netdissect.config.Protocol`.
    """

    def __init__(self, data: ConceptData, restriction: Restriction) -> None:
        self._data, self._restriction = data, restriction
        self._kept: dict[ImageConcept, ConceptMask | None] = {}
        self._lock = RLock()

    def read(self, wanted: Iterable[ImageConcept]) -> None:
        """Make masks that are not kept yet, of each image together."""
        with self._lock:
            self._read(wanted)

    def _read(self, wanted: Iterable[ImageConcept]) -> None:
        new: dict[int, list[ImageConcept]] = {}
        for each in dict.fromkeys(wanted):
            if each not in self._kept:
                new.setdefault(each.image_index, []).append(each)
        if len(self._kept) + sum(map(len, new.values())) > MAX_KEPT:
            self._kept.clear()
        read = prefetch(partial(read_labels, self._data), list(new), READING_THREADS, IMAGES_AHEAD)
        for concepts, labels in zip(new.values(), read, strict=True):
            self._kept |= {each: None if labels is None else self._made(labels, each) for each in concepts}

    def mask(self, concept: ImageConcept) -> ConceptMask | None:
        """Return one mask; None if the labels of the image cannot be read."""
        with self._lock:
            self._read([concept])
            return self._kept[concept]

    def _made(self, labels: Labels, concept: ImageConcept) -> ConceptMask:
        mask = concept_mask(labels, (concept.label_id,), concept.size)
        category_of = self._data.category_of
        counted = np.ones(concept.size, np.bool_)
        if self._restriction != "none":
            of_category = [each for each in label_ids(labels) if category_of[each] == category_of[concept.label_id]]
            counted = concept_mask(labels, of_category, concept.size)
        if self._restriction == "annotated":
            counted[:] = counted.any()
        return ConceptMask.of(mask, counted)


def label_ids(labels: Labels) -> list[int]:
    """List the ids of the labels of an image."""
    present = np.unique(np.append(labels.label_channels, labels.image_level)).tolist()
    return [label_id for label_id in present if label_id]


def draw_masked(
    axes: Axes,
    image: npt.NDArray[np.uint8] | None,
    unit: Mask,
    concept: Mask | None = None,
    mode: MaskMode = "dim",
) -> None:
    """Draw an image and masks, each pixel of these as a rectangle of the image.

    Parameters
    ----------
    axes
        The axes.
    image
        uint8 (E, E, 3); None: gray.
    unit
        The mask of the unit, bool (sh, sw).
    concept
        That of its concept, for the mode ``both``; None: not known.
    mode
        ``dim``: dark outside of the unit's mask, which is outlined. ``outline``: its outline. ``both``: the regions of
        `REGION_COLORS` in color.
    """
    axes.imshow(np.full((1, 1, 3), 128, np.uint8) if image is None else image, extent=SQUARE)
    cover = np.zeros((*unit.shape, 4), np.float32)
    if mode == "both":
        none = np.zeros_like(unit)
        for name, region in Overlap(unit, none if concept is None else concept).regions().items():
            cover[region] = (*to_rgb(REGION_COLORS[name]), COLORED)
    elif mode == "dim":
        cover[~unit, 3] = DIMMING
    axes.imshow(cover, extent=SQUARE, interpolation="nearest")
    if mode != "both" and unit.any() and not unit.all():
        down, right = ((np.arange(count) + 0.5) / count for count in unit.shape)
        axes.contour(right, down, unit.astype(np.float32), levels=[0.5], colors=LINE, linewidths=LINE_WIDTH)


def region_handles() -> list[Patch]:
    """Return the entries of a legend for the colors of the regions."""
    return [Patch(color=color, label=name) for name, color in REGION_COLORS.items()]
