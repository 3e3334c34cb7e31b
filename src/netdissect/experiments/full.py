"""The paper at full size: what needs only networks, a data set and time, and what it will cost.

    full_plan(networks, concepts, config, out) -> lines to read first
    full_paper(networks, concepts, config, out=...) -> outcomes of rotate, layers and compare

Trained variants are asked on the synthetic world alone: the paper's took weeks of training.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.plan import Plan, make_plan
from netdissect.errors import ConfigError
from netdissect.experiments.comparison import CompareConfig, compare
from netdissect.experiments.layerwise import LayersConfig, convolutions, layers
from netdissect.experiments.outcome import Outcome
from netdissect.experiments.rotations import RotateConfig, rotate, with_rotations
from netdissect.models import Network, resolve_layers


class FullConfig(BaseModel):
    """What the whole paper measures on one's own networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1, description="Of the networks.")
    layers: tuple[str, ...] = Field(min_length=1, description="The last convolution: one for all, or one for each.")
    limit: int | None = Field(None, gt=0, description="Dissect this many images, drawn by `seed`; None: all.")
    batch_size: int = Field(32, gt=0, description="Images in one forward pass.")
    rotations: tuple[int, ...] = Field((0, 1, 2, 3, 4), description="Seeds of random rotations.")
    steps: int = Field(5, ge=1, description="Steps from alpha 0 to 1.")

    def layer_of(self, index: int) -> str:
        """Return the layer of a network."""
        return self.layers[index if len(self.layers) > 1 else 0]

    def measured(self, names: Sequence[str]) -> DissectConfig:
        """Return the dissection of some layers."""
        return DissectConfig(layers=tuple(names), limit=self.limit, batch_size=self.batch_size)


def full_plan(networks: Sequence[Network], concepts: str | Path, config: FullConfig, out: str | Path) -> Iterator[str]:
    """Check the inputs, and say what will be done and what it takes.

    Yields
    ------
    str
        A line for the data, one for each experiment and network, and one for the disk.

    Raises
    ------
    NetdissectError
        If the data set, a network or a layer cannot be used.
    """
    if len(config.layers) not in (1, len(networks)):
        raise ConfigError(
            f"{len(config.layers)} layers were named for {len(networks)} networks. Expected one for all, or one for "
            "each."
        )
    data = ConceptData.open(concepts, limit=config.limit)
    yield f"{len(data):,} images, {len(data.concepts):,} concepts of {', '.join(data.categories)}"
    place = Path(out) if Path(out).exists() else Path(out).resolve().parent
    plans: list[Plan] = []
    for experiment, network, names in _dissections(networks, config):
        resolved = resolve_layers(network, names)
        found = make_plan(resolved, network.preprocessing.size, len(data), config.measured(names), Execution(), place)
        plans.append(found)
        yield f"{experiment}, {network.name}: {found}"
    free = shutil.disk_usage(place).free
    most = max(plan.disk_bytes for plan in plans)
    passes = sum(plan.passes for plan in plans)
    yield (
        f"{passes} forward passes in all; at most {most / 1e9:.3g} GB on disk at a time, and {free / 1e9:.3g} GB are "
        "free. Trained variants (snapshots, seeds, dropout, batchnorm, width, depth) are asked by the scale small."
    )


def _dissections(networks: Sequence[Network], config: FullConfig) -> Iterator[tuple[str, Network, tuple[str, ...]]]:
    """Yield every run of the plan: experiment, network with its bases, layers."""
    alphas = RotateConfig(dissect=config.measured(config.layers[:1]), steps=config.steps).alphas
    layer = config.layer_of(0)
    rotated = with_rotations(networks[0], layer, config.rotations, alphas)
    yield "rotate", rotated, (layer, *(name for name in rotated.bases if name not in networks[0].bases))
    yield "layers", networks[0], convolutions(networks[0])
    for index, network in enumerate(networks):
        yield "compare", network, (config.layer_of(index),)


def full_paper(
    networks: Sequence[Network],
    concepts: str | Path,
    config: FullConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Rotate and follow the layers of the first network, and compare all of them.

    Yields
    ------
    Outcome
        With the wall time of the whole experiment as ``seconds["all"]``; runs are kept below ``OUT/NAME/runs``.
    """
    out, first, last = Path(out), networks[0], config.layer_of(0)
    turned = RotateConfig(dissect=config.measured([last]), seeds=config.rotations, steps=config.steps)
    deep = LayersConfig(dissect=config.measured(convolutions(first)))
    several = CompareConfig(dissect=config.measured(config.layers), layers=config.layers)
    started = monotonic()
    experiments: tuple[Callable[[], Outcome], ...] = (
        lambda: rotate(first, concepts, turned, out=out / "rotate", progress=progress),
        lambda: layers(first, concepts, deep, out=out / "layers", progress=progress),
        lambda: compare(networks, several, out=out / "compare", concepts=concepts, progress=progress),
    )
    for experiment in experiments:
        outcome = experiment()
        outcome.seconds["all"], started = round(monotonic() - started, 1), monotonic()
        yield outcome
