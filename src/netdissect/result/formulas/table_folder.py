"""Tables in a folder that is named by the digest of what they are made from, each checked when it is read.

RUN/FOLDER/KIND-DIGEST/tables.json      inputs, and the SHA-256 of each table
RUN/FOLDER/KIND-DIGEST/NAME.parquet
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.errors import ResultError
from netdissect.paths import writing
from netdissect.result.files import digest_of_file, write_whole
from netdissect.result.formulas.formula_schema import Schema

TABLES_FILE = "tables.json"
DIGEST_LENGTH = 16


class TableList(BaseModel):
    """The content of ``tables.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, Any] = Field(description="What the tables are made from; its digest names the folder.")
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each table that is finished.")


class TableFolder:
    """A folder of tables that were made from the same inputs.

    Parameters
    ----------
    parent
        Folder in which it is.
    kind
        Begins its name.
    inputs
        What the tables are made from, as JSON.

    Attributes
    ----------
    path
        The folder.
    """

    def __init__(self, parent: Path, kind: str, inputs: Mapping[str, Any]) -> None:
        self._inputs = dict(inputs)
        self.path = parent / f"{kind}-{json_digest(self._inputs)[:DIGEST_LENGTH]}"

    @classmethod
    def open(cls, path: Path, kind: str) -> Self:
        """Open a folder that exists.

        Raises
        ------
        ResultError
            If its list of tables is missing or damaged.
        """
        folder = cls(path.parent, kind, _read_list(path / TABLES_FILE).inputs)
        if folder.path.name != path.name:
            raise _damage(path / TABLES_FILE, "its inputs are not those that name the folder")
        return folder

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the tables are made from."""
        return self._inputs

    def has(self, name: str) -> bool:
        """Return whether a table is finished."""
        return f"{name}.parquet" in self._files()

    def write(self, name: str, frame: pl.DataFrame, schema: Schema) -> None:
        """Write one table.

        Raises
        ------
        ResultError
            If the folder cannot be written.
        """
        path = self.path / f"{name}.parquet"
        with writing(path, "Free space and run the same command again: what was finished is kept."):
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(path, frame.select(pl.col(column).cast(kind) for column, kind in schema.items()).write_parquet)
            files = self._files() | {path.name: digest_of_file(path)}
            text = TableList(inputs=self._inputs, files=files).model_dump_json(indent=2)
            write_whole(self.path / TABLES_FILE, lambda file: file.write(text.encode()))

    def scan(self, name: str, schema: Schema) -> pl.LazyFrame:
        """Check one table, and return it without reading its rows into memory.

        Raises
        ------
        ResultError
            If it is missing, damaged or of another program.
        """
        path = self.path / f"{name}.parquet"
        try:
            if digest_of_file(path) != self._files().get(path.name):
                raise _damage(path, "it is not what was written")
            table = pl.scan_parquet(path)
            columns = dict(table.collect_schema())
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise _damage(path, str(error).partition("\n")[0]) from error
        if columns != dict(schema):
            raise _damage(path, f"its columns are {', '.join(columns)}")
        return table

    def _files(self) -> dict[str, str]:
        path = self.path / TABLES_FILE
        return _read_list(path).files if path.exists() else {}


def _read_list(path: Path) -> TableList:
    try:
        return TableList.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _damage(path, str(error).partition("\n")[0]) from error


def _damage(path: Path, reason: str) -> ResultError:
    return ResultError(
        f"{path} is missing or damaged ({reason}). Expected the file as it was written: remove the folder "
        f"{path.parent}, and run the same command again."
    )
