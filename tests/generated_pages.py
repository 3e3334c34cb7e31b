"""The scripts that write the generated pages of the documentation, as modules; what a page says of experiments."""

import importlib
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
GENERATE = importlib.import_module("generate")
PYTHON_PAGE = importlib.import_module("python_page")
RUN_NOTEBOOK = importlib.import_module("run_notebook")
sys.path.remove(str(DOCS))


def documented_columns(experiment: str) -> set[str]:
    """Return the columns that the reference names for an experiment: its own, those of all, those of intervals."""
    text = (DOCS / "reference" / "experiments.md").read_text(encoding="utf-8")
    shared, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    by_name = {section.split()[0]: section for section in sections}
    section = by_name[experiment]
    like = re.search(r"as\s+for\s+\[(\S+)\]", section)
    own = section + (by_name[like[1]] if like else "") + by_name["Bootstrap"]
    named = set(re.findall(r"`([^`\n]+)`", shared + own))
    return named | {f"{name}_ci_{end}" for name in named for end in ("low", "high")}
