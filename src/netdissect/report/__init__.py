"""Where people look: tables, figures and the report. Reads results only, never a network.

`report` writes pages that open from disk, `plot` draws figures, `unit` shows one unit in a notebook, `tables` makes
tables for the terminal and counts as JSON. `outcomes` and `paper` write what experiments found.

Names are loaded when they are first used, so that a table in the terminal never waits for matplotlib. A module has
another name than its function.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
