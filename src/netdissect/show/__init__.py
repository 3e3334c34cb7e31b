"""Where people look: tables, figures and the report. Reads results only, never a network.

`report` writes pages that open from disk, `plot` draws figures, `unit` shows one unit in a notebook, `tables` makes
tables for the terminal and counts as JSON.
"""

from netdissect.show import plot, tables
from netdissect.show.notebook import unit
from netdissect.show.report import report

__all__ = ["plot", "report", "tables", "unit"]
