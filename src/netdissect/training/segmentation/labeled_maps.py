"""Images in memory with a label map for each category: of the synthetic data set, or of a data set on disk."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.concepts.build.parallel import map_in_order
from netdissect.concepts.build.sample import Channel
from netdissect.concepts.image_io import read_as_stored, stretch
from netdissect.concepts.labels import Size
from netdissect.concepts.resize import CropBox
from netdissect.config import Progress
from netdissect.synthetic import render
from netdissect.training.scene_net import Images

Maps = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabeledMaps:
    """Images in memory with a label map for each category.

    Attributes
    ----------
    images
        uint8 (N, size, size, 3).
    maps
        int32 (N, categories, size / 2, size / 2): 0 is unlabeled, i the name ``heads[category][i - 1]``.
    heads
        Names by category.
    """

    images: Images
    maps: Maps
    heads: Mapping[str, tuple[str, ...]]


def synthetic_maps(
    count: int, *, size: int = 96, seed: int = 1, workers: int | None = None, progress: Progress | None = None
) -> LabeledMaps:
    """Draw images of the synthetic data set with their objects, parts, materials and textures.

    Parameters
    ----------
    count, size
        Number of images, and their side in pixels, 64 to 128.
    seed
        Of the images; use another seed than that of the data set that is segmented.
    workers
        Processes; None or 1: this one.
    progress
        Called with the number of images drawn (``training set``).
    """
    images = np.empty((count, size, size, 3), np.uint8)
    names: dict[str, dict[str, int]] = defaultdict(dict)
    drawn: list[dict[str, Maps]] = []
    for index, sample in enumerate(map_in_order(partial(render, seed=seed, size=size), range(count), workers)):
        images[index] = np.asarray(sample.image)
        drawn.append({c: _numbered(items, names[c], size) for c, items in sample.read_labels().items() if c != "scene"})
        if progress:
            progress("training set", index + 1, count)
    return _ordered(images, drawn, names)


def _numbered(items: Sequence[Channel | str], numbers: dict[str, int], size: int) -> Maps:
    """Return a label map at half size; new names get the next number."""
    (channel,) = (item for item in items if isinstance(item, Channel))
    values = CropBox.of(size, size, "stretch").values(channel.values, size // 2)
    table = np.zeros(max(channel.names, default=0) + 1, np.int32)
    for value, name in channel.names.items():
        table[value] = numbers.setdefault(name, len(numbers) + 1)
    return table[values]


def _ordered(images: Images, drawn: Sequence[Mapping[str, Maps]], names: Mapping[str, dict[str, int]]) -> LabeledMaps:
    """Give numbers to names in alphabetical order, so that they do not depend on which image comes first."""
    heads = {category: tuple(sorted(numbers)) for category, numbers in names.items()}
    tables = {
        category: np.array([0, *(heads[category].index(name) + 1 for name in numbers)], np.int32)
        for category, numbers in names.items()
    }
    maps = np.stack([np.stack([tables[category][one[category]] for category in heads]) for one in drawn])
    return LabeledMaps(images, maps, heads)


def dataset_maps(data: ConceptData, rows: Sequence[int], size: int) -> LabeledMaps:
    """Read images of a data set, and the first label map of each of its categories that has one.

    Parameters
    ----------
    data
        Its chosen categories become heads.
    rows
        Image indices.
    size
        Side of the square images; label maps have half of it.
    """
    ids = {category: [c.label_id for c in data.concepts if c.category == category] for category in data.categories}
    tables = np.zeros((len(ids), max(data.by_label_id) + 1), np.int32)
    for table, numbers in zip(tables, ids.values(), strict=True):
        table[numbers] = np.arange(1, len(numbers) + 1)
    images, maps = [], []
    for row in rows:
        images.append(np.asarray(stretch(read_as_stored(data.image_path(row))[0], size)))
        channels = data.labels(row).resized(Size(size // 2, size // 2)).label_channels
        # Of several labels of a category at a pixel the one of the first channel.
        maps.append([_first_label(table[channels]) for table in tables])
    heads = {name: tuple(data.by_label_id[i].name for i in numbers) for name, numbers in ids.items()}
    return LabeledMaps(np.stack(images), np.array(maps, np.int32), heads)


def _first_label(channels: Maps) -> Maps:
    found = np.zeros(channels.shape[1:], np.int32)
    for channel in channels[::-1]:
        found = np.where(channel > 0, channel, found)
    return found
