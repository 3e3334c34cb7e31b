"""`RUN/config.json`: everything that repeats a run, written when it begins."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.config import DissectConfig, Execution, NetworkSource
from netdissect.dissect.forward import Source
from netdissect.errors import ConfigError, ResultError
from netdissect.result.files import write_whole

CONFIG_FILE = "config.json"


class RunConfig(BaseModel):
    """What a run was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    network: NetworkSource | None = Field(description="What to load; None: the network was made in Python.")
    concepts: str | None = Field(description="Folder of the data set; None: its images were chosen in Python.")
    config: DissectConfig
    execution: Execution
    threads: int = Field(gt=0, description="Threads of torch: the last bits of activations depend on them.")


def write_config(run: Path, source: Source) -> None:
    """Write what a run is asked for into its folder, unless it is there.

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
    try:
        run.mkdir(parents=True, exist_ok=True)
        if not (run / CONFIG_FILE).exists():
            write_whole(run / CONFIG_FILE, lambda file: file.write(asked.model_dump_json(indent=2).encode()))
    except OSError as error:
        raise ResultError(
            f"{run} cannot be written ({error}). Choose a run folder on a disk with space and write access."
        ) from error


def read_config(path: str | Path) -> RunConfig:
    """Read what a run was asked for.

    Parameters
    ----------
    path
        The file, or the run folder that holds it.

    Raises
    ------
    ConfigError
        If there is no such file, or it says something else.
    """
    path = Path(path)
    path = path / CONFIG_FILE if path.is_dir() else path
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        raise ConfigError(
            f"{path} is not the configuration of a run ({first['msg']} at "
            f"{'.'.join(map(str, first['loc'])) or 'the top'}). Expected the config.json that 'netdissect run' writes "
            "into its run folder."
        ) from error
