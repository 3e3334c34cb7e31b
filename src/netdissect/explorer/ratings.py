"""What people said of units when they were asked whether a phrase describes their top images and masks.

Ratings lie in one SQLite file that is only ever added to: a rating taken back is marked, not removed. Among the
units stand controls, whose phrase is wrong on purpose: who says yes to everything is found out.

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
from typing import Any, Literal

import polars as pl

from netdissect.csv_cells import escaped
from netdissect.errors import RequestError, ResultError
from netdissect.explorer.run_registry import OpenRun

Choice = Literal["yes", "no", "skip"]

IMAGES = 15
COLUMNS = ("run", "layer", "unit", "label", "iou", "rater", "rating", "time")
PATIENCE = 10.0
"""Seconds to wait for another program that uses the file."""
CONTROL_EVERY = 10
"""One control is mixed in for so many units."""

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


@dataclass(frozen=True)
class RaterTally:
    """What one rater said in one layer."""

    run: str
    layer: str
    rater: str
    yes: int
    no: int
    skipped: int
    controls_rejected: int
    controls: int


def rating_items(run: OpenRun, layer: int, rater: str) -> tuple[Item, ...]:
    """Return what a rater is asked about a layer, in an order that is the rater's own.

    Parameters
    ----------
    run, layer
        Which units: all that have a label and are not silent, whether they pass or not.
    rater
        Name; the same name gives the same order.

    Notes
    -----
    A control shows a unit with the label of another, one that the unit does not overlap at all on the data set
    (IoU 0) if there is one, else the label that it overlaps least.
    """
    tables = run.layer(layer)
    quantile = run.result.info.config.protocol.quantiles[0]
    units = tables.units.filter(pl.col("quantile") == quantile, pl.col("label").is_not_null(), ~pl.col("dead"))
    items = [Item(unit, label, iou, control=False) for unit, label, iou in units.select("unit", "label", "iou").rows()]
    seed = sha256("\n".join((run.digest, tables.info.name, rater)).encode()).digest()
    dice = Random(seed)  # noqa: S311 - an order, no secret
    items += _controls(run, layer, items, dice)
    dice.shuffle(items)
    return tuple(items)


def _controls(run: OpenRun, layer: int, items: Sequence[Item], dice: Random) -> list[Item]:
    labels = sorted({item.label for item in items})
    if len(labels) < 2:
        return []
    chosen = dice.sample(items, -(-len(items) // CONTROL_EVERY))
    quantile = run.result.info.config.protocol.quantiles[0]
    scores = run.layer(layer).lazy_scores.filter(
        pl.col("quantile") == quantile, pl.col("unit").is_in([item.unit for item in chosen])
    )
    rows = scores.select("unit", pl.col("concept").cast(pl.String), "iou").collect().rows()
    found = {(unit, concept): iou for unit, concept, iou in rows}
    controls = []
    for item in chosen:
        others = [label for label in labels if label != item.label]
        least = min(found.get((item.unit, label), 0.0) for label in others)
        wrong = dice.choice([label for label in others if found.get((item.unit, label), 0.0) == least])
        controls.append(Item(item.unit, wrong, least, control=True))
    return controls


class Ratings:
    """A file of ratings, with one writer.

    Parameters
    ----------
    path
        Made if absent.

    Raises
    ------
    ResultError
        If the file cannot be opened or is no file of ratings.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = Lock()
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
            # What was confirmed survives the end of the process at any moment, and of the machine.
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
        """Return the units, and whether as a control, that a rater has answered."""
        rows = self._read(
            "SELECT unit, control FROM ratings WHERE run_digest = ? AND layer = ? AND rater = ? AND undone IS NULL",
            (run.digest, layer, rater),
        )
        return {(int(unit), bool(control)) for unit, control in rows}

    def add(self, run: OpenRun, layer: str, item: Item, rater: str, rating: Choice) -> None:
        """Keep one rating; a second one of the same unit and rater takes the first back."""
        key = (run.digest, layer, item.unit, int(item.control), rater)
        with self._writing():
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
        """Take a rater's last rating of a layer back: its unit, and whether it was a control; None: there is none."""
        with self._writing():
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
        """Return what the agreement experiment reads: answers of yes and no, by time; or those to controls."""
        rows = self._read(
            f"SELECT {', '.join(COLUMNS)} FROM ratings WHERE undone IS NULL AND rating != 'skip' "  # noqa: S608
            "AND control = ? ORDER BY id",
            (int(controls),),
        )
        out = io.StringIO()
        cells = ([escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        csv.writer(out, lineterminator="\n").writerows([COLUMNS, *cells])
        return out.getvalue()

    def tallies(self) -> list[RaterTally]:
        """Return what each rater said in each layer."""
        rows = self._read(
            "SELECT run, layer, rater, "
            "sum(rating = 'yes' AND NOT control), sum(rating = 'no' AND NOT control), sum(rating = 'skip'), "
            "sum(rating = 'no' AND control), sum(rating != 'skip' AND control) "
            "FROM ratings WHERE undone IS NULL GROUP BY run_digest, layer, rater ORDER BY run, layer, rater",
            (),
        )
        return [RaterTally(*row) for row in rows]

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._told():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._told(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what to do about a file that cannot be used now.

        Raises
        ------
        RequestError
            With the status 503 if another program holds it, else 409.
        """
        try:
            yield
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            raise RequestError(
                f"the file of ratings {self._path} cannot be used ({error}). Nothing was changed in it; "
                + ("another program holds it, try again when it is done." if busy else "free space, or restore it."),
                503 if busy else 409,
            ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
