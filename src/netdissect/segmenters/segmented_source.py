"""Images with the label maps of a segmenter, as a source of the common builder of data sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from netdissect.concepts import Size
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.segmenters.quadrants import SUFFIXES, quadrant_maps
from netdissect.segmenters.segment_images import read_maps
from netdissect.segmenters.segmenter import LabelMaps, SegmentLabel


@dataclass(frozen=True)
class SegmentedSource:
    """A folder of images that were segmented.

    Attributes
    ----------
    folder
        Of the images.
    text
        Description for ``build.json``.
    images, files
        The images, and the file of label maps of each.
    labels
        Of the segmenter.
    size
        Of the label maps.
    quadrants
        Whether quadrants of objects are labeled as parts.
    """

    folder: Path
    text: str
    images: Sequence[Path]
    files: Sequence[Path]
    labels: tuple[SegmentLabel, ...]
    size: Size
    quadrants: bool = False

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image, in order of their paths."""
        for image, file in zip(self.images, self.files, strict=True):
            name = image.relative_to(self.folder).with_suffix("").as_posix()
            read = partial(segmented_labels, file, self.labels, self.size, quadrants=self.quadrants)
            yield Sample(f"{prefix}/{name}", image, read)


def segmented_labels(
    file: Path, labels: tuple[SegmentLabel, ...], size: Size, *, quadrants: bool
) -> Mapping[str, Sequence[Channel | str]]:
    """Return the channels of an image by category, as the segmenter labeled the upright image.

    Parameters
    ----------
    file
        Of its label maps.
    labels
        Label id i is that of ``labels[i - 1]``.
    size
        Height and width of the label maps.
    quadrants
        Add the halves of each object, named ``car-t``, ``car-b``, ``car-l`` and ``car-r``, as parts.
    """
    category = np.array(["", *(label.category for label in labels)])
    names = {index: label.name for index, label in enumerate(labels, start=1)}
    found: dict[str, list[Channel | str]] = {}
    for plane in read_maps(file, size):
        for kind in np.unique(category[np.unique(plane[plane > 0])]).tolist():
            values = np.where(category[plane] == kind, plane, 0)
            found.setdefault(kind, []).append(_channel(values, names))
            if quadrants and kind == "object":
                found.setdefault("part", []).extend(_halves(values, names))
    return found


def _halves(values: LabelMaps, names: Mapping[int, str]) -> Iterator[Channel]:
    count = len(names)
    halves = {
        index + half * count: f"{name.partition(';')[0].strip()}-{suffix}"
        for half, suffix in enumerate(SUFFIXES)
        for index, name in names.items()
    }
    yield from (_channel(plane, halves) for plane in quadrant_maps(values, count))


def _channel(values: LabelMaps, names: Mapping[int, str]) -> Channel:
    used = {value: names[value] for value in np.unique(values).tolist() if value}
    return Channel(values, used, "the mask of the segmenter", orientation=1, own_grid=True)
