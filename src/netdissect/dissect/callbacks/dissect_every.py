"""Dissect every n steps, from any training loop."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.callbacks.logged_counts import Log, logged_counts
from netdissect.dissect.run_dissection import dissect
from netdissect.dissect.work_dir.work_dir import run_folder
from netdissect.dissect_options import DissectOptions
from netdissect.errors import ConfigError
from netdissect.keywords import ConfigObjects, read_options, takes_options
from netdissect.models import Preprocessing, as_network
from netdissect.result import Result


@takes_options
class DissectEvery:
    """Dissect a copy of the network every n steps; training is not affected.

    Parameters
    ----------
    data
        A data set in Broden's layout, or its folder.
    every
        Steps between two dissections; step 0 is one of them.
    out
        Folder of the runs, ``OUT/step-N``; ``netdissect experiment training-dynamics OUT`` compares them. A
        finished run of the same weights is reused.
    layers
        Names or globs of the layers; they replace those of `config`.
    preprocessing
        How the input of the module is made from an image: what `netdissect.as_network` takes. None: as it is known.
    log
        Called as ``log(values, step)`` after each dissection, such as ``wandb.log``: of each layer the unique
        detectors, their mean under the permutation null, and the difference. None: nothing is logged here.
    name
        Name of the network in reports. None: its class.
    config, execution
        Options as objects; single options below override their fields. `max_images` keeps each dissection short.

    Raises
    ------
    ConfigError
        If `every` is not above 0, no layer is named, or an option does not exist or has a wrong value.

    Examples
    --------
    ::

        dissect_every = DissectEvery("broden", every=500, out="runs", layers=["layer4"], max_images=2000)
        for step, batch in enumerate(batches):
            dissect_every(model, step)
            ...
    """

    def __init__(
        self,
        data: ConceptData | str | Path,
        *,
        every: int,
        out: str | Path,
        layers: Sequence[str] | str | None = None,
        preprocessing: object = None,
        log: Log | None = None,
        name: str | None = None,
        config: DissectConfig | None = None,
        execution: Execution | None = None,
        **options: Unpack[DissectOptions],
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is {every}. Expected a number of steps above 0.")
        objects = ConfigObjects(layers, config, execution)
        self.config, self.execution = read_options(DissectEvery, options, objects)
        self.preprocessing = None if preprocessing is None else Preprocessing.read(preprocessing)
        self.data = data
        self.every = every
        self.out = run_folder(out)
        self.log = log
        self.name = name
        self._last: int | None = None

    def __repr__(self) -> str:
        """Return steps, layers, data and folder of the runs in a line."""
        root = self.data.root if isinstance(self.data, ConceptData) else self.data
        layers = ", ".join(self.config.layers)
        return f"DissectEvery (every={self.every:,}): {layers} on {root}; runs in {self.out}"

    def __call__(self, module: torch.nn.Module, step: int) -> Result | None:
        """Dissect the module if a dissection is due, and log its counts.

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
        network = as_network(copy.deepcopy(module), self.preprocessing)
        network = replace(network, name=f"{self.name or network.name}, {step} steps")
        run = self.out / f"step-{step:08}"
        with torch.random.fork_rng():
            # Trainers show progress of their own.
            result = dissect(network, self.data, config=self.config, execution=self.execution, out=run, progress=False)
        if self.log is not None:
            self.log(logged_counts(result), step)
        return result
