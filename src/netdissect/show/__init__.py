"""Where people look: tables, figures and the report. Reads results only, never a network.

`report` writes a page that opens from disk, `plot` draws matplotlib figures, `tables` makes tables for the terminal
and counts as JSON.
"""

from netdissect.show import plot, tables
from netdissect.show.report import report

__all__ = ["plot", "report", "tables"]
