"""Write what a run is asked for, when it begins."""

from pathlib import Path

import torch

from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.paths import writing
from netdissect.result.files import write_whole
from netdissect.result.run_config import CONFIG_FILE, RunConfig, read_config


def write_config(run: Path, source: DissectionInputs) -> None:
    """Write what a run is asked for into its folder, unless that is what the file there says.

    Raises
    ------
    ResultError
        If the folder cannot be written.
    """
    asked = RunConfig(
        network=source.network.source,
        concepts=None if source.data.subset is None else str(source.data.root.resolve()),
        config=source.config,
        execution=source.execution,
        threads=torch.get_num_threads(),
    )
    with writing(run, "Choose a run folder on a disk with space and write access."):
        run.mkdir(parents=True, exist_ok=True)
        if not _is_there(run, asked):
            write_whole(run / CONFIG_FILE, lambda file: file.write(asked.sealed_text()))


def _is_there(run: Path, asked: RunConfig) -> bool:
    """Tell whether the file is there: not what is left of another run, nor damaged."""
    if not (run / CONFIG_FILE).exists():
        return False
    try:
        return read_config(run).says_the_same(asked)
    except ConfigError:
        return False
