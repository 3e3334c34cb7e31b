"""What the whole paper is asked of, at full size: one's own networks and data, and what their parts cost."""

from collections.abc import Callable, Sequence
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
from netdissect.experiments.compare.experiment import run_folder
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.models import Network, resolve_layers
from netdissect.models.surgery.linear_head import dummy_input
from netdissect.result import Result
from netdissect.training.workspace import SCALES, Workspace

TIMED = 4
"""Pictures by which a forward pass is timed."""


class Cost(NamedTuple):
    """What something takes: in words, bytes on disk meanwhile, seconds of forward passes and training steps."""

    words: str
    disk: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ExperimentPart:
    """One experiment of the paper.

    Attributes
    ----------
    name
        As on the command line.
    costs
        What it takes; where it cannot be done, what is missing.
    run
        Carries it out; None: something is missing.
    """

    name: str
    costs: tuple[Cost, ...]
    run: Callable[[], ExperimentResult] | None = None

    @classmethod
    def without(cls, name: str, missing: str) -> "ExperimentPart":
        """Return an experiment that is left out, and why."""
        return cls(name, (Cost(f"left out ({missing})"),))


@dataclass(frozen=True)
class ReproduceJob:
    """One's own networks and data, and the folder of what is made."""

    networks: Sequence[Network]
    concepts: str | Path
    config: ReproduceConfig
    out: Path
    progress: Progress | None = None
    _paces: dict[int, float] = field(default_factory=dict)

    @property
    def first(self) -> Network:
        """The network that is asked what only one can be asked."""
        return self.networks[0]

    @property
    def layer(self) -> str:
        """Its last convolution."""
        return self.config.layer_of(0)

    @cached_property
    def data(self) -> ConceptData:
        """The data set, or what is drawn of it."""
        return ConceptData.open(self.concepts, max_images=self.config.max_images)

    @cached_property
    def bench(self) -> Workspace:
        """Where variants are trained."""
        return Workspace(self.out / "drawn", SCALES[self.config.train or "small"], self.progress)

    @property
    def place(self) -> Path:
        """A folder that is there, on the disk of what will be made."""
        return next(path for path in (self.out.resolve(), *self.out.resolve().parents) if path.exists())

    def dissection(self, network: Network, names: Sequence[str], times: int = 1) -> Cost:
        """Say what it takes to dissect some layers, so many times one after the other."""
        plan = make_plan(
            resolve_layers(network, names),
            network.preprocessing.size,
            len(self.data),
            self.config.measured(names),
            Execution(),
            self.place,
        )
        looks = times * plan.passes * len(self.data)
        each = "" if times == 1 else f"{times} times "
        return Cost(f"{network.name}: {each}{plan}", plan.disk_bytes, looks * self.pace(network))

    def pace(self, network: Network) -> float:
        """Measure the seconds that a forward pass of one picture takes."""
        key = id(network.module)  # a network with other bases runs the same module
        if key not in self._paces:
            images = dummy_input(network, TIMED)
            with torch.no_grad(), network.prepared():
                network.forward(images)
                started = perf_counter()
                network.forward(images)
            self._paces[key] = (perf_counter() - started) / TIMED
        return self._paces[key]

    def dissected(self, index: int) -> Result:
        """Dissect a network's last convolution, or take up the run: that of compare, which others share."""
        network, config = self.networks[index], self.config
        run = run_folder(self.out / "compare", index, network)
        measured, layers = config.measured(config.layers), [config.layer_of(index)]
        return dissect(network, self.concepts, measured, layers=layers, out=run, progress=self.progress)
