"""Which experiments one's own networks and data allow, and what they cost.

ReproduceConfig -> ReproduceJob -> Experiment.requirements(job) -> ScheduledExperiment
reproduce_plan(networks, concepts, config, out) -> lines to read before anything runs
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch

from netdissect.concepts import ConceptData
from netdissect.config import Execution, Progress
from netdissect.dissect import dissect
from netdissect.dissect.cost_plan import make_plan
from netdissect.dissect.devices import choose_device
from netdissect.errors import ConfigError
from netdissect.experiments.inputs import caching
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.registry import REGISTRY, load_experiment
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.models import Network, resolve_layers
from netdissect.models.surgery.linear_head import dummy_input
from netdissect.result import Result
from netdissect.training.workspace import SCALES, Workspace

TIMED = 4
"""Images by which a forward pass is timed."""


def run_folder(out: Path, index: int, network: Network) -> Path:
    """Return the folder of the dissection of a network, below the folder of the experiment."""
    return out / "runs" / f"{index}-{re.sub(r'[^A-Za-z0-9]+', '-', network.name).strip('-')}"


class Cost(NamedTuple):
    """A cost: in words, bytes on disk meanwhile, seconds of forward passes and training steps."""

    words: str
    disk: int = 0
    seconds: float = 0.0


class ScheduledExperiment(NamedTuple):
    """What an experiment takes, or what is missing for it.

    Attributes
    ----------
    costs
        What it takes; where it cannot be done, why.
    run
        Runs it; None: something is missing.
    """

    costs: tuple[Cost, ...]
    run: Callable[[], ExperimentResult] | None = None

    @classmethod
    def without(cls, missing: str) -> "ScheduledExperiment":
        """Return an experiment that is left out, and why."""
        return cls((Cost(f"left out ({missing})"),))


@dataclass(frozen=True)
class ReproduceJob:
    """One's own networks and data, and the folder of the results."""

    networks: Sequence[Network]
    concepts: str | Path
    config: ReproduceConfig
    out: Path
    progress: Progress | None = None
    _forward_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def first(self) -> Network:
        """The network of the experiments that take one network."""
        return self.networks[0]

    @property
    def layer(self) -> str:
        """Its last convolution."""
        return self.config.layer_of(0)

    @cached_property
    def data(self) -> ConceptData:
        """The data set, or a sample of it."""
        return ConceptData.open(self.concepts, max_images=self.config.max_images)

    @cached_property
    def workspace(self) -> Workspace:
        """Where networks are trained under several conditions."""
        return Workspace(self.out / "synthetic", SCALES[self.config.train or "small"], self.progress)

    @property
    def existing_folder(self) -> Path:
        """An existing folder on the disk of the results."""
        return next(path for path in (self.out.resolve(), *self.out.resolve().parents) if path.exists())

    def dissection(self, network: Network, names: Sequence[str], times: int = 1) -> Cost:
        """Return the cost of dissecting some layers, `times` in a row."""
        config = self.config.dissect_config(names)
        plan = make_plan(
            resolve_layers(network, names),
            network.preprocessing.size,
            len(self.data),
            config.model_copy(update={"device": choose_device(config.device, network)}),
            Execution(),
            self.existing_folder,
        )
        passes = times * plan.passes * len(self.data)
        each = "" if times == 1 else f"{times} times "
        return Cost(f"{network.name}: {each}{plan}", plan.disk_bytes, passes * self.forward_seconds(network))

    def forward_seconds(self, network: Network) -> float:
        """Measure the seconds that a forward pass of one image takes."""
        key = id(network.module)  # a network with other bases runs the same module
        if key not in self._forward_seconds:
            images = dummy_input(network, TIMED)
            with torch.no_grad(), network.prepared():
                network.forward(images)
                started = perf_counter()
                network.forward(images)
            self._forward_seconds[key] = (perf_counter() - started) / TIMED
        return self._forward_seconds[key]

    def dissected(self, index: int) -> Result:
        """Dissect a network's last convolution, or reuse the run of compare, which other experiments share."""
        network, config = self.networks[index], self.config
        run = run_folder(self.out / "compare", index, network)
        dissection, layers = config.dissect_config(config.layers), [config.layer_of(index)]
        return dissect(
            network, self.concepts, config=dissection, execution=caching(self.out), layers=layers, out=run,
            progress=self.progress,
        )  # fmt: skip

    def schedule(self) -> Mapping[str, ScheduledExperiment]:
        """Return every experiment in the order of the paper, with its cost or what is missing for it."""
        return {name: load_experiment(name).requirements(self) for name in REGISTRY}


def make_job(
    networks: Sequence[Network],
    concepts: str | Path,
    config: ReproduceConfig,
    out: str | Path,
    progress: Progress | None = None,
) -> ReproduceJob:
    """Check that there is a layer for each network."""
    if len(config.layers) not in (1, len(networks)):
        raise ConfigError(
            f"{len(config.layers)} layers were named for {len(networks)} networks. Expected one for all, or one for "
            "each."
        )
    return ReproduceJob(networks, concepts, config, Path(out), progress)


def reproduce_plan(
    networks: Sequence[Network], concepts: str | Path, config: ReproduceConfig, out: str | Path
) -> Iterator[str]:
    """Check the inputs, and say for every experiment what it takes or what is missing for it.

    Parameters
    ----------
    networks, concepts, config
        Networks, data set, and further files.
    out
        Folder of the results; nothing is written.

    Yields
    ------
    str
        A line for the data, one or more for each experiment, and one for time and disk.

    Raises
    ------
    NetdissectError
        If the data set, a network, a layer or a file cannot be used.
    """
    job = make_job(networks, concepts, config, out)
    yield f"{len(job.data):,} images, {len(job.data.concepts):,} concepts of {', '.join(job.data.categories)}"
    costs: list[Cost] = []
    for name, scheduled in job.schedule().items():
        for cost in scheduled.costs:
            costs.append(cost)
            yield f"{name}: {cost.words}{f'; {_duration(cost.seconds)}' if cost.seconds else ''}"
    disk, free = max(cost.disk for cost in costs), shutil.disk_usage(job.existing_folder).free
    seconds = sum(cost.seconds for cost in costs)
    yield (
        f"All of it: {_duration(seconds)} of forward passes and training, as timed here; reading images and counting "
        "labels comes on top, which 'netdissect estimate' predicts for a dissection. At most "
        f"{disk / 1e9:.3g} GB on disk at a time, and {free / 1e9:.3g} GB are free."
    )


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.2g} {unit}"
    return f"about {max(1, round(seconds))} s"
