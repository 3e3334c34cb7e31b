"""Where people look: tables, figures and the report. Reads results only, never a network.

    report(result, out)            a page that opens from disk
    plot.bars(result)              matplotlib figures
    tables.summary(result)         tables for the terminal, counts as JSON
"""

from netdissect.show import plot, tables
from netdissect.show.report import report

__all__ = ["plot", "report", "tables"]
