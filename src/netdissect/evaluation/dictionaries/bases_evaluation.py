"""The tables of an evaluation of bases, and their files.

OUT/bases.csv       a row for each layer and basis
OUT/concepts.csv    the best unit of each concept
OUT/units.csv       every unit
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from netdissect.counted import counted
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.result.files import write_csv

TABLES = ("bases", "concepts", "units")


@dataclass(frozen=True, eq=False, repr=False)
class BasesEvaluation:
    """The units of layers and bases of a run, measured.

    Attributes
    ----------
    config
        What was measured.
    bases
        A row for each layer and choice of units: layer, basis_of (null: units of the network), choice, units, cells,
        concepts, and a column for each of `netdissect.evaluation.dictionaries.basis_metrics.BASIS_METRICS`, with
        ``_ci_low`` and ``_ci_high`` where it has an interval.
    concepts
        A row for each of these and each concept: concept, category, unit (the best of the selection half; null: none),
        weight (its direction), average_precision, probe_r, heldout_cells (held-out cells with the concept).
    units
        A row for each layer and unit: active_share (of the cells), purity_16, and the scores by embeddings.
    """

    config: EvaluateBasesConfig
    bases: pl.DataFrame
    concepts: pl.DataFrame
    units: pl.DataFrame

    def __repr__(self) -> str:
        """Return the size of the evaluation and the names of its tables."""
        layers = self.bases["layer"].n_unique()
        size = f"{counted(layers, 'layers')}, {counted(len(self.units), 'units')}"
        return f"{size}\ntables: {', '.join(TABLES)}"


def write_bases(found: BasesEvaluation, out: str | Path) -> Path:
    """Write the three tables; files of an earlier evaluation there are replaced.

    Raises
    ------
    ResultError
        If they cannot be written.
    """
    for name in TABLES:
        write_csv(getattr(found, name), Path(out) / f"{name}.csv")
    return Path(out)
