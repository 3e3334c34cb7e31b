"""Write an experiment's result as files, and read it back.

OUT/table.parquet, table.csv            the table; extra tables by their names
OUT/conclusion.json, conclusion.txt     the conclusion, the configuration and its context
OUT/figure.svg, .pdf, .png              the figure of the experiment
"""

import json
import textwrap
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.errors import ResultError
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.paths import contained, writing
from netdissect.plots import save
from netdissect.result.csv_frames import escaped_frame
from netdissect.result.files import digest_of_file, write_whole

TABLE, CONCLUSION = "table", "conclusion.json"


class _Saved(BaseModel):
    """What ``conclusion.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    name: str
    conclusion: Conclusion
    config: dict[str, object]
    context: dict[str, object]
    seconds: dict[str, float]
    extra_tables: list[str]
    files: dict[str, str] = Field(description="SHA-256 of each table.")
    digest: str = Field("", description="SHA-256 of all of this but this line.")


def save_experiment_result(result: ExperimentResult, out: str | Path) -> Path:
    """Write tables, conclusion and figure; files of an earlier result there are replaced.

    Parameters
    ----------
    result
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
    tables = {TABLE: result.table, **result.extra_tables}
    with writing(out, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            write_whole(out / f"{name}.parquet", table.write_parquet)
            write_whole(out / f"{name}.csv", escaped_frame(table).write_csv)
        save_figure(result.figure, out / "figure")
        (out / "conclusion.txt").write_text(conclusion_text(result), encoding="utf-8")
        saved = _Saved(
            name=result.name,
            conclusion=result.conclusion,
            config=result.config,
            context=result.context,
            seconds=result.seconds,
            extra_tables=list(result.extra_tables),
            files={f"{name}.parquet": digest_of_file(out / f"{name}.parquet") for name in tables},
        )
        saved = saved.model_copy(update={"digest": json_digest(json.loads(saved.model_dump_json()))})
        # The last file: if it is there, the others are complete.
        write_whole(out / CONCLUSION, lambda file: file.write(saved.model_dump_json(indent=2).encode()))
    return out


def load_experiment_result(out: str | Path) -> ExperimentResult:
    """Read what `save_experiment_result` wrote.

    Raises
    ------
    ResultError
        If the folder holds no result of an experiment, or a damaged one.
    """
    out = Path(out)
    try:
        content = json.loads((out / CONCLUSION).read_text(encoding="utf-8"))
        saved = _Saved.model_validate(content)
        if saved.digest != json_digest(content):
            raise ValueError(f"{CONCLUSION} is not what was written")
        for name, digest in saved.files.items():
            if digest_of_file(contained(out, name, out / CONCLUSION, ResultError)) != digest:
                raise ValueError(f"{name} is not what was written")
        table = pl.read_parquet(out / f"{TABLE}.parquet")
        extra_tables = {
            name: pl.read_parquet(contained(out, f"{name}.parquet", out / CONCLUSION, ResultError))
            for name in saved.extra_tables
        }
    except (OSError, ValueError, RecursionError, ValidationError, pl.exceptions.PolarsError) as error:
        raise ResultError(
            f"{out} holds no result of an experiment ({type(error).__name__}: {error}). Expected the folder that "
            "'netdissect experiment' wrote with --out; run it again."
        ) from error
    return ExperimentResult(
        saved.name, table, saved.conclusion, saved.config, saved.context, saved.seconds, extra_tables
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as ``PATH.svg``, ``.pdf`` and ``.png``; the same figure gives the same bytes."""
    for suffix in (".svg", ".pdf", ".png"):
        save(figure, path.with_suffix(suffix))


def conclusion_text(result: ExperimentResult) -> str:
    """Return the conclusion as plain text of 100 columns."""
    lines = (textwrap.fill(line, 100, subsequent_indent="  ") for line in result.conclusion_lines())
    return "\n".join(lines) + "\n"
