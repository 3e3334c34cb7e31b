"""The workspace of the experiments at synthetic scale: a synthetic data set and scene networks trained on it.

    Workspace(root, scale) -> .data, .train_images, .trained(train_config), .dissected(trained)

    ROOT/workspace.json               the scale; another one is refused
    ROOT/synthetic/                   the data set that is dissected
    ROOT/train_images.npz             training images and their scenes
    ROOT/trained/DIGEST.safetensors   networks, named by the digest of their configuration
    ROOT/captioned/                   images of the captions of the two-tower network; not those that are dissected
    ROOT/two_tower.safetensors        that network
    ROOT/runs/DIGEST/                 dissections that several experiments share
    ROOT/caches/                      label maps, decoded once
    ROOT/NAME/                        files of one experiment

Each file is made at its first use and reused afterwards.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Fraction, Progress, Protocol, StatisticsConfig, one_or_more
from netdissect.config_fields import Config
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.models import Network
from netdissect.paths import OTHER_FOLDER, writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.synthetic import training_set, write_synthetic
from netdissect.training.choices import ScaleName
from netdissect.training.scene_net import (
    Images,
    Precision,
    Scenes,
    TrainConfig,
    TrainedSceneNet,
    load_trained,
    save_trained,
)
from netdissect.training.train import StepCallback, settle_precision, train_on
from netdissect.training.two_towers.train_two_tower import train_two_tower
from netdissect.training.two_towers.two_tower import TwoTower, load_two_tower, save_two_tower

CAPTIONED = 100_000
"""What is added to the seed of the dissected images for those of captions."""


class Scale(Config):
    """Sizes at synthetic scale."""

    name: str
    images: int = Field(ge=1, description="Images that are dissected.")
    train_config: TrainConfig = Field(description="Of the network that all conditions change.")
    step_multiplier: int = Field(
        1, ge=1, description="Times the steps, for the network of rotate, layer-profile and compare."
    )
    seeds: int = Field(ge=1, description="Networks trained under each condition, from the seeds 0, 1, ...")
    rotations: int = Field(ge=1, description="Random rotations.")
    steps: int = Field(ge=1, description="Steps from alpha 0 to 1.")
    snapshots: int = Field(ge=2, description="Steps of the training at which it is dissected.")
    data_seed: int = Field(0, ge=0, description="Seed of the dissected images.")
    quantiles: tuple[Fraction, ...] = Field((0.005, 0.02), description="Of the thresholds; the first decides.")
    replicates: int = Field(200, ge=0, description="Of the bootstrap over images.")
    batch_size: int = Field(64, gt=0, description="Images in one forward pass.")


SCALES: dict[ScaleName, Scale] = {
    "tiny": Scale(
        name="tiny",
        images=60,
        train_config=TrainConfig(
            size=64, num_images=160, held_out=40, units=(6, 8, 12, 16, 16), steps=12, batch_size=16, precision="float32"
        ),
        seeds=2,
        rotations=2,
        steps=2,
        snapshots=2,
        replicates=20,
    ),
    "small": Scale(
        name="small",
        images=1500,
        train_config=TrainConfig(num_images=6_000, held_out=600, steps=600, batch_size=32, learning_rate=2e-3),
        step_multiplier=3,
        seeds=3,
        rotations=5,
        steps=5,
        snapshots=6,
    ),
}


@dataclass(frozen=True)
class Workspace:
    """A folder of data and networks at synthetic scale.

    Attributes
    ----------
    root
        The folder.
    scale
        Sizes.
    progress
        Receives every stage.

    Raises
    ------
    ResultError
        If the folder holds a workspace of another scale, or cannot be written.
    """

    root: Path
    scale: Scale
    progress: Progress | None = None

    def __post_init__(self) -> None:
        path, content = self.root / "workspace.json", self.scale.model_dump_json(indent=2)
        if path.exists() and path.read_text(encoding="utf-8") != content:
            raise ResultError(
                f"{self.root} holds experiments of another scale or seed, as {path.name} there says. Name another "
                "folder with --out, or remove this one."
            )
        with writing(self.root, "Choose a folder on a disk with space."):
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: file.write(content.encode()))

    @cached_property
    def data(self) -> ConceptData:
        """The synthetic data set that is dissected."""
        folder = self.root / "synthetic"
        if not (folder / "index.csv").exists():
            scale = self.scale
            write_synthetic(
                folder, images=scale.images, size=scale.train_config.size, seed=scale.data_seed, progress=self.progress
            )
        return ConceptData.open(folder)

    @cached_property
    def train_images(self) -> tuple[Images, Scenes]:
        """Training images uint8 (N, size, size, 3) and scenes int64 (N,); the first `held_out` are held out."""
        path, train_config = self.root / "train_images.npz", self.scale.train_config
        if not path.exists():
            images, scenes = training_set(
                train_config.held_out + train_config.num_images,
                size=train_config.size,
                seed=train_config.data_seed,
                progress=self.progress,
            )
            with writing(path, OTHER_FOLDER):
                write_whole(path, lambda file: np.savez(file, images=images, scenes=scenes))
        with np.load(path) as arrays:
            return arrays["images"], arrays["scenes"]

    @cached_property
    def precision(self) -> Precision:
        """Number format of all trainings, measured once: conditions are compared in the same one."""
        return settle_precision(self.scale.train_config, self.root / "precision.json").precision

    def train_config(self, **changes: object) -> TrainConfig:
        """Return the configuration of the scale with some fields changed."""
        return TrainConfig.model_validate(self.scale.train_config.model_dump() | changes)

    def trained(self, train_config: TrainConfig | None = None) -> TrainedSceneNet:
        """Train a scene network, or load the one that was trained with this configuration.

        Parameters
        ----------
        train_config
            None: that of the scale. The images are those of the workspace.
        """
        train_config = train_config or self.scale.train_config
        path = self._network_file(train_config)
        return load_trained(path) if path.exists() else self.train(train_config)

    def train_longer(self) -> TrainedSceneNet:
        """Train the network of the experiments that need only one; after a short training rotations cost nothing."""
        return self.trained(self.train_config(steps=self.scale.step_multiplier * self.scale.train_config.steps))

    def train(self, train_config: TrainConfig, callback: StepCallback | None = None) -> TrainedSceneNet:
        """Train a scene network and keep it, even if it is there; see `netdissect.training.train.train_on`."""
        settled = (
            train_config.model_copy(update={"precision": self.precision})
            if train_config.precision == "auto"
            else train_config
        )
        trained = train_on(*self.train_images, settled, progress=self.progress, callback=callback)
        return load_trained(save_trained(trained, self._network_file(train_config)))

    def two_tower(self) -> TwoTower:
        """Train a network that embeds images and words, or load it: on captions of as many other images."""
        path, scale = self.root / "two_tower.safetensors", self.scale
        if not path.exists():
            folder, size = self.root / "captioned", scale.train_config.size
            if not (folder / "index.csv").exists():
                seed = scale.data_seed + CAPTIONED
                write_synthetic(folder, images=scale.images, size=size, seed=seed, progress=self.progress)
            steps = scale.step_multiplier * scale.train_config.steps
            train_config = self.train_config(steps=steps, batch_norm=True, precision="float32")
            save_two_tower(train_two_tower(ConceptData.open(folder), train_config, progress=self.progress), path)
        return load_two_tower(path)

    def _network_file(self, train_config: TrainConfig) -> Path:
        digest = hashlib.sha256(train_config.model_dump_json().encode()).hexdigest()[:16]
        return self.root / "trained" / f"{digest}.safetensors"

    def dissect_config(self, layers: Sequence[str], replicates: int | None = None) -> DissectConfig:
        """Return the configuration of a dissection; `replicates` of the bootstrap, None: those of the scale."""
        protocol = Protocol(quantiles=self.scale.quantiles)
        return DissectConfig(
            layers=one_or_more(layers),
            protocol=protocol,
            batch_size=self.scale.batch_size,
            statistics=StatisticsConfig(bootstrap=self.scale.replicates if replicates is None else replicates),
        )

    def dissected(self, trained: TrainedSceneNet) -> Result:
        """Dissect the last convolution of a scene network; experiments share its run, ``ROOT/runs/DIGEST``."""
        network = trained.network()
        # These are compared over seeds; the bootstrap over the images of one run is another uncertainty.
        config = self.dissect_config(trained.train_config.layers[-1:], replicates=0)
        return self.dissect(network, config, self.root / "runs" / network.digest[:16])

    def dissect(self, network: Network, config: DissectConfig, run: Path) -> Result:
        """Dissect a network on the data set, whose label maps are decoded for the first run alone."""
        execution = Execution(cache_folder=self.root / "caches")
        return dissect(network, self.data, config=config, execution=execution, out=run, progress=self.progress)

    def folder(self, name: str) -> Path:
        """Return the folder of one experiment."""
        return self.root / name
