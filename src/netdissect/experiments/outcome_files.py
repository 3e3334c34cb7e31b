"""Write an experiment's outcome as files, and read it back.

    OUT/table.parquet, table.csv       the table; tables beside it by their names
    OUT/verdict.json, verdict.txt      what it says, and what was asked for
    OUT/figure.svg, .pdf, .png         the figure of the experiment

The figures are in `netdissect.experiments.figures`, one for each experiment by name.
"""

import json
import textwrap
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.errors import ResultError
from netdissect.experiments.figures import FIGURES
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.paths import contained, writing
from netdissect.plots import save
from netdissect.result.csv_frames import escaped_frame
from netdissect.result.files import digest_of_file, write_whole

TABLE = "table"


class _Saved(BaseModel):
    """What ``verdict.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    name: str
    verdict: Conclusion
    config: dict[str, object]
    seconds: dict[str, float]
    further: list[str]
    files: dict[str, str] = Field(description="SHA-256 of each table.")
    digest: str = Field("", description="SHA-256 of all of this but this line.")


def save_outcome(outcome: ExperimentResult, out: str | Path) -> Path:
    """Write tables, verdict and figure; files of an earlier outcome there are replaced.

    Parameters
    ----------
    outcome
        Of an experiment.
    out
        Folder; made if absent.

    Returns
    -------
    Path
        Of the folder.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    out = Path(out)
    with writing(out, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        for name, table in {TABLE: outcome.table, **outcome.further}.items():
            write_whole(out / f"{name}.parquet", table.write_parquet)
            write_whole(out / f"{name}.csv", escaped_frame(table).write_csv)
        save_figure(figure(outcome), out / "figure")
        (out / "verdict.txt").write_text(verdict_text(outcome), encoding="utf-8")
        saved = _Saved(
            name=outcome.name,
            verdict=outcome.verdict,
            config=outcome.config,
            seconds=outcome.seconds,
            further=list(outcome.further),
            files={f"{name}.parquet": digest_of_file(out / f"{name}.parquet") for name in (TABLE, *outcome.further)},
        )
        saved = saved.model_copy(update={"digest": json_digest(json.loads(saved.model_dump_json()))})
        # The last file: where it is, the others are whole.
        write_whole(out / "verdict.json", lambda file: file.write(saved.model_dump_json(indent=2).encode()))
    return out


def load_outcome(out: str | Path) -> ExperimentResult:
    """Read what `save_outcome` wrote.

    Raises
    ------
    ResultError
        If the folder holds no outcome, or a damaged one.
    """
    out = Path(out)
    try:
        content = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
        saved = _Saved.model_validate(content)
        if saved.digest != json_digest(content):
            raise ValueError("verdict.json is not what was written")
        for name, digest in saved.files.items():
            if digest_of_file(contained(out, name, out / "verdict.json", ResultError)) != digest:
                raise ValueError(f"{name} is not what was written")
        table = pl.read_parquet(out / f"{TABLE}.parquet")
        further = {
            name: pl.read_parquet(contained(out, f"{name}.parquet", out / "verdict.json", ResultError))
            for name in saved.further
        }
    except (OSError, ValueError, RecursionError, ValidationError, pl.exceptions.PolarsError) as error:
        raise ResultError(
            f"{out} holds no outcome of an experiment ({type(error).__name__}: {error}). Expected the folder that "
            "'netdissect experiment' wrote with --out; run it again."
        ) from error
    return ExperimentResult(saved.name, table, saved.verdict, saved.config, saved.seconds, further)


def figure(outcome: ExperimentResult) -> Figure:
    """Draw the figure of an experiment.

    Raises
    ------
    ResultError
        If there is no experiment of this name.
    """
    if outcome.name not in FIGURES:
        raise ResultError(f"there is no figure for an experiment {outcome.name!r}; there are {', '.join(FIGURES)}.")
    return FIGURES[outcome.name](outcome)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as ``PATH.svg``, ``.pdf`` and ``.png``; the same figure gives the same bytes."""
    for form in (".svg", ".pdf", ".png"):
        save(figure, path.with_suffix(form))


def verdict_text(outcome: ExperimentResult) -> str:
    """Return the verdict as plain text of 100 columns."""
    verdict = outcome.verdict
    parts = [
        ("Question", verdict.question),
        ("The paper", verdict.paper or "does not ask this."),
        ("Found", verdict.finding),
        ("Agreement", verdict.agreement),
    ]
    lines = [textwrap.fill(f"{name}: {text}", 100, subsequent_indent="  ") for name, text in parts]
    return "\n".join([outcome.name, *lines]) + "\n"
