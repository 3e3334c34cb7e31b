"""Read a CSV file of ratings, one row for each answer.

    run, layer, unit, label    which label of which unit was shown
    iou                        IoU of the unit and the label
    rater, rating, time        who answered, yes or no, and when (ISO 8601)

If a rater answers twice about the same label, the later answer counts.
"""

import io
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from netdissect.errors import ResultError
from netdissect.paths import check_regular
from netdissect.result.csv_frames import plain_frame

COLUMNS = ("run", "layer", "unit", "label", "iou", "rater", "rating", "time")
ITEM = ("run", "layer", "unit", "label")
MAX_BYTES = 64 * 2**20
"""Of a file of ratings: a million answers."""
_TIME = pl.Datetime("us", "UTC")


def read_ratings(path: str | Path) -> pl.DataFrame:
    """Read a file of ratings.

    Parameters
    ----------
    path
        CSV, UTF-8, with a header; columns beyond those needed are ignored.

    Returns
    -------
    DataFrame
        run, layer (String), unit (Int64), label (String), iou (Float64), rater (String), accepted (Boolean), time;
        one row for each label and rater, with the last answer.

    Raises
    ------
    ResultError
        If it is missing, empty, too large, no such table, or holds an invalid value; names the line.
    """
    path = Path(path)
    try:
        check_regular(path)
        if path.stat().st_size > MAX_BYTES:
            raise ResultError(
                f"{path} has {path.stat().st_size:,} bytes. Expected a file of at most {MAX_BYTES:,} bytes; split it."
            )
        text = path.read_text(encoding="utf-8-sig")
        raw = plain_frame(pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, truncate_ragged_lines=False))
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise ResultError(
            f"{path} cannot be read as a table of ratings ({reason}). Expected UTF-8 text with the header "
            f"{','.join(COLUMNS)}, as the explorer exports it."
        ) from error
    missing = [name for name in COLUMNS if name not in raw.columns]
    if missing:
        raise ResultError(
            f"{path} lacks the column {missing[0]!r}; its header is {','.join(raw.columns)[:200]!r}. Expected "
            f"{','.join(COLUMNS)}."
        )
    if raw.is_empty():
        raise ResultError(f"{path} holds no rating. Expected at least one row below the header.")
    return _checked(raw.select(COLUMNS), path)


def _checked(raw: pl.DataFrame, path: Path) -> pl.DataFrame:
    raw = raw.with_columns(pl.col(*COLUMNS).str.strip_chars().replace("", None))
    numbered = raw.with_row_index("line", offset=2)
    unit, value = pl.col("unit").cast(pl.Int64, strict=False), pl.col("iou").cast(pl.Float64, strict=False)
    # Answers are ordered by time, not by text: "12:00+02:00" is before "11:00Z".
    numbered = numbered.with_columns(pl.Series("instant", [_instant(text) for text in numbered["time"]], _TIME))
    rules = {
        "run": (pl.col("run").is_not_null(), "the name of a run"),
        "layer": (pl.col("layer").is_not_null(), "the name of a layer"),
        "unit": (unit >= 0, "a whole number from 0"),
        "label": (pl.col("label").is_not_null(), "the label that was shown"),
        "iou": (value.is_finite() & (value >= 0) & (value <= 1), "a number from 0 to 1"),
        "rater": (pl.col("rater").is_not_null(), "a name or number of the rater"),
        "rating": (pl.col("rating").str.to_lowercase().is_in(["yes", "no"]), "yes or no"),
        "time": (pl.col("instant").is_not_null(), "a time such as 2024-05-01T12:30:00Z"),
    }
    for name, (rule, expected) in rules.items():
        wrong = numbered.filter(~rule.fill_null(value=False))
        if len(wrong):
            seen = wrong[name][0]
            raise ResultError(
                f"{path}, line {wrong['line'][0]}: {name} is {'empty' if seen is None else repr(seen[:80])}. Expected "
                f"{expected}; correct the line, or export the ratings again."
            )
    typed = numbered.select(
        "line", "run", "layer", unit, "label", value, "rater",
        (pl.col("rating").str.to_lowercase() == "yes").alias("accepted"),
        pl.col("instant").alias("time"),
    )  # fmt: skip
    last = typed.sort("time", "line").unique([*ITEM, "rater"], keep="last", maintain_order=True)
    return last.sort("line").drop("line")


def _instant(text: str | None) -> datetime | None:
    """Read a time; one without a zone is taken as UTC."""
    try:
        instant = datetime.fromisoformat(text or "")
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
