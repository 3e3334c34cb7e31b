"""Segmenters of torchvision: ``torchvision:NAME[@FILE]``, with its own weights or those of a file.

The classes of weights of their own number are those of torchvision's list; other weights need a file of labels.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from netdissect.close_matches import did_you_mean
from netdissect.errors import SegmenterError
from netdissect.segmenters.label_scores import ClassScores, Head, score_segmenter
from netdissect.segmenters.label_tables import class_labels
from netdissect.segmenters.segmenter import Segmenter, SegmenterOptions
from netdissect.training.load_trained import open_network

TRIAL_SIDE = 64
"""Of the image with which the number of classes is found."""


def load(spec: str, name: str, options: SegmenterOptions) -> Segmenter:
    """Load DeepLabV3, FCN or LRASPP; see `load_segmenter`."""
    models: Any = importlib.import_module("torchvision.models")
    architecture, known = name.partition("@")[0], models.list_models(module=models.segmentation)
    if architecture not in known:
        raise SegmenterError(
            f"torchvision has no segmenter {architecture!r}.{did_you_mean(architecture, known)} Expected one of "
            f"{', '.join(known)}."
        )
    network = open_network(spec)
    module = network.module.eval()
    with torch.no_grad():
        count = _logits(module, torch.zeros(1, 3, TRIAL_SIDE, TRIAL_SIDE)).shape[1]
    names: list[str] = models.get_model_weights(architecture).DEFAULT.meta["categories"]
    own = dict(enumerate(names)) if len(names) == count else None
    classes = class_labels(spec, own, count, options.labels).keep_words(spec, options.words)
    heads = (Head(classes.ids),)
    scores = ClassScores(module, network.preprocessing, _logits, heads)
    return score_segmenter(spec, classes, heads, scores, network.digest, options.min_score)


def _logits(module: nn.Module, inputs: Tensor) -> Tensor:
    logits: Tensor = module(inputs)["out"]
    return logits
