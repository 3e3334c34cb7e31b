"""polars takes the nearest value for a quantile unless told otherwise; NumPy and torch interpolate."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINEAR = {"np", "numpy", "torch", "statistics"}
"""Modules whose quantile is interpolated linearly unless told otherwise."""
NEAREST = {"quantile": 2, "rolling_quantile": 2, "rolling_quantile_by": 3, "describe": 2}
"""Methods of polars that take the nearest value, and with how many arguments the last one says how."""


def unsaid(source: str) -> list[int]:
    """Return the lines of calls that leave it to polars how a quantile is taken."""
    lines = []
    if not any(name in source for name in NEAREST):
        return lines
    for call in ast.walk(ast.parse(source)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in NEAREST):
            continue
        module = isinstance(call.func.value, ast.Name) and call.func.value.id in LINEAR
        said = len(call.args) >= NEAREST[call.func.attr] or any(word.arg == "interpolation" for word in call.keywords)
        if not (module or said):
            lines.append(call.lineno)
    return lines


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "docs"])
def test_every_quantile_of_polars_says_how_it_is_taken(folder: str) -> None:
    found = {path: unsaid(path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).rglob("*.py"))}
    assert found
    assert not [f"{path}:{line}" for path, lines in found.items() for line in lines]


def test_a_quantile_that_does_not_say_is_found() -> None:
    source = "pl.col('a').quantile(0.25)\npl.col('a').quantile(0.25, 'linear')\nnp.quantile(a, 0.25)\nframe.describe()"
    assert unsaid(source) == [1, 4]
