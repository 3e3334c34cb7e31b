"""A small generator of synthetic scenes in which the causes of some concepts are known.

    latents (scene, style, things) -> code -> layer1 -> layer2 -> layer3 -> image of 64 x 64 pixels in [-1, 1]

A scene of the synthetic data set is described by its class, its mean colors and where its vegetation, buildings and
vehicles are. Free units are trained to draw it from class and colors. Each of these three groups of things has one
planted unit in `layer1`, which alone draws it: the layers behind pass the unit on and paint it in a color that occurs
nowhere else. A last unit, the decoy, has the same activations as the first planted one, and no layer uses it: it
matches vegetation as well, and causes nothing.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from netdissect.config_fields import Config
from netdissect.models import Generator, as_generator
from netdissect.synthetic import SCENE_NAMES
from netdissect.synthetic.draw_image import DrawnImage, draw
from netdissect.training.scene_net import file_source
from netdissect.training.weights_file import as_checkpoint_error, read_weights, write_weights

CONFIG = "generator_config"
"""Name of the fact of its files that is the configuration."""

SIZE = 64
STYLE_GRID, THING_GRID = 4, 8
FEWEST_PIXELS = 0.25
"""Share of a cell of `things` from which on it holds the thing."""
GRADED = 0.3
"""Part of the activation of a planted unit that differs from cell to cell."""
PAINT = 12.0
"""What a planted unit of activation 1 adds to the output before its hyperbolic tangent."""
TOLERANCE = 48
"""Largest difference of a painted pixel from its color, in levels of each channel."""


class PlantedConcept(NamedTuple):
    """A concept with a known cause: the things of the synthetic data set that are drawn, and their color."""

    name: str
    color: tuple[int, int, int]
    things: frozenset[str]


PLANTED = (
    PlantedConcept("vegetation", (0, 255, 0), frozenset({"tree", "fir", "palm", "bush", "cactus"})),
    PlantedConcept(
        "building", (255, 0, 255), frozenset({"house", "barn", "tower block", "lighthouse", "market stall"})
    ),
    PlantedConcept(
        "vehicle", (0, 255, 255), frozenset({"car", "truck", "bus", "train", "tractor", "airplane", "ship"})
    ),
)
"""Vegetation first: the decoy copies its unit."""


class GeneratorConfig(Config):
    """How a scene generator is built and trained."""

    units: int = Field(32, ge=1, description="Free units of layer1.")
    num_images: int = Field(1_500, ge=1, description="Training scenes.")
    data_seed: int = Field(1, ge=0, description="Seed of the training scenes.")
    steps: int = Field(500, ge=1, description="Optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Scenes in a step.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak of the one-cycle schedule.")
    seed: int = Field(0, ge=0, description="Of the initial weights and the order of scenes.")

    @property
    def planted_units(self) -> dict[str, int]:
        """The unit of layer1 that draws each concept."""
        return {concept.name: self.units + index for index, concept in enumerate(PLANTED)}

    @property
    def decoy(self) -> int:
        """The unit of layer1 that matches vegetation and has no effect."""
        return self.units + len(PLANTED)


class SceneGenerator(nn.Module):
    """The module of a scene generator; see the top of this file.

    Parameters
    ----------
    config
        Units and seed of the initial weights; the global generator is not changed.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        free, planted = config.units, len(PLANTED)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.scene = nn.Embedding(len(SCENE_NAMES), 16)
            self.start = nn.Linear(16 + 3 * STYLE_GRID**2, free * THING_GRID**2)
            self.layer1 = _doubled(free + planted, free + planted + 1)
            self.layer2 = _doubled(free + planted + 1, free + planted)
            self.layer3 = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(free + planted, 3, 3, padding=1))
        self.plant()

    def forward(self, scene: Tensor, style: Tensor, things: Tensor) -> Tensor:
        """Draw scenes.

        Parameters
        ----------
        scene : int64 (B,)
            Index of the class.
        style : float32 (B, 48)
            Mean colors of 4 x 4 cells, from -1 to 1.
        things : float32 (B, 3, 8, 8)
            Where the planted concepts are; see `scene_latents`.

        Returns
        -------
        float32 (B, 3, 64, 64)
            From -1 to 1.
        """
        code = self.start(torch.cat([self.scene(scene), style], 1)).relu().unflatten(1, (-1, THING_GRID, THING_GRID))
        drawn: Tensor = self.layer3(self.layer2(self.layer1(torch.cat([code, things], 1))))
        return drawn.tanh()

    @torch.no_grad()
    def plant(self) -> None:
        """Set the weights of planted units and of the decoy; training changes them, and calls this after each step."""
        free, count = self.config.units, len(PLANTED)
        first, second, last = map(_convolution, (self.layer1, self.layer2, self.layer3))
        _separate(first, free, free)
        _separate(second, free, free)
        for index, concept in enumerate(PLANTED):
            for convolution in (first, second):
                convolution.weight[free + index, free + index, 1, 1] = 1
            last.weight[:, free + index] = 0
            last.weight[:, free + index, 1, 1] = PAINT * (torch.tensor(concept.color) / 127.5 - 1)
        first.weight[free + count, free, 1, 1] = 1


