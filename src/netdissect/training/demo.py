"""The demo: the whole method in a few minutes, on a synthetic data set whose labels are known.

    render the data set -> train a scene network -> dissect it, random weights, and rotated units -> compare

The result of every stage is saved in the folder of the demo, and a second run reuses it.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress, Protocol
from netdissect.config_fields import Config
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ResultError
from netdissect.models.surgery.rotations import rotated_name, with_rotations
from netdissect.paths import writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.synthetic import write_synthetic
from netdissect.training.load_trained import trained_network
from netdissect.training.scene_net import (
    DEMO,
    FAST,
    LAYERS,
    TrainConfig,
    TrainedSceneNet,
    load_trained,
    save_trained,
)
from netdissect.training.train import train

logger = logging.getLogger(__name__)

# Besides the 0.005 of the paper: on small synthetic images many concepts are too large for a mask of 0.5 %.
QUANTILES = (0.005, 0.02)
NETWORK_FILE = "scene_network.safetensors"


class DemoConfig(Config):
    """How much the demo renders, trains and dissects."""

    images: int = Field(3000, ge=1, description="Images that are dissected.")
    train_config: TrainConfig = Field(DEMO, description="How the network is trained.")
    data_seed: int = Field(0, ge=0, description="Seed of the dissected images.")
    rotations: tuple[int, ...] = Field((0,), description="Seeds of the random rotations of the last convolution.")
    batch_size: int = Field(64, gt=0, description="Images in one forward pass.")


FULL_DEMO = DemoConfig()
FAST_DEMO = DemoConfig(images=400, train_config=FAST)


@dataclass(frozen=True)
class Demo:
    """Results of the demo.

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
    """Run the demo, or reuse what an earlier one left in the folder.

    Parameters
    ----------
    out
        Folder of the data set, the weights and the runs.
    config
        Sizes.
    progress
        Receives every stage.

    Raises
    ------
    NetdissectError
        If the folder holds something else, or cannot be written.
    """
    out, seconds = Path(out), dict[str, float]()
    _claim(out, config)
    with timed("render the data set", seconds):
        data = _synthetic(out / "synthetic", config, progress)
    with timed("train the network", seconds):
        trained = _trained(out / NETWORK_FILE, config.train_config, progress)
    last = LAYERS[-1]
    network = with_rotations(trained.network(), last, config.rotations)
    random = replace(
        trained_network(out / NETWORK_FILE, config.train_config.seed), name="scene network with random weights"
    )
    dissect_config = DissectConfig(layers=LAYERS, protocol=Protocol(quantiles=QUANTILES), batch_size=config.batch_size)
    rotated = tuple(rotated_name(last, seed) for seed in config.rotations)
    logger.info("dissecting the network, its last layer in rotated bases, and then the same with random weights")
    with timed("dissect", seconds):
        units = dissect(
            network,
            data,
            config=dissect_config,
            layers=[*LAYERS, *rotated],
            out=out / "runs" / "trained",
            progress=progress,
        )
    with timed("dissect random weights", seconds):
        random_result = dissect(random, data, config=dissect_config, out=out / "runs" / "random", progress=progress)
    return Demo(trained, units, random_result, rotated, seconds)


def _claim(out: Path, config: DemoConfig) -> None:
    """Save the configuration in the folder, or refuse a folder with another one."""
    path, content = out / "demo.json", config.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise ResultError(
            f"{out} holds a demo of another size or seed, as {path.name} there says. Name another folder with --out, "
            "or remove this one."
        )
    with writing(out, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(content.encode()))


def _synthetic(folder: Path, config: DemoConfig, progress: Progress | None) -> ConceptData:
    if not (folder / "index.csv").exists():
        logger.info("rendering %s images whose labels are known", f"{config.images:,}")
        write_synthetic(
            folder, images=config.images, size=config.train_config.size, seed=config.data_seed, progress=progress
        )
    return ConceptData.open(folder)


def _trained(path: Path, train_config: TrainConfig, progress: Progress | None) -> TrainedSceneNet:
    if path.exists():
        return load_trained(path)
    logger.info("rendering %s other images, and training a network on them", f"{train_config.num_images:,}")
    trained = train(train_config, progress=progress)
    return load_trained(save_trained(trained, path))
