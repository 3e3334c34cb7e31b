"""`RUN/config.json`: everything that repeats a run, written when it begins.

It carries a digest of its own, so that a flipped digit does not repeat another run; whoever changes it on purpose
removes that line. What it says of a finished run is held against ``run.json``.
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
    digest: str | None = Field(None, description="SHA-256 of all of this but this line; None: written by hand.")

    def sealed_text(self) -> bytes:
        """Return the content of the file."""
        digest = json_digest(self.model_dump(mode="json"))
        return self.model_copy(update={"digest": digest}).model_dump_json(indent=2).encode()

    def says_the_same(self, other: "RunConfig") -> bool:
        """Tell whether both ask for the same run, however it is carried out: each shard may do that in its own way."""
        differing = {"execution", "digest", "threads"}
        return self.model_dump(exclude=differing) == other.model_dump(exclude=differing)


def read_config(path: str | Path) -> RunConfig:
    """Read what a run was asked for.

    Parameters
    ----------
    path
        The file, or the run folder that holds it.

    Raises
    ------
    ConfigError
        If there is no such file, it says something else, or it is not what was written.
    """
    path = Path(path)
    path = path / CONFIG_FILE if path.is_dir() else path
    try:
        content = path.read_bytes()
        asked = RunConfig.model_validate_json(content)
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        raise ConfigError(
            f"{path} is not the configuration of a run ({first['msg']} at "
            f"{'.'.join(map(str, first['loc'])) or 'the top'}). Expected the config.json that 'netdissect run' writes "
            "into its run folder."
        ) from error
    if asked.digest is not None and asked.digest != json_digest(json.loads(content)):
        raise ConfigError(
            f"{path} is not what was written: its digest is another. Restore it; 'netdissect verify RUN --repair' "
            "writes that of a finished run anew. If you changed it yourself, remove its line 'digest'."
        )
    return asked


def config_of(info: RunInfo) -> RunConfig:
    """Return what repeats a finished run; how it was carried out is forgotten."""
    return RunConfig(
        network=info.network.source,
        concepts=None if info.data.chosen_in_python else info.data.root,
        config=info.config,
        execution=Execution(),
        threads=info.environment.threads,
    )


def config_damage(run: Path, info: RunInfo) -> str:
    """Say why the configuration in the folder of a finished run would not repeat it; nothing if it would.

    A run that was saved from memory has no such file.
    """
    if not (run / CONFIG_FILE).exists():
        return ""
    try:
        asked = read_config(run)
    except ConfigError as error:
        return str(error)
    expected = config_of(info)
    names = ("network", "concepts", "config", "threads")
    different = [name for name in names if getattr(asked, name) != getattr(expected, name)]
    return f"it repeats another run: its {different[0]} differs from that of run.json" if different else ""
