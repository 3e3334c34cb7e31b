"""Ratings by people: whether a phrase describes the top images and masks of a unit.

Ratings are stored in one SQLite file from which nothing is deleted: an undone rating is marked. Controls, units with
a wrong phrase, are mixed in to detect raters who say yes to everything.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.1 (raters see the 15 top images of a unit).
"""

import csv
import io
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import polars as pl

from netdissect.csv_cells import escaped
from netdissect.errors import RequestError, ResultError
from netdissect.explorer.queries.requests import Rating
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import RaterSummary

IMAGES = 15
COLUMNS = ("run", "layer", "unit", "label", "iou", "rater", "rating", "time")
TIMEOUT = 10.0
"""Seconds to wait for another program that uses the file."""
CONTROL_EVERY = 10
"""Number of units for each control."""

_TABLE = """
CREATE TABLE IF NOT EXISTS ratings (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    run_digest TEXT NOT NULL,
    layer TEXT NOT NULL,
    unit INTEGER NOT NULL,
    label TEXT NOT NULL,
    iou REAL NOT NULL,
    control INTEGER NOT NULL CHECK (control IN (0, 1)),
    rater TEXT NOT NULL,
    rating TEXT NOT NULL CHECK (rating IN ('yes', 'no', 'skip')),
    time TEXT NOT NULL,
    undone TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_rating
    ON ratings (run_digest, layer, unit, control, rater) WHERE undone IS NULL;
"""


@dataclass(frozen=True)
class Item:
    """A unit and a phrase; for a control the phrase is another unit's label."""

    unit: int
    label: str
    iou: float
    control: bool


def rating_items(run: OpenRun, layer: int, rater: str) -> tuple[Item, ...]:
    """Return the items that a rater rates in a layer, in an order that depends on the rater.

    Parameters
    ----------
    run, layer
        All units that have a label and are not dead, whether detectors or not.
    rater
        Name of the rater; it seeds the order.

    Notes
    -----
    A control shows a unit with the label of another unit: the label with which its own IoU on the data set is lowest,
    0 if possible.
    """
    tables = run.layer(layer)
    quantile = run.result.info.config.protocol.quantiles[0]
    units = tables.units.filter(pl.col("quantile") == quantile, pl.col("label").is_not_null(), ~pl.col("dead"))
    items = [Item(unit, label, iou, control=False) for unit, label, iou in units.select("unit", "label", "iou").rows()]
    seed = sha256("\n".join((run.digest, tables.info.name, rater)).encode()).digest()
    rng = Random(seed)  # noqa: S311 - an order, no secret
    items += _controls(run, layer, items, rng)
    rng.shuffle(items)
    return tuple(items)