def _doubled(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


def _convolution(layer: nn.Module) -> nn.Conv2d:
    """Return the convolution of a layer."""
    return next(part for part in layer.modules() if isinstance(part, nn.Conv2d))


def _separate(convolution: nn.Conv2d, inputs: int, outputs: int) -> None:
    """Remove all weights but those from free inputs to free outputs."""
    convolution.weight[outputs:] = 0
    convolution.weight[:, inputs:] = 0
    if convolution.bias is not None:
        convolution.bias[outputs:] = 0


class SceneLatents(NamedTuple):
    """The latents of one scene: scene int64 (), style float32 (48,), things float32 (3, 8, 8)."""

    scene: Tensor
    style: Tensor
    things: Tensor


def scene_latents(drawn: DrawnImage, grades: Tensor) -> SceneLatents:
    """Describe a drawn scene of 64 x 64 pixels.

    Parameters
    ----------
    drawn
        The scene.
    grades : float32 (3, 8, 8)
        From 0 to 1. A cell that holds a thing is 0.7 + 0.3 times its grade, and others are 0: a unit that is as active
        in each of many cells has none above its threshold.
    """
    pixels = torch.from_numpy(np.array(drawn.image)).permute(2, 0, 1) / 127.5 - 1
    style = nn.functional.adaptive_avg_pool2d(pixels, STYLE_GRID).flatten()
    masks = torch.from_numpy(thing_masks(drawn)).float()
    holds = nn.functional.adaptive_avg_pool2d(masks, THING_GRID) >= FEWEST_PIXELS
    scene = torch.tensor(SCENE_NAMES.index(drawn.scene or ""))
    return SceneLatents(scene, style, holds * (1 - GRADED + GRADED * grades))


def thing_masks(drawn: DrawnImage) -> npt.NDArray[np.bool_]:
    """Return which pixels show each planted concept, bool (3, H, W)."""
    shown = [[surface.thing in concept.things for surface in drawn.drawing.surfaces] for concept in PLANTED]
    return np.array(shown, bool)[:, drawn.drawing.surface_of]


def sample_scene(generator: torch.Generator) -> SceneLatents:
    """Draw the latents of one sample: those of a random scene of the synthetic data set."""
    index = int(torch.randint(2**31, (), generator=generator))
    return scene_latents(_drawn(index), torch.rand(len(PLANTED), THING_GRID, THING_GRID, generator=generator))


@lru_cache(maxsize=1024)
def _drawn(index: int) -> DrawnImage:
    return draw(index, SAMPLE_SEED, SIZE, swatch_share=0.0)


SAMPLE_SEED = 0
"""Seed of the scenes of samples; training scenes have another one."""


SOFTNESS = 16.0
"""Levels over which the score of a paint falls from 0.73 to 0.27, at the tolerance."""


class PaintScores(nn.Module):
    """Scores of the planted concepts by how far pixels are from their colors."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 (B, 3, H, W), from 0 to 1, of pixels float32 (B, 3, H, W) from 0 to 255; differentiable."""
        colors = pixels.new_tensor([concept.color for concept in PLANTED])[:, :, None, None]
        return ((TOLERANCE - (pixels[:, None] - colors).abs().amax(2)) / SOFTNESS).sigmoid()


class PaintSegmenter:
    """Finds the planted concepts by their colors, without error: ``python:netdissect.training:PaintSegmenter``."""

    labels = tuple((concept.name, "object") for concept in PLANTED)

    def __init__(self) -> None:
        self.module = PaintScores()

    def segment(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """Return label maps int32 (B, 1, H, W) of images uint8 (B, H, W, 3)."""
        labels = np.zeros(images.shape[:3], np.int32)
        for number, concept in enumerate(PLANTED, start=1):
            near = np.abs(images.astype(np.int64) - concept.color).max(axis=3) <= TOLERANCE
            labels[near] = number
        return labels[:, None]


def scene_generator(module: SceneGenerator) -> Generator:
    """Return a scene generator with its sampler, ready to be dissected."""
    return as_generator(module, sample_scene, name="scene generator")


def save_generator(module: SceneGenerator, path: str | Path) -> Path:
    """Write weights and configuration as one ``.safetensors`` file."""
    return write_weights(path, module, {CONFIG: module.config.model_dump(mode="json")})


def load_generator(path: str | Path) -> Generator:
    """Read what `save_generator` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds no scene generator.
    """
    train_one = "Train one with netdissect.training.train_generator."
    with as_checkpoint_error(path, "a scene generator that save_generator wrote", missing=train_one, damaged=train_one):
        weights, (config,) = read_weights(path, CONFIG)
        module = SceneGenerator(GeneratorConfig.model_validate(config)).eval()
        module.load_state_dict(weights)
    return replace(scene_generator(module), name=Path(path).stem, source=file_source(path))
