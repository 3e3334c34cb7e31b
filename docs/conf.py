"""How the documentation is built."""

import re
from importlib.metadata import version as installed
from typing import Any

project = "netdissect"
author = "The netdissect developers"
copyright = "2026, the netdissect developers"
version = release = installed("netdissect")

extensions = [
    "myst_parser",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"netdissect {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]


def add_toctrees(_app: Any, docname: str, source: list[str]) -> None:
    """Put each list of links of the index into the sidebar, under its heading."""
    if docname == "index":
        lists = r"^## (.+)\n\n(?:[^#-].*\n\n)?((?:- \[.*\]\(.*\.md\)\n)+)"
        source[0] = re.sub(lists, _with_toctree, source[0], flags=re.MULTILINE)


def _with_toctree(found: re.Match[str]) -> str:
    pages = "\n".join(re.findall(r"\((.*)\.md\)", found[2]))
    return f"{found[0]}\n```{{toctree}}\n:hidden:\n:caption: {found[1]}\n\n{pages}\n```\n"


def setup(app: Any) -> None:
    """Connect what is done to the pages."""
    app.connect("source-read", add_toctrees)
