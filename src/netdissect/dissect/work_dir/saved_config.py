"""Write the configuration of a run when it begins."""

from pathlib import Path

import torch

from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.paths import writing
from netdissect.result.files import write_whole
from netdissect.result.run_config import CONFIG_FILE, RunConfig, read_config


def write_config(run: Path, source: DissectionInputs) -> None:
    """Write the configuration of a run into its folder, unless the file there already holds it.

    Raises
    ------
    ResultError
        If the folder cannot be written.
    """
    config = RunConfig(
        network=source.network.source,
        concepts=None if source.data.subset is None else str(source.data.root.resolve()),
        config=source.config,
        execution=source.execution,
        threads=torch.get_num_threads(),
    )
    save_config(run, config)


def save_config(run: Path, config: RunConfig) -> None:
    """Write a configuration into a run folder, unless the file there already holds it; see `write_config`."""
    with writing(run, "Choose a run folder on a disk with space and write access."):
        run.mkdir(parents=True, exist_ok=True)
        if not _is_written(run, config):
            write_whole(run / CONFIG_FILE, lambda file: file.write(config.text_with_digest()))


def _is_written(run: Path, config: RunConfig) -> bool:
    """Return whether the file exists, is undamaged and holds the same configuration."""
    if not (run / CONFIG_FILE).exists():
        return False
    try:
        return read_config(run).is_same_run(config)
    except ConfigError:
        return False
