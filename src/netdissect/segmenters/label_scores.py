"""From scores of classes to label maps: what all segmenters with scores have in common.

    pixels -> ClassScores (stretch, normalize, network, softmax or sigmoid) -> choose_labels -> label maps
                                                                            -> LabelScores (differentiable)

Scores are brought to the size of the label maps before the label is chosen, as the libraries do it: bilinear, with
half-pixel centers.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from netdissect.concepts import Size
from netdissect.errors import SegmenterError
from netdissect.models import Preprocessing
from netdissect.segmenters.label_tables import ClassLabels
from netdissect.segmenters.segmenter import Images, LabelMaps, Segmenter

Activation = Literal["softmax", "sigmoid", "identity"]
RawScores = Callable[[nn.Module, Tensor], Tensor]
"""Function of a network and its input that returns float (B, K, h, w)."""
PixelScores = Callable[[Tensor, Size | None], Tensor]
"""Function of pixels, float32 (B, 3, H, W) from 0 to 255, and a size that returns scores float32 (B, K, h, w)."""

LARGEST_CHUNK = 2**26
"""Most scores that are held at once (256 MB), unless one image has more."""


@dataclass(frozen=True)
class Head:
    """Consecutive classes that are decided together; each gives one channel of label maps, or several.

    Attributes
    ----------
    ids
        Label id of each class; 0: unlabeled.
    activation
        softmax, identity: a pixel has the class of the highest score. sigmoid: it has each class whose score reaches
        the limit, the highest score in the first channel.
    """

    ids: tuple[int, ...]
    activation: Activation = "softmax"

    @property
    def exclusive(self) -> bool:
        """Whether a pixel has at most one of the classes."""
        return self.activation != "sigmoid"

    def activate(self, raw: Tensor) -> Tensor:
        """Return scores of classes from what the network gives: softmax over dimension 1, sigmoid, or the same."""
        if self.activation == "softmax":
            return raw.softmax(1)
        return raw.sigmoid() if self.activation == "sigmoid" else raw


class ClassScores(nn.Module):
    """Scores of classes from pixels.

    Parameters
    ----------
    network, preprocessing
        The network, and how its input is made.
    raw
        How it is called.
    heads
        Its classes, in order.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, raw: RawScores, heads: Sequence[Head]) -> None:
        super().__init__()
        self.network, self.preprocessing, self.raw, self.heads = network, preprocessing, raw, tuple(heads)
        mean, std = (torch.tensor(numbers) * 255 for numbers in (preprocessing.mean, preprocessing.std))
        self.mean = nn.Buffer(mean.view(-1, 1, 1), persistent=False)
        self.std = nn.Buffer(std.view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor, size: Size | None = None) -> Tensor:
        """Return scores from 0 to 1.

        Parameters
        ----------
        pixels : float32 (B, 3, H, W)
            RGB from 0 to 255, of any size.
        size
            Height and width of the scores; None: those that the network gives.

        Returns
        -------
        float32 (B, K, h, w)
        """
        raw = self.raw(self.network, (stretched(pixels, self.preprocessing) - self.mean) / self.std)
        return activated(raw, self.heads, size)