def _controls(run: OpenRun, layer: int, items: Sequence[Item], rng: Random) -> list[Item]:
    labels = sorted({item.label for item in items})
    if len(labels) < 2:
        return []
    controlled = rng.sample(items, -(-len(items) // CONTROL_EVERY))
    quantile = run.result.info.config.protocol.quantiles[0]
    scores = run.layer(layer).lazy_scores.filter(
        pl.col("quantile") == quantile, pl.col("unit").is_in([item.unit for item in controlled])
    )
    rows = scores.select("unit", pl.col("concept").cast(pl.String), "iou").collect().rows()
    ious = {(unit, concept): iou for unit, concept, iou in rows}
    controls = []
    for item in controlled:
        others = [label for label in labels if label != item.label]
        least = min(ious.get((item.unit, label), 0.0) for label in others)
        wrong = rng.choice([label for label in others if ious.get((item.unit, label), 0.0) == least])
        controls.append(Item(item.unit, wrong, least, control=True))
    return controls


class Ratings:
    """The ratings file, with one writer.

    Parameters
    ----------
    path
        SQLite file, created if absent.

    Raises
    ------
    ResultError
        If the file cannot be opened or is not a ratings file.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = Lock()
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=TIMEOUT)
            # A confirmed rating survives a crash of the process and of the machine.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_TABLE)
            self._connection.execute(f"SELECT {', '.join(COLUMNS)}, control, undone FROM ratings LIMIT 1")  # noqa: S608
        except sqlite3.Error as error:
            raise ResultError(
                f"{path} cannot be used for ratings ({error}). Expected a file written by 'netdissect serve', or a "
                "new name in a folder that can be written."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def rated(self, run: OpenRun, layer: str, rater: str) -> set[tuple[int, bool]]:
        """Return which units a rater has rated, and whether as a control."""
        rows = self._read(
            "SELECT unit, control FROM ratings WHERE run_digest = ? AND layer = ? AND rater = ? AND undone IS NULL",
            (run.digest, layer, rater),
        )
        return {(int(unit), bool(control)) for unit, control in rows}

    def add(self, run: OpenRun, layer: str, item: Item, rater: str, rating: Rating) -> None:
        """Store one rating; a second one of the same unit and rater undoes the first."""
        key = (run.digest, layer, item.unit, int(item.control), rater)
        with self._transaction():
            self._connection.execute(
                "UPDATE ratings SET undone = ? WHERE run_digest = ? AND layer = ? AND unit = ? AND control = ? "
                "AND rater = ? AND undone IS NULL",
                (_now(), *key),
            )
            values = asdict(item) | {"run": run.name, "digest": run.digest, "layer": layer, "rater": rater}
            self._connection.execute(
                "INSERT INTO ratings (run, run_digest, layer, unit, label, iou, control, rater, rating, time) "
                "VALUES (:run, :digest, :layer, :unit, :label, :iou, :control, :rater, :rating, :time)",
                values | {"rating": rating, "time": _now()},
            )

    def undo(self, run: OpenRun, layer: str, rater: str) -> tuple[int, bool] | None:
        """Undo a rater's last rating of a layer; return its unit and whether it was a control, or None."""
        with self._transaction():
            row = self._connection.execute(
                "SELECT id, unit, control FROM ratings WHERE run_digest = ? AND layer = ? AND rater = ? "
                "AND undone IS NULL ORDER BY id DESC LIMIT 1",
                (run.digest, layer, rater),
            ).fetchone()
            if row is None:
                return None
            self._connection.execute("UPDATE ratings SET undone = ? WHERE id = ?", (_now(), row[0]))
            return int(row[1]), bool(row[2])

    def csv(self, *, controls: bool = False) -> str:
        """Return the yes and no ratings by time, as the rater-agreement experiment reads them; or those of controls."""
        rows = self._read(
            f"SELECT {', '.join(COLUMNS)} FROM ratings WHERE undone IS NULL AND rating != 'skip' "  # noqa: S608
            "AND control = ? ORDER BY id",
            (int(controls),),
        )
        out = io.StringIO()
        cells = ([escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        csv.writer(out, lineterminator="\n").writerows([COLUMNS, *cells])
        return out.getvalue()

    def summaries(self) -> tuple[RaterSummary, ...]:
        """Count the ratings of each rater in each layer."""
        rows = self._read(
            "SELECT run, layer, rater, "
            "sum(rating = 'yes' AND NOT control), sum(rating = 'no' AND NOT control), sum(rating = 'skip'), "
            "sum(rating = 'no' AND control), sum(rating != 'skip' AND control) "
            "FROM ratings WHERE undone IS NULL GROUP BY run_digest, layer, rater ORDER BY run, layer, rater",
            (),
        )
        return tuple(RaterSummary(**dict(zip(RaterSummary.model_fields, row, strict=True))) for row in rows)

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._translated_errors():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._translated_errors(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn errors of SQLite into a `RequestError`.

        Raises
        ------
        RequestError
            With status 503 if another program has locked the file, else 409.
        """
        try:
            yield
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            raise RequestError(
                f"the ratings file {self._path} cannot be used ({error}). Nothing was changed in it; "
                + (
                    "another program has locked it, try again later."
                    if busy
                    else "free disk space, or restore the file."
                ),
                503 if busy else 409,
            ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
