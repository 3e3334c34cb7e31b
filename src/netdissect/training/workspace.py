"""A place for experiments in miniature: a drawn world, and scene networks trained on it, kept in one folder.

    Bench(root, scale) -> .data, .pictures, .trained(recipe), .dissected(trained)

    ROOT/bench.json                   the scale; another one is refused
    ROOT/world/                       the data set that is dissected
    ROOT/pictures.npz                 training pictures and their scenes
    ROOT/trained/DIGEST.safetensors   networks, named by the digest of their recipe
    ROOT/runs/DIGEST/                 dissections that several experiments share
    ROOT/NAME/                        what one experiment makes

Every piece is made when it is first asked for, and taken up when it is there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Fraction, Progress, Protocol, StatisticsConfig, one_or_more
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.paths import writing
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.synthetic import training_set, write_synthetic
from netdissect.training.choices import ScaleName
from netdissect.training.scene_net import (
    Images,
    Precision,
    Scenes,
    StepCallback,
    TrainConfig,
    TrainedSceneNet,
    load_trained,
    save_trained,
    settle_precision,
    train_on,
)


class Scale(BaseModel):
    """How large a miniature is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    images: int = Field(ge=1, description="Pictures that are dissected.")
    recipe: TrainConfig = Field(description="Of the network that all variants are compared with.")
    longer: int = Field(1, ge=1, description="Times the steps: for the network of rotate, layers and compare.")
    seeds: int = Field(ge=1, description="Trained networks of each variant.")
    rotations: int = Field(ge=1, description="Random rotations.")
    steps: int = Field(ge=1, description="Steps from alpha 0 to 1.")
    snapshots: int = Field(ge=2, description="Moments of the training that are dissected.")
    world: int = Field(0, ge=0, description="Seed of the dissected pictures.")
    quantiles: tuple[Fraction, ...] = Field((0.005, 0.02), description="Of the thresholds; the first decides.")
    replicates: int = Field(200, ge=0, description="Of the bootstrap over images.")
    batch_size: int = Field(64, gt=0, description="Images in one forward pass.")


SCALES: dict[ScaleName, Scale] = {
    "tiny": Scale(
        name="tiny",
        images=60,
        recipe=TrainConfig(
            size=64, pictures=160, held_out=40, units=(6, 8, 12, 16, 16), steps=12, batch_size=16, precision="float32"
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
        recipe=TrainConfig(pictures=6_000, held_out=600, steps=600, batch_size=32, learning_rate=2e-3),
        longer=3,
        seeds=3,
        rotations=5,
        steps=5,
        snapshots=6,
    ),
}


@dataclass(frozen=True)
class Workspace:
    """A folder in which a miniature is made, piece by piece.

    Attributes
    ----------
    root
        The folder.
    scale
        How large.
    progress
        Told of every stage.

    Raises
    ------
    ResultError
        If the folder holds a bench of another scale, or cannot be written.
    """

    root: Path
    scale: Scale
    progress: Progress | None = None

    def __post_init__(self) -> None:
        path, wanted = self.root / "bench.json", self.scale.model_dump_json(indent=2)
        if path.exists() and path.read_text(encoding="utf-8") != wanted:
            raise ResultError(
                f"{self.root} holds experiments of another scale or seed, as {path.name} there says. Name another "
                "folder with --out, or remove this one."
            )
        with writing(self.root, "Choose a folder on a disk with space."):
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: file.write(wanted.encode()))

    @cached_property
    def data(self) -> ConceptData:
        """The world that is dissected."""
        folder = self.root / "world"
        if not (folder / "index.csv").exists():
            scale = self.scale
            write_synthetic(
                folder, images=scale.images, size=scale.recipe.size, seed=scale.world, progress=self.progress
            )
        return ConceptData.open(folder)

    @cached_property
    def pictures(self) -> tuple[Images, Scenes]:
        """Training pictures uint8 (N, size, size, 3) and scenes int64 (N,); the first `held_out` are kept back."""
        path, recipe = self.root / "pictures.npz", self.scale.recipe
        if not path.exists():
            drawn, named = training_set(
                recipe.held_out + recipe.pictures, size=recipe.size, seed=recipe.world, progress=self.progress
            )
            write_whole(path, lambda file: np.savez(file, pictures=drawn, scenes=named))
        with np.load(path) as arrays:
            return arrays["pictures"], arrays["scenes"]

    @cached_property
    def precision(self) -> Precision:
        """Number format of all trainings: measured once, so that no variant is trained in another than its twin."""
        return settle_precision(self.scale.recipe, self.root / "precision.json").precision

    def recipe(self, **changes: object) -> TrainConfig:
        """Return the scale's recipe with some fields changed."""
        return TrainConfig.model_validate(self.scale.recipe.model_dump() | changes)

    def trained(self, recipe: TrainConfig | None = None) -> TrainedSceneNet:
        """Train a scene network, or load the one that was trained by this recipe.

        Parameters
        ----------
        recipe
            None: the scale's own. Its pictures are those of the bench.
        """
        recipe = recipe or self.scale.recipe
        path = self._network_file(recipe)
        return load_trained(path) if path.exists() else self.train(recipe)

    def trained_longer(self) -> TrainedSceneNet:
        """Train the network of the experiments that need only one: after a short training rotations cost nothing."""
        return self.trained(self.recipe(steps=self.scale.longer * self.scale.recipe.steps))

    def train(self, recipe: TrainConfig, watch: StepCallback | None = None) -> TrainedSceneNet:
        """Train a scene network and keep it, even if it is there; see `netdissect.training.scene_net.train_on`."""
        settled = recipe.model_copy(update={"precision": self.precision}) if recipe.precision == "auto" else recipe
        trained = train_on(*self.pictures, settled, progress=self.progress, watch=watch)
        path = self._network_file(recipe)
        path.parent.mkdir(exist_ok=True)
        save_trained(trained, path)
        return trained

    def _network_file(self, recipe: TrainConfig) -> Path:
        digest = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]
        return self.root / "trained" / f"{digest}.safetensors"

    def measured(self, layers: Sequence[str], replicates: int | None = None) -> DissectConfig:
        """Return what a dissection on this bench measures; None: as many replicates of the bootstrap as its scale."""
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
        # These are compared over seeds, which the replicates of one run's images cannot stand for.
        config = self.measured(trained.recipe.layers[-1:], replicates=0)
        return dissect(network, self.data, config, out=self.root / "runs" / network.digest[:16], progress=self.progress)

    def folder(self, name: str) -> Path:
        """Return the folder of one experiment; the runs of all belong below its ``runs``."""
        return self.root / name
