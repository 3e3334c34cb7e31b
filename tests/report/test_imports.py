"""Commands that read results, and help, do not load libraries that they do not use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netdissect.result import Result, save_result

LIBRARIES = {"matplotlib", "numba", "numpy", "polars", "scipy", "torch"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has after `code`."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*words: object) -> str:
    """Return code that runs a command."""
    return f"""
import sys
from netdissect.cli import main
sys.argv = ["netdissect", *{[str(word) for word in words]!r}]
try:
    main()
except SystemExit as stop:
    if stop.code:
        raise
"""


@pytest.fixture(scope="module")
def run(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_result(result, tmp_path_factory.mktemp("imports") / "run")


@pytest.mark.parametrize("words", ["--help", "run --help", "experiment --help", "concepts build --help"])
def test_help_loads_no_numerical_library(words: str) -> None:
    loaded = loaded_by(command(*words.split()))
    assert "netdissect.cli.app" in loaded
    assert not LIBRARIES & loaded


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("show", []),
        ("count", ["--json"]),
        ("export", ["--layer", "block.1", "--out", "{out}"]),
        ("check", ["--require", "detectors >= 0"]),
        ("diff", ["{run}"]),
        ("report", ["--out", "{out}"]),
        ("figure bars", ["--layer", "block.1", "--out", "{out}.svg"]),
    ],
)
def test_commands_that_read_results_never_load_torch(run: Path, tmp_path: Path, words: str, options: list[str]) -> None:
    rest = [option.format(run=run, out=tmp_path / "out") for option in options]
    loaded = loaded_by(command(*words.split(), run, *rest))
    assert "netdissect.result.files" in loaded
    assert "torch" not in loaded


def test_a_result_is_read_in_python_without_torch(run: Path) -> None:
    loaded = loaded_by(f"import netdissect; netdissect.load_result({str(run)!r}).detectors(); dir(netdissect)")
    assert "netdissect.result.files" in loaded
    assert "torch" not in loaded
