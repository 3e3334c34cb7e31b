"""How the documentation is built."""

import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path

project = "netdissect"
author = "The netdissect developers"
copyright = "2026, the netdissect developers"
version = release = installed("netdissect")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
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

# The reference of the command line is what the commands themselves say.
_reference = Path(__file__).with_name("cli.md")
_options = ["netdissect.cli.app", "utils", "docs", "--name", "netdissect", "--title", "Command line"]
subprocess.run([sys.executable, "-m", "typer", *_options, "--output", str(_reference)], check=True, capture_output=True)
