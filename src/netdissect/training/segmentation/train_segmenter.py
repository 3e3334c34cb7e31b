"""Train a small segmenter, on the synthetic data set or on labeled images of one's own, in minutes.

    synthetic_maps -> LabeledMaps -> train_on_maps -> TrainedSegmenter
    dataset_maps   -> LabeledMaps

The first images are held out, and its error is measured on them: IoU of each label with the true masks.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.training.scene_net import Images
from netdissect.training.segmentation.augmentation import crops_of, darkened, stretched
from netdissect.training.segmentation.labeled_maps import LabeledMaps, Maps, synthetic_maps
from netdissect.training.segmentation.segmentation_net import (
    SegmentationNet,
    SegmenterTrainConfig,
    TrainedSegmenter,
    segmentation_net,
)
from netdissect.training.train import Optimizer

HELD_OUT_BATCH = 32


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
        More than `train_config.held_out` images, of any size.
    train_config
        Its number and seed of images are not used: the arrays have them.
    progress
        Receives optimizer steps (``training``).

    Raises
    ------
    ConfigError
        If nothing is left to train on.
    MissingExtraError
        If the package of its encoder is not installed.
    """
    if len(data.images) <= train_config.held_out:
        raise ConfigError(
            f"{len(data.images)} images leave none to train on when {train_config.held_out} are held out. Expected "
            "more images, or a smaller train_config.held_out."
        )
    module = segmentation_net(train_config, data.heads)
    optimizer, started = Optimizer(module, train_config), time.perf_counter()
    losses = _losses(data, train_config)
    half = train_config.precision == "bfloat16"
    module.train().to(memory_format=torch.channels_last)
    rng = np.random.default_rng([train_config.seed, 1])
    for step, (images, maps) in enumerate(_batches(data, train_config), start=1):
        some = _some_pixels(rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = module.scores(module.features(images)[some])
        parts = torch.split(scores.float(), _classes(data), 1)
        found = [loss(part, maps[some][:, head]) for head, (loss, part) in enumerate(zip(losses, parts, strict=True))]
        optimizer.step(torch.stack(found).sum())
        if progress:
            progress("training", step, train_config.steps)
    seconds = time.perf_counter() - started
    module = module.to(memory_format=torch.contiguous_format).eval()
    ious = heldout_iou(module, data, train_config)
    return TrainedSegmenter(module, train_config, data.heads, ious, seconds)


def _some_pixels(rng: np.random.Generator) -> tuple[slice, ...]:
    """Return an index of every second row and column, the first of which is drawn.

    With 243 classes the loss of all pixels takes twice as long as the forward pass of a small network.
    """
    row, column = rng.integers(2, size=2)
    return slice(None), slice(None), slice(int(row), None, 2), slice(int(column), None, 2)


def _classes(data: LabeledMaps) -> list[int]:
    """Return the number of classes of each head."""
    return [1 + len(names) for names in data.heads.values()]


def _losses(data: LabeledMaps, train_config: SegmenterTrainConfig) -> Sequence[nn.Module]:
    """Return the loss of each head, a weighted cross entropy."""
    maps, ignore = data.maps[train_config.held_out :], train_config.ignore_unlabeled
    weights = [
        label_weights(maps[:, head], classes, train_config.balance, ignore_unlabeled=ignore)
        for head, classes in enumerate(_classes(data))
    ]
    return [nn.CrossEntropyLoss(torch.from_numpy(each).float(), ignore_index=0 if ignore else -100) for each in weights]


def label_weights(maps: Maps, classes: int, balance: float, *, ignore_unlabeled: bool) -> npt.NDArray[np.float64]:
    """Return the weight of each class of a head in the loss, float64 (classes,).

    A class weighs as its share of the pixels to the power of minus `balance`; the mean weight of a pixel is 1.
    """
    counts = np.bincount(maps.ravel(), minlength=classes).astype(np.float64)
    if ignore_unlabeled:
        counts[0] = 0
    shares = counts / max(counts.sum(), 1)
    weights = np.maximum(counts, 1) ** -balance
    return np.asarray(weights / max((weights * shares).sum(), np.finfo(np.float64).tiny))


def _batches(data: LabeledMaps, train_config: SegmenterTrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches in random order, half of the images mirrored with their label maps."""
    rng = np.random.default_rng(train_config.seed)
    normalize = train_config.preprocessing
    rows = np.arange(train_config.held_out, len(data.images))
    for _ in range(train_config.steps):
        chosen = rng.choice(rows, min(train_config.batch_size, len(rows)), replace=False)
        images, maps = _inputs(data, chosen, train_config, rng)
        if train_config.darken:
            images = darkened(images, train_config.darken, rng)
        mirrored = torch.from_numpy(rng.random(len(chosen)) < 0.5)[:, None, None, None]
        images, maps = torch.where(mirrored, images.flip(3), images), torch.where(mirrored, maps.flip(3), maps)
        yield normalize(images).contiguous(memory_format=torch.channels_last), maps


def _inputs(
    data: LabeledMaps, rows: npt.NDArray[np.int64], train_config: SegmenterTrainConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return images, uint8 (B, 3, size, size), and label maps, int64 (B, L, size / 2, size / 2), of a batch."""
    size, images, maps = train_config.size, data.images[rows], data.maps[rows]
    if train_config.smallest_crop < 1:
        return crops_of(images, maps, size, train_config.smallest_crop, rng)
    return resized(images, size), interpolate(
        torch.from_numpy(maps).float(), (size // 2, size // 2), mode="nearest-exact"
    ).long()


def resized(images: Images, size: int) -> Tensor:
    """Return images, uint8 (B, H, H, 3), as uint8 (B, 3, size, size)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return stretched(pixels, size) if size != images.shape[1] else pixels


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
    normalize, sizes = train_config.preprocessing, _classes(data)
    tables = [np.zeros((size, size), np.int64) for size in sizes]
    for start in range(0, train_config.held_out, HELD_OUT_BATCH):
        rows = slice(start, min(start + HELD_OUT_BATCH, train_config.held_out))
        scores = module(normalize(resized(data.images[rows], train_config.size)))
        scores = interpolate(scores, data.maps.shape[2:], mode="bilinear", align_corners=False)
        for head, (table, part) in enumerate(zip(tables, torch.split(scores, sizes, 1), strict=True)):
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
