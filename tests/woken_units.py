"""Runs before and after a training that wakes dead units, on labels that these units ignore or follow.

Each image has three stripes of equal size, one for each concept, in random order. In a data set whose pixels follow the
labels the stripes are red, green and blue; in the other the pixels are noise.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import oracle
import strategies
from netdissect.concepts import Size
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.models import Network, Preprocessing
from netdissect.result import Result

SIDE, CONCEPTS = 12, 3
COVERAGE = {"object": {1: 1.0, 2: 1.0, 3: 1.0}}
IGNORED, FOLLOWED = 0.1, 0.5
"""IoU limits: any unit passes the first under the null, and none the second."""


def write_stripes(root: Path, *, followed: bool, count: int = 12, seed: int = 0) -> Path:
    """Write a data set whose pixels follow its labels or do not."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(CONCEPTS) + 1 for _ in range(count)]
    labels = [np.repeat(order, SIDE // CONCEPTS)[None].repeat(SIDE, 0) for order in orders]
    images = [oracle.OracleImage((each,), (), (SIDE, SIDE)) for each in labels]
    strategies.write_broden(root, images, COVERAGE, image=(SIDE, SIDE))
    for index, each in enumerate(labels):
        pixels = rng.integers(0, 100, (SIDE, SIDE, 3)).astype(np.uint8)
        if followed:
            pixels[np.arange(SIDE)[:, None], np.arange(SIDE), each - 1] += 150
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
    return root


def network(name: str, *, awake: bool) -> Network:
    """Return a layer of six units: two for each color channel if they are awake, else dead."""
    convolution = nn.Conv2d(3, 6, 1, bias=False)
    weights = torch.eye(3).repeat(2, 1) + 0.1 * torch.arange(6)[:, None] / 6
    convolution.weight.data = (weights if awake else torch.zeros(6, 3))[:, :, None, None]
    module = nn.Sequential()
    module.add_module("conv", convolution)
    return Network(name, module, Preprocessing(Size(SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))


def runs(root: Path, *, followed: bool, out: Path | None = None, **statistics: object) -> tuple[Result, Result]:
    """Dissect the network before and after on one data set."""
    if not root.exists():
        write_stripes(root, followed=followed)
    config = DissectConfig(
        layers=("conv",), batch_size=6, top_images=3, protocol=Protocol(quantiles=(0.25,)),
        min_iou=FOLLOWED if followed else IGNORED,
        statistics=StatisticsConfig(**{"bootstrap": 60, "permutations": 99} | statistics),
    )  # fmt: skip
    before, after = (
        dissect(network(name, awake=awake), root, config=config, out=None if out is None else out / name)
        for name, awake in (("before", False), ("after", True))
    )
    return before, after
