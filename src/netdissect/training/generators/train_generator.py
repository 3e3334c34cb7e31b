"""Train a scene generator: its free units learn to draw a scene from its class and its mean colors."""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netdissect.config import Progress
from netdissect.synthetic.draw_image import draw
from netdissect.training.generators.scene_generator import (
    PLANTED,
    SIZE,
    THING_GRID,
    GeneratorConfig,
    SceneGenerator,
    SceneLatents,
    scene_latents,
)


def train_generator(config: GeneratorConfig | None = None, *, progress: Progress | None = None) -> SceneGenerator:
    """Train a scene generator.

    Parameters
    ----------
    config
        None: the default, which takes about two minutes on two cores.
    progress
        Called with the scenes drawn and the steps done.

    Returns
    -------
    SceneGenerator
        In evaluation mode, without gradients. `scene_generator` makes a network of it, `save_generator` writes it.

    Notes
    -----
    Minimizes the mean absolute difference from the drawn scene outside the cells that planted units paint, by Adam with
    a one-cycle schedule. The weights of planted units are not trained.
    """
    config = config or GeneratorConfig()
    latents, images = _scenes(config, progress)
    module, order = SceneGenerator(config).train(), torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    for step in range(config.steps):
        rows = torch.randint(len(images), (config.batch_size,), generator=order)
        batch = SceneLatents(*(part[rows] for part in latents))
        loss = _loss(module(*batch), images[rows], batch.things)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        module.plant()
        if progress:
            progress("training", step + 1, config.steps)
    return module.eval().requires_grad_(False)


def _scenes(config: GeneratorConfig, progress: Progress | None) -> tuple[SceneLatents, Tensor]:
    """Draw the training scenes: their latents, and images float32 (N, 3, 64, 64) from -1 to 1."""
    described: list[SceneLatents] = []
    images: list[npt.NDArray[np.uint8]] = []
    grades = torch.Generator().manual_seed(config.data_seed)
    scene = partial(draw, seed=config.data_seed, size=SIZE, swatch_share=0.0)
    for index in range(config.num_images):
        drawn = scene(index)
        described.append(scene_latents(drawn, torch.rand(len(PLANTED), THING_GRID, THING_GRID, generator=grades)))
        images.append(drawn.image)
        if progress:
            progress("training set", index + 1, config.num_images)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
    return SceneLatents(*(torch.stack(parts) for parts in zip(*described, strict=True))), pixels


def _loss(drawn: Tensor, images: Tensor, things: Tensor) -> Tensor:
    painted = nn.functional.interpolate((things.amax(1, keepdim=True) > 0).float(), scale_factor=SIZE // THING_GRID)
    free = 1 - painted
    return ((drawn - images).abs() * free).sum() / (3 * free.sum()).clamp(min=1)
