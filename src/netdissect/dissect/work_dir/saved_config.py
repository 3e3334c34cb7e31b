"""Write the configuration of a run when it begins."""

from pathlib import Path

import torch

from netdissect.config import DissectConfig
from netdissect.dissect.bases.basis_files import keep_bases
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.paths import writing
from netdissect.result.files import write_whole
from netdissect.result.run_config import CONFIG_FILE, RunConfig, read_config


def write_config(run: Path, source: DissectionInputs) -> None:
    """Write the configuration of a run and its bases into its folder, unless the files there already hold them.

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
    keep_bases(run, source)


def save_config(run: Path, config: RunConfig) -> None:
    """Write a configuration into a run folder, unless the file there already holds it; see `write_config`."""
    with writing(run, "Choose a run folder on a disk with space and write access."):
        run.mkdir(parents=True, exist_ok=True)
        if not _is_written(run, config):
            write_whole(run / CONFIG_FILE, lambda file: file.write(config.text_with_digest()))


def with_earlier_choices(run: Path | None, config: DissectConfig) -> DissectConfig:
    """Return a configuration in which ``auto`` is what a run in the folder began with; unchanged if there is none."""
    automatic = [name for name in ("device", "batch_size", "backend") if getattr(config, name) == "auto"]
    if run is None or not automatic or not (run / CONFIG_FILE).exists():
        return config
    try:
        earlier = read_config(run).config
    except ConfigError:  # it is written anew, or found to be damaged where it is needed
        return config
    return config.model_copy(update={name: getattr(earlier, name) for name in automatic})


def _is_written(run: Path, config: RunConfig) -> bool:
    """Return whether the file exists, is undamaged and holds the same configuration."""
    if not (run / CONFIG_FILE).exists():
        return False
    try:
        return read_config(run).is_same_run(config)
    except ConfigError:
        return False
