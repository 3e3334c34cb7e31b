"""The script that writes the generated pages of the documentation, as a module."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[1] / "docs" / "generate.py")
assert _spec is not None
assert _spec.loader is not None
GENERATE = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(GENERATE)
