"""Train a small segmenter, on the synthetic data set or on labeled images of one's own, in a minute or two.

    synthetic_maps -> LabeledMaps -> train_on_maps -> TrainedSegmenter
    dataset_maps   -> LabeledMaps

The first images are held out, and its error is measured on them: IoU of each label with the true masks.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netdissect.concepts import ConceptData
from netdissect.concepts.build.parallel import map_in_order
from netdissect.concepts.build.sample import Channel
from netdissect.concepts.image_io import read_as_stored, stretch
from netdissect.concepts.labels import Size
from netdissect.concepts.resize import CropBox
from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.synthetic import render
from netdissect.training.scene_net import Images, preprocessing
from netdissect.training.segmentation_net import (
    SegmentationNet,
    SegmenterTrainConfig,
    TrainedSegmenter,
    class_count,
)
from netdissect.training.train import Optimizer

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


def train_segmenter(
    train_config: SegmenterTrainConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
) -> TrainedSegmenter:
    """Draw images of the synthetic data set and train a segmenter on them.

    Parameters
    ----------
    train_config
        Everything that the weights depend on, apart from threads, processor and library versions. None: the default.
    workers
        Processes that draw.
    progress
        Receives images (``training set``) and optimizer steps (``training``).
    """
    train_config = train_config or SegmenterTrainConfig()
    count = train_config.held_out + train_config.num_images
    data = synthetic_maps(
        count, size=train_config.size, seed=train_config.data_seed, workers=workers, progress=progress
    )
    return train_on_maps(data, train_config, progress=progress)


def train_on_maps(
    data: LabeledMaps, train_config: SegmenterTrainConfig, *, progress: Progress | None = None
) -> TrainedSegmenter:
    """Train a segmenter on images in memory; the first `train_config.held_out` of them are held out.

    Parameters
    ----------
    data
        More than `train_config.held_out` images.
    train_config
        Its number and seed of images are not used: the arrays have them.
    progress
        Receives optimizer steps (``training``).

    Raises
    ------
    ConfigError
        If nothing is left to train on.
    """
    if len(data.images) <= train_config.held_out:
        raise ConfigError(
            f"{len(data.images)} images leave none to train on when {train_config.held_out} are held out. Expected "
            "more images, or a smaller train_config.held_out."
        )
    module = SegmentationNet(train_config.units, class_count(data.heads), train_config.seed)
    optimizer, started = Optimizer(module, train_config), time.perf_counter()
    sizes = [1 + len(names) for names in data.heads.values()]
    ignored = 0 if train_config.ignore_unlabeled else -100
    half = train_config.precision == "bfloat16"
    module.train().to(memory_format=torch.channels_last)
    for step, (images, maps) in enumerate(_batches(data, train_config), start=1):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = module(images)
        losses = [
            nn.functional.cross_entropy(part.float(), maps[:, head], ignore_index=ignored)
            for head, part in enumerate(scores.split(sizes, 1))
        ]
        optimizer.step(torch.stack(losses).sum())
        if progress:
            progress("training", step, train_config.steps)
    seconds = time.perf_counter() - started
    module = module.to(memory_format=torch.contiguous_format).eval()
    ious = heldout_iou(module, data, train_config)
    return TrainedSegmenter(module, train_config, data.heads, ious, seconds)


def _batches(data: LabeledMaps, train_config: SegmenterTrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches in random order, half of the images mirrored with their label maps."""
    rng = np.random.default_rng(train_config.seed)
    normalize = preprocessing(data.images.shape[1])
    rows = np.arange(train_config.held_out, len(data.images))
    for _ in range(train_config.steps):
        chosen = rng.choice(rows, min(train_config.batch_size, len(rows)), replace=False)
        images = torch.from_numpy(data.images[chosen]).permute(0, 3, 1, 2)
        maps = torch.from_numpy(data.maps[chosen]).long()
        mirrored = torch.from_numpy(rng.random(len(chosen)) < 0.5)[:, None, None, None]
        images, maps = torch.where(mirrored, images.flip(3), images), torch.where(mirrored, maps.flip(3), maps)
        yield normalize(images).contiguous(memory_format=torch.channels_last), maps


@torch.no_grad()
def heldout_iou(
    module: SegmentationNet, data: LabeledMaps, train_config: SegmenterTrainConfig
) -> dict[str, dict[str, float | None]]:
    """Return the IoU of each label with the masks of the first images, by category and name.

    Notes
    -----
    Over all pixels of these images, unlabeled ones included unless the training ignored them. None: a label is neither
    there nor predicted.
    """
    normalize, sizes = preprocessing(data.images.shape[1]), [1 + len(names) for names in data.heads.values()]
    tables = [np.zeros((size, size), np.int64) for size in sizes]
    for start in range(0, train_config.held_out, 64):
        rows = slice(start, min(start + 64, train_config.held_out))
        scores = module(normalize(torch.from_numpy(data.images[rows]).permute(0, 3, 1, 2)))
        for head, (table, part) in enumerate(zip(tables, scores.split(sizes, 1), strict=True)):
            pairs = data.maps[rows, head].astype(np.int64) * len(table) + part.argmax(1).numpy()
            if train_config.ignore_unlabeled:
                pairs = pairs[data.maps[rows, head] > 0]
            table += np.bincount(pairs.ravel(), minlength=table.size).reshape(table.shape)
    return {
        category: {name: _iou(table, index) for index, name in enumerate(names, start=1)}
        for (category, names), table in zip(data.heads.items(), tables, strict=True)
    }


def _iou(table: npt.NDArray[np.int64], index: int) -> float | None:
    both, union = table[index, index], table[index].sum() + table[:, index].sum() - table[index, index]
    return float(both / union) if union else None
