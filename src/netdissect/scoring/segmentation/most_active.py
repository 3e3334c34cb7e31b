"""The most active detector of each pixel, and the pixels of its segment by label."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.scoring.iou_counter import ImageLabels
from netdissect.scoring.per_image_counts import ImageIntersections, ImageLabelCounts
from netdissect.scoring.upsampling import Maps, Upsampler

Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

NOWHERE = -1
"""In place of a unit where no detector is active."""


class DetectorLevels(NamedTuple):
    """The activations between which the strength of D detectors is measured.

    Attributes
    ----------
    units
        int64 (D,), rising.
    thresholds
        float32 (D,): of their masks.
    max_activations
        float32 (D,): the largest over the data set.
    """

    units: Ints
    thresholds: Maps
    max_activations: Maps


class ActiveDetectors(NamedTuple):
    """The detectors that are active on one image.

    Attributes
    ----------
    units
        int32 (sh, sw): the most active detector of each pixel; -1 where none is active.
    masks
        bool (sh, sw) of each detector that is active somewhere, by unit, rising.
    """

    units: Indices
    masks: dict[int, Bools]


def most_active(maps: Maps, levels: DetectorLevels, upsampler: Upsampler) -> ActiveDetectors:
    """Find the most active detector of each pixel of an image.

    Parameters
    ----------
    maps
        float32 (U, h, w): activation maps of the units of a layer on the image.
    levels
        Of the detectors among them.
    upsampler
        From the maps to the grid on which masks are scored, (sh, sw).

    Notes
    -----
    A detector of threshold T and largest activation M over the data set is active where its interpolated activation v
    is above T; there its strength is ``(v - T) / (M - T)``, so that units of different scales can be compared. Of the
    active detectors of a pixel the one with the largest strength decides, of equals the one with the lower index.
    """
    size = (upsampler.rows.pixels, upsampler.columns.pixels)
    strength, units, masks = np.zeros(size), np.full(size, NOWHERE, np.int32), dict[int, Bools]()
    # A pixel exceeds the threshold only if a cell does: most units need no interpolation.
    reached = maps[levels.units].max(axis=(1, 2)) > levels.thresholds
    for index in np.flatnonzero(reached):
        unit, threshold, largest = (column[index] for column in levels)
        values = upsampler.upsample(maps[unit])
        mask = values > threshold
        if not mask.any():
            continue
        span = max(float(largest) - float(threshold), float(np.finfo(np.float32).tiny))
        own = (values.astype(np.float64) - float(threshold)) / span
        wins = mask & (own > strength)
        strength[wins], units[wins] = own[wins], unit
        masks[int(unit)] = mask
    return ActiveDetectors(units, masks)


def segment_pixels(units: Indices, image: ImageLabels, image_index: int) -> ImageIntersections:
    """Count the pixels of each unit's segment on one image, and those of them that have each label.

    Parameters
    ----------
    units
        int32 (sh, sw); see `ActiveDetectors`.
    image
        Labels of the image, on the same grid; a pixel has each label at most once.
    image_index
        Of the image.
    """
    shown = units != NOWHERE
    present, position = np.unique(units[shown], return_inverse=True)
    sets = image.label_sets
    num_sets = len(sets.set_sizes)
    codes = position * num_sets + sets.index_map[shown]
    by_set = np.bincount(codes, minlength=len(present) * num_sets).reshape(len(present), num_sets)
    pixels = by_set.sum(axis=1)
    counts = np.zeros((len(image.label_ids), len(present)), np.int64)
    for channel in sets.label_ids.T:
        has_label = channel > 0
        np.add.at(counts, np.searchsorted(image.label_ids, channel[has_label]), by_set[:, has_label].T)
    counts[np.searchsorted(image.label_ids, sets.image_level)] += pixels
    of_present = ImageIntersections.of(image_index, 0, pixels, counts.T, image.label_ids)
    return of_present._replace(units=present.astype(np.int64))


def constant_segments(labels: ImageLabelCounts, pixels: Ints, label_id: int) -> ImageIntersections:
    """Return one segment that covers each image: that of a unit 0 which is active everywhere.

    Parameters
    ----------
    labels
        Labels of the images.
    pixels
        int64 (n,): pixels of each image.
    label_id
        Label with which the segments are intersected.
    """
    has_label = labels.label_ids == label_id
    position = np.searchsorted(labels.images, labels.image_index[has_label])
    zeros = np.zeros(len(labels.images), np.int64)
    return ImageIntersections(
        labels.images,
        zeros,
        zeros,
        pixels,
        np.bincount(position, minlength=len(labels.images)),
        labels.label_ids[has_label],
        labels.pixels[has_label],
    )
