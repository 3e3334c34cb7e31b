"""Formulas of concepts: which one describes a unit best, proven over a table of label sets.

    label_set_table.py, active_rows.py -> search.py (or beam.py) -> formula.py

What a formula covers depends only on the label set of each pixel. So the pixels are counted once for each distinct
label set, and each formula is scored on these counts.

Sources: Mu and Andreas 2020 :cite:p:`mu2020compositional` (the formulas, the beam), La Rosa et al. 2023
:cite:p:`larosa2023towards` (activation ranges).
"""

from netdissect.scoring.formulas.active_rows import ActiveRows
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.label_set_table import LabelSetTable
from netdissect.scoring.formulas.search import (
    FormulaResult,
    FormulaSearch,
    ScoredFormula,
    SearchOptions,
    SearchStoppedError,
)

__all__ = [
    "ActiveRows",
    "Formula",
    "FormulaResult",
    "FormulaSearch",
    "LabelSetTable",
    "ScoredFormula",
    "SearchOptions",
    "SearchStoppedError",
]
