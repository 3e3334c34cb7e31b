"""Small random networks, and labels to dissect them on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import oracle
import strategies
from netdissect.concepts import Size
from netdissect.models import Network, Preprocessing
from netdissect.models.backends.onnx_export import traceable

SIDE = 24
# Label 2 ties between object and part, and 4 changes its primary category where object is not chosen.
COVERAGE = {
    "object": {1: 3.0, 2: 1.0, 4: 2.0},
    "part": {3: 1.0, 2: 1.0, 1: 0.5},
    "color": {300: 2.0, 4: 0.5, 2: 0.1},
}


def build(channels: int = 3, seed: int = 0, head: nn.Module | None = None) -> Network:
    """Make a random network whose input is (pixel - 127.5) / 128, exactly."""
    torch.manual_seed(seed)
    module = nn.Sequential()
    module.add_module("wide", nn.Conv2d(channels, 4, 3, stride=2, padding=1))
    module.add_module("wide_relu", nn.ReLU())
    module.add_module("deep", nn.Conv2d(4, 5, (3, 5), stride=2))
    module.add_module("deep_relu", nn.ReLU6() if head is None else head)
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.Linear(5 * 5 * 4, 3))
    half = (127.5 / 255,) * channels
    return Network("tiny", module, Preprocessing(Size(SIDE, SIDE), half, (128 / 255,) * channels))


def export_onnx(module: nn.Module, path: Path, images: Tensor) -> None:
    """Write a module as an ONNX file with the input ``pixels``, of any batch size, and the output ``scores``."""
    with traceable():
        torch.onnx.export(
            module, (images,), path, dynamo=False, input_names=["pixels"], output_names=["scores"],
            dynamic_axes={"pixels": {0: "batch"}},
        )  # fmt: skip


FIELDS = {
    "wide_relu": (oracle.Field(-1, 3, 2), oracle.Field(-1, 3, 2)),
    "deep_relu": (oracle.Field(-1, 7, 4), oracle.Field(-1, 11, 4)),
}


class Spoiled(nn.Module):
    """Passes everything on, but for one unit: put `value` there, on one image or on all."""

    def __init__(self, value: float, unit: int, when: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.value, self.unit, self.when = value, unit, when

    def forward(self, maps: Tensor) -> Tensor:
        """Return a spoiled copy."""
        spoiled = maps.clone()
        spoiled[:, self.unit] = self.value
        return spoiled if self.when is None else torch.where(self.when(maps)[:, None, None, None], spoiled, maps)


def images(count: int = 7, seed: int = 3, sizes: tuple[tuple[int, int], ...] = ((12, 12),)) -> list[oracle.OracleImage]:
    """Draw labels: each channel those of its column's category, the whole image those of the last one."""
    rng = np.random.default_rng(seed)
    codes = [np.array([0, *numbers]) for numbers in COVERAGE.values()]
    drawn = []
    for index in range(count):
        one = strategies.labeled_image(rng, 3, sizes[index % len(sizes)])
        planes = tuple(codes[channel % len(codes)][plane] for channel, plane in enumerate(one.label_channels))
        whole = tuple(int(codes[-1][n]) for n in one.image_level) or (int(codes[-1][1 + index % 3]),)
        drawn.append(oracle.OracleImage(planes, whole, one.size))
    return drawn
