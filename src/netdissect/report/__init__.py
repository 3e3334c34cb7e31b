"""Reports of results: pages, tables in the terminal, units in a notebook. Never imports torch.

    layer_tables -> unit_views, views -> pages (templates/) -> write.report    pages that open from disk
    console_tables                                                             tables for the terminal, counts as JSON
    notebook.show_unit                                                         one unit in a notebook
    reproduce_page                                                             one page of all experiments

`statistics_text` writes the statistics of a layer in sentences for pages and terminal. Names are loaded when they are
first used, so that a table in the terminal does not load matplotlib.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
