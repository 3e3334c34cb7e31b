"""`RUN/config.json`: everything needed to repeat a run, written when it begins.

Its digest detects a flipped digit, which would repeat another run; to change the file on purpose, remove that line.
For a finished run it must agree with ``run.json``.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.config import Execution, RunRequest
from netdissect.errors import ConfigError
from netdissect.result.result import RunInfo

CONFIG_FILE = "config.json"


class RunConfig(RunRequest):
    """What a run was asked for, as a file."""

    schema_version: Literal[1] = 1
    digest: str | None = Field(None, description="SHA-256 of all other fields; None: written by hand.")

    def text_with_digest(self) -> bytes:
        """Return the content of the file, with its digest."""
        digest = json_digest(self.model_dump(mode="json"))
        return self.model_copy(update={"digest": digest}).model_dump_json(indent=2).encode()

    def is_same_run(self, other: "RunConfig") -> bool:
        """Return whether both describe the same run; execution and threads may differ, as between shards."""
        differing = {"execution", "digest", "threads"}
        return self.model_dump(exclude=differing) == other.model_dump(exclude=differing)


def read_config(path: str | Path) -> RunConfig:
    """Read the configuration of a run.

    Parameters
    ----------
    path
        The file, or the run folder that holds it.

    Raises
    ------
    ConfigError
        If there is no such file, or it is something else or damaged.
    """
    path = Path(path)
    path = path / CONFIG_FILE if path.is_dir() else path
    expected = "Expected the config.json that 'netdissect run' writes into its run folder, or that folder."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}). {expected}") from error
    try:
        config = RunConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise ConfigError(
            f"{path} is not the configuration of a run ({first['msg']} at {where}). {expected}"
        ) from error
    if config.digest is not None and config.digest != json_digest(json.loads(content)):
        raise ConfigError(
            f"{path} was changed since it was written: its digest does not agree. Restore it; 'netdissect verify RUN "
            "--repair' does so for a finished run. If you changed it yourself, remove its line 'digest'."
        )
    return config


def config_of(info: RunInfo) -> RunConfig:
    """Return the configuration that repeats a finished run, with default execution options."""
    return RunConfig(
        network=info.network.source,
        concepts=None if info.data.chosen_in_python else info.data.root,
        config=info.config,
        execution=Execution(),
        threads=info.environment.threads,
    )


def config_damage(run: Path, info: RunInfo) -> str:
    """Return why the configuration in a run folder would not repeat the finished run; empty if it would.

    A result that was saved from memory has no such file.
    """
    if not (run / CONFIG_FILE).exists():
        return ""
    try:
        config = read_config(run)
    except ConfigError as error:
        return str(error)
    expected = config_of(info)
    names = ("network", "concepts", "config", "threads")
    differing_fields = [name for name in names if getattr(config, name) != getattr(expected, name)]
    return (
        f"it repeats another run: its {differing_fields[0]} differs from that of run.json" if differing_fields else ""
    )
