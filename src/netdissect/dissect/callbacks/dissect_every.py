"""Dissect every n steps, from any training loop."""

import copy
from pathlib import Path

import torch

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.dissect.run_dissection import dissect
from netdissect.errors import ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.result import Result


class DissectEvery:
    """Dissect a copy of the network every n steps; training is not affected.

    Parameters
    ----------
    preprocessing
        How images become the network's input: anything that `netdissect.Preprocessing.read` takes.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Layers and protocol; `max_images` keeps each dissection short.
    every
        Steps between two dissections; step 0 is one of them.
    out
        Folder of the runs, ``OUT/step-N``; ``netdissect experiment training-dynamics OUT`` compares them. A
        finished run of the same weights is reused.
    name
        Name of the network in reports.

    Raises
    ------
    ConfigError
        If `every` is not above 0.

    Examples
    --------
    ::

        config = DissectConfig(layers=("layer4",), max_images=2000)
        dissect_every = DissectEvery(preprocessing, "broden", config, every=500, out="runs")
        for step, batch in enumerate(batches):
            dissect_every(model, step)
            ...
    """

    def __init__(
        self,
        preprocessing: object,
        concepts: ConceptData | str | Path,
        config: DissectConfig,
        *,
        every: int,
        out: str | Path,
        name: str = "network",
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is {every}. Expected a number of steps above 0.")
        self.preprocessing = Preprocessing.read(preprocessing)
        self.concepts = concepts
        self.config = config
        self.every = every
        self.out = Path(out)
        self.name = name
        self._last: int | None = None

    def __call__(self, module: torch.nn.Module, step: int) -> Result | None:
        """Dissect the module if a dissection is due.

        Parameters
        ----------
        module
            The module; weights, mode, gradients and random generators are not changed.
        step
            Number of steps done; a step that is repeated (as with accumulated gradients) is dissected once.

        Returns
        -------
        Result or None
            None if no dissection is due.
        """
        if step % self.every or step == self._last:
            return None
        self._last = step
        network = Network(f"{self.name}, {step} steps", copy.deepcopy(module), self.preprocessing)
        with torch.random.fork_rng():
            return dissect(network, self.concepts, config=self.config, out=self.out / f"step-{step:08}", progress=False)
