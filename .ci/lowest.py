"""Print the lowest versions that pyproject.toml allows of what netdissect runs with, as constraints for pip."""

import re
import tomllib
from pathlib import Path

TOOLS = {"dev", "docs"}  # nobody needs them to use netdissect

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [needs for name, needs in project["optional-dependencies"].items() if name not in TOOLS]
for need in [*project["dependencies"], *(need for needs in extras for need in needs)]:
    if found := re.fullmatch(r"([\w.-]+)>=([\d.]+)", need):
        print(f"{found[1]}=={found[2]}")  # noqa: T201
