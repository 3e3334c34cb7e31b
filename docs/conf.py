"""How the documentation is built."""

from importlib.metadata import version as installed

project = "netdissect"
author = "The netdissect developers"
copyright = "2026, the netdissect developers"
version = release = installed("netdissect")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
bibtex_bibfiles = ["references.bib"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"netdissect {version}"
html_static_path = ["_static"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]
doctest_test_doctest_blocks = "default"
doctest_global_setup = "import numpy as np"
