"""Train a two-tower network on the images of a data set and captions made from its labels.

An image and a caption are a pair if all concepts of the caption are visible in the image, which is known of every image
and caption of a batch. The loss is the sigmoid loss of all pairs of a batch, Zhai et al. 2023 :cite:p:`zhai2023siglip`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from netdissect.activations.image_batches import read_image
from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.training.scene_net import TrainConfig, preprocessing
from netdissect.training.train import Optimizer, augment
from netdissect.training.two_towers.captions import VisibleConcepts, visible_concepts
from netdissect.training.two_towers.two_tower import Towers, TwoTower, token_shares, tokens_of

TWO_TOWER = TrainConfig(
    units=(32, 64, 96, 128, 128), steps=1_200, batch_size=64, learning_rate=3e-3, batch_norm=True, precision="float32"
)
SCALE, BIAS = 10.0, -3.0
"""Of the logits before training."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images in memory and what is visible in them.

    Attributes
    ----------
    pixels
        uint8 (N, 3, H, W).
    visible
        Concepts of each image.
    """

    pixels: Tensor
    visible: VisibleConcepts

    @classmethod
    def read(cls, data: ConceptData, size: int, progress: Progress | None = None) -> "CaptionedImages":
        """Read the images of a data set in which something is visible."""
        visible = visible_concepts(data, progress)
        rows = np.flatnonzero(visible.present.any(axis=1))
        read = [read_image(data.image_path(row), preprocessing(size)) for row in rows.tolist()]
        pixels = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous()
        return cls(pixels, VisibleConcepts(visible.names, visible.present[rows]))

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield augmented images (B, 3, H, W), the concepts of captions (B, C), and whether they are pairs (B, B)."""
        normalize, order = preprocessing(self.pixels.shape[2]), np.empty(0, np.int64)
        while True:
            while len(order) < size:
                order = np.concatenate([order, rng.permutation(len(self.pixels))])
            chosen, order = np.split(order, [size])
            captions = self.visible.captions(chosen, rng)
            pairs = self.visible.true_of(captions, chosen)
            images = normalize(augment(self.pixels[torch.from_numpy(chosen)], rng))
            yield images, torch.from_numpy(captions).float(), torch.from_numpy(pairs).float()


def train_two_tower(
    data: ConceptData, train_config: TrainConfig = TWO_TOWER, *, progress: Progress | None = None
) -> TwoTower:
    """Train a two-tower network on a data set.

    Parameters
    ----------
    data
        Its images and labels; not those that are dissected.
    train_config
        Input size, convolutions, steps, batch size, learning rate and seed. Others of its fields are not used.
    progress
        Receives images (``captions``) and optimizer steps (``training``).

    Raises
    ------
    ConfigError
        If the data set has fewer images than a batch.
    """
    images = CaptionedImages.read(data, train_config.size, progress)
    if len(images.pixels) < train_config.batch_size:
        raise ConfigError(
            f"{data.root} has {len(images.pixels)} images in which a concept is visible, and a batch takes "
            f"{train_config.batch_size}. Expected more images, or a smaller batch_size."
        )
    names = images.visible.names
    vocabulary = tuple(sorted({token for name in names for token in tokens_of(name)}))
    tokens = token_shares(names, vocabulary, "the vocabulary")
    lengths = torch.tensor([len(tokens_of(name)) for name in names])
    towers = Towers(train_config, len(vocabulary)).train()
    trained = _Trained(towers)
    optimizer = Optimizer(trained, train_config)
    batches = images.batches(train_config.batch_size, np.random.default_rng(train_config.seed))
    for step, (pixels, captions, pairs) in zip(range(train_config.steps), batches, strict=False):
        counts = captions @ (tokens * lengths[:, None])
        shares = counts / counts.sum(dim=1, keepdim=True)
        optimizer.step(trained.loss(pixels, shares, pairs))
        if progress:
            progress("training", step + 1, train_config.steps)
    return TwoTower(towers.eval(), train_config, vocabulary)


class _Trained(nn.Module):
    """The towers with the scale and bias of their logits, which only the training needs."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers
        self.scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.bias = nn.Parameter(torch.tensor(BIAS))

    def loss(self, pixels: Tensor, shares: Tensor, pairs: Tensor) -> Tensor:
        """Return the sigmoid loss of the pairs of all images and captions of a batch."""
        images = nn.functional.normalize(self.towers.images(pixels), dim=1)
        words = nn.functional.normalize(self.towers.words(shares), dim=1)
        logits = self.scale.exp() * images @ words.T + self.bias
        return nn.functional.binary_cross_entropy_with_logits(logits, pairs)
