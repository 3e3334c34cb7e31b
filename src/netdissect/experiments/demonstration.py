"""The embedded demo: the whole method in a few minutes, on a world whose labels are known.

    draw the world -> train a scene network -> dissect it, random weights, and rotated units -> compare

Every stage is kept in the demo's folder, and a second run takes up what is there.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress, Protocol
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ResultError
from netdissect.experiments.rotate.experiment import rotated_name, with_rotations
from netdissect.models import Network
from netdissect.paths import writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.synthetic import write_synthetic
from netdissect.training.scene_net import (
    DEMO,
    FAST,
    LAYERS,
    TrainConfig,
    TrainedSceneNet,
    load_trained,
    preprocessing,
    save_trained,
    scene_network,
    train,
)

logger = logging.getLogger(__name__)

# Beside the paper's 0.005: in a world of small pictures many concepts are too large to be agreed with at 0.005.
QUANTILES = (0.005, 0.02)


class DemoConfig(BaseModel):
    """How much the demo draws, trains and dissects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(3000, ge=1, description="Pictures that are dissected.")
    recipe: TrainConfig = Field(DEMO, description="How the network is trained.")
    world: int = Field(0, ge=0, description="Seed of the dissected pictures.")
    rotations: tuple[int, ...] = Field((0,), description="Seeds of the random rotations of the last convolution.")
    batch_size: int = Field(64, gt=0, description="Images in one forward pass.")


FULL_DEMO = DemoConfig()
FAST_DEMO = DemoConfig(images=400, recipe=FAST)


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    trained
        The scene network.
    units
        Its dissection: five convolutions, and conv5 in randomly rotated bases.
    random
        The dissection of the same network with random weights.
    rotated
        Names of the rotated layers in `units`.
    seconds
        Wall time of each stage.
    """

    trained: TrainedSceneNet
    units: Result
    random: Result
    rotated: tuple[str, ...]
    seconds: dict[str, float]


def demo(out: str | Path, config: DemoConfig = FULL_DEMO, *, progress: Progress | None = None) -> Demo:
    """Run the demo, or take up what an earlier one left in the folder.

    Parameters
    ----------
    out
        Folder of the world, the weights and the runs.
    config
        How much of it.
    progress
        Told of every stage.

    Raises
    ------
    NetdissectError
        If the folder holds something else, or cannot be written.
    """
    out, seconds = Path(out), dict[str, float]()
    _claim(out, config)
    size = config.recipe.size
    with timed("draw the world", seconds):
        data = _world(out / "world", config, progress)
    with timed("train the network", seconds):
        trained = _trained(out / "scene_network.safetensors", config.recipe, progress)
    last = LAYERS[-1]
    network = with_rotations(trained.network(), last, config.rotations)
    untrained = scene_network(config.recipe.units, seed=config.recipe.seed)
    random = Network("scene network with random weights", untrained, preprocessing(size))
    measured = DissectConfig(layers=LAYERS, protocol=Protocol(quantiles=QUANTILES), batch_size=config.batch_size)
    rotated = tuple(rotated_name(last, seed) for seed in config.rotations)
    logger.info("dissecting the network, its last layer in rotated bases, and then the same with random weights")
    with timed("dissect", seconds):
        units = dissect(
            network, data, measured, layers=[*LAYERS, *rotated], out=out / "runs" / "trained", progress=progress
        )
    with timed("dissect random weights", seconds):
        chance = dissect(random, data, measured, out=out / "runs" / "random", progress=progress)
    return Demo(trained, units, chance, rotated, seconds)


def _claim(out: Path, config: DemoConfig) -> None:
    """Write down what the folder holds, or refuse one that holds another demo."""
    path, wanted = out / "demo.json", config.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise ResultError(
            f"{out} holds a demo of another size or seed, as {path.name} there says. Name another folder with --out, "
            "or remove this one."
        )
    with writing(out, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(wanted.encode()))


def _world(folder: Path, config: DemoConfig, progress: Progress | None) -> ConceptData:
    if not (folder / "index.csv").exists():
        logger.info("drawing %s pictures whose labels are known", f"{config.images:,}")
        write_synthetic(folder, images=config.images, size=config.recipe.size, seed=config.world, progress=progress)
    return ConceptData.open(folder)


def _trained(path: Path, recipe: TrainConfig, progress: Progress | None) -> TrainedSceneNet:
    if path.exists():
        return load_trained(path)
    logger.info("drawing %s others, and training a network on them", f"{recipe.pictures:,}")
    trained = train(recipe, progress=progress)
    save_trained(trained, path)
    return trained
