"""View of an evaluation of bases: the table of a layer and its bases.

LayerTables -> basis_table()
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from netdissect.evaluation.dictionaries.basis_metrics import BASIS_METRICS, BasisMetric
from netdissect.report.evaluation_tables import basis_value
from netdissect.report.layer_tables import LayerTables


class BasisCell(NamedTuple):
    """A metric of a basis as text, and the ends of its interval; empty: it has none."""

    text: str
    low: str
    high: str


@dataclass(frozen=True)
class BasisRow:
    """One choice of the units of a layer or of a basis of it.

    Attributes
    ----------
    layer
        Name of the layer or basis.
    shown
        Whether the page is about it.
    choice
        ``all``, or which units or codes take part.
    cells
        One for each metric of the table.
    """

    layer: str
    shown: bool
    choice: str
    units: int
    cells: tuple[BasisCell, ...]


@dataclass(frozen=True)
class BasisTable:
    """A layer and its bases, measured on the same cells.

    Attributes
    ----------
    metrics
        The columns.
    cells, concepts
        Cells, and concepts with a probe, of the first row.
    """

    metrics: tuple[BasisMetric, ...]
    rows: tuple[BasisRow, ...]
    cells: int
    concepts: int


def basis_table(tables: LayerTables) -> BasisTable | None:
    """Return the metrics of a layer, of its bases, or of a basis and those of the same layer; None: not measured."""
    found = tables.run.bases
    if found is None or tables.name not in found.bases["layer"]:
        return None
    source = tables.info.basis_of or tables.name
    rows = found.bases.filter(pl.col("basis_of").fill_null(pl.col("layer")) == source).to_dicts()
    metrics = tuple(metric for metric in BASIS_METRICS if metric.name in found.bases.columns)
    return BasisTable(metrics, tuple(_rows(rows, metrics, tables.name)), rows[0]["cells"], rows[0]["concepts"])


def _rows(rows: Sequence[Mapping[str, Any]], metrics: Sequence[BasisMetric], shown: str) -> Iterator[BasisRow]:
    for row in rows:
        cells = tuple(BasisCell(*basis_value(metric, row)) for metric in metrics)
        yield BasisRow(row["layer"], row["layer"] == shown, row["choice"], row["units"], cells)