class LabelScores(nn.Module):
    """Scores of labels from pixels: those of the classes of each label, added up.

    Parameters
    ----------
    scores
        Of the classes.
    count
        Number of labels.
    """

    def __init__(self, scores: ClassScores, count: int) -> None:
        super().__init__()
        self.scores, self.count = scores, count
        ids = torch.tensor([label for head in scores.heads for label in head.ids])
        self.ids = nn.Buffer(ids, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 (B, number of labels, h, w) of pixels float32 (B, 3, H, W) from 0 to 255."""
        scores: Tensor = self.scores(pixels)
        batch, _, *size = scores.shape
        return scores.new_zeros(batch, self.count + 1, *size).index_add(1, self.ids, scores)[:, 1:]


def stretched(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return pixels at the size of the network's input, differentiably."""
    if tuple(pixels.shape[2:]) == tuple(preprocessing.size):
        return pixels
    mode = "bicubic" if preprocessing.interpolation == "bicubic" else "bilinear"
    return interpolate(pixels, tuple(preprocessing.size), mode=mode, align_corners=False, antialias=True)


def activated(raw: Tensor, heads: Sequence[Head], size: Size | None) -> Tensor:
    """Return scores of what a network gives, float (B, K, h, w), at a size.

    Raises
    ------
    SegmenterError
        If the network gives another number of classes than the heads have.
    """
    classes = [len(head.ids) for head in heads]
    if raw.ndim != 4 or raw.shape[1] != sum(classes):
        raise SegmenterError(
            f"the segmenter gives scores of the shape {tuple(raw.shape)}. Expected (batch, {sum(classes)} classes, "
            "height, width), as its labels say; correct the file of labels."
        )
    raw = raw.float()
    if size is not None and tuple(raw.shape[2:]) != tuple(size):
        raw = interpolate(raw, tuple(size), mode="bilinear", align_corners=False)
    return torch.cat([head.activate(part) for head, part in zip(heads, torch.split(raw, classes, 1), strict=True)], 1)


def choose_labels(scores: Tensor, heads: Sequence[Head], min_score: float | None) -> LabelMaps:
    """Return the label maps of scores.

    Parameters
    ----------
    scores : float32 (B, K, h, w)
        Of the classes of all heads.
    heads
        Their labels.
    min_score
        Pixels of a lower score are unlabeled; None: 0.5 for independent classes, otherwise 0.

    Returns
    -------
    int32 (B, L, h, w)
        A channel for each exclusive head; for another one as many as a pixel of the batch has labels.
    """
    channels = []
    for head, part in zip(heads, torch.split(scores, [len(head.ids) for head in heads], 1), strict=True):
        limit = min_score if min_score is not None else 0.0 if head.exclusive else 0.5
        ids = torch.tensor(head.ids, dtype=torch.int32)
        if head.exclusive:
            best, index = part.max(1, keepdim=True)
        else:
            part = part.masked_fill((ids == 0).view(-1, 1, 1), -1.0)
            best, index = part.sort(dim=1, descending=True, stable=True)
        chosen = torch.where(best >= limit, ids[index], 0)
        used = max(1, int((chosen > 0).sum(1).max()))
        channels.append(chosen if head.exclusive else chosen[:, :used])
    return torch.cat(channels, 1).numpy()


def score_segmenter(
    spec: str,
    classes: ClassLabels,
    heads: Sequence[Head],
    scores: ClassScores,
    weights: str,
    min_score: float | None,
) -> Segmenter:
    """Return the segmenter of a network in PyTorch; `weights` is the digest of its weights."""
    scores.eval().requires_grad_(False)
    return Segmenter(
        spec=spec,
        labels=classes.labels,
        digest=digest_of(weights, classes, heads, scores.preprocessing, min_score),
        label_maps=lambda images, size: maps_in_chunks(images, size, scores, heads, min_score),
        input_size=scores.preprocessing.size,
        module=LabelScores(scores, len(classes.labels)),
    )


def digest_of(
    weights: str, classes: ClassLabels, heads: Sequence[Head], preprocessing: Preprocessing, min_score: float | None
) -> str:
    """Return the SHA-256 of what decides the label maps of a segmenter."""
    facts = [weights, classes.labels, [[head.ids, head.activation] for head in heads], repr(preprocessing), min_score]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@torch.no_grad()
def maps_in_chunks(
    images: Images, size: Size, scores: PixelScores, heads: Sequence[Head], min_score: float | None
) -> LabelMaps:
    """Return label maps int32 (B, L, h, w), a few images at a time so that memory is bounded."""
    count = sum(len(head.ids) for head in heads)
    step = max(1, LARGEST_CHUNK // (count * size.height * size.width))
    parts = []
    for start in range(0, len(images), step):
        pixels = torch.from_numpy(np.array(images[start : start + step])).permute(0, 3, 1, 2).float()
        parts.append(choose_labels(scores(pixels, size), heads, min_score))
    most = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, most - part.shape[1]), (0, 0), (0, 0))) for part in parts])
