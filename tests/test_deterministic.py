"""The suite itself: the same examples on each machine, each day and in each order of tests."""

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent

DRAWS = """
    import sys
    from hypothesis import given, strategies as st

    @given(st.lists(st.one_of(st.integers(), st.floats(), st.text(), st.binary())))
    def test_something(drawn):
        print(ascii(drawn))
"""


def examples(folder: Path, ci: str | None, loaded: str = "") -> list[str]:
    """Run a property in a pytest of its own, with this suite's settings, after a module of the user's was loaded."""
    folder.mkdir()
    (folder / "test_draws.py").write_text(textwrap.dedent(DRAWS))
    (folder / "loaded.py").write_text(loaded)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_XDIST_WORKER")}
    environment |= {"PYTHONPATH": os.pathsep.join((str(TESTS), str(folder)))} | ({"CI": ci} if ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "loaded", "-q", "-s", "test_draws.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    drawn = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(drawn) > 30, done.stdout
    return drawn


@pytest.mark.slow
def test_examples_are_the_same_with_and_without_ci_and_whatever_modules_are_loaded(tmp_path: Path) -> None:
    constants = "NUMBERS = (" + ", ".join(str(7919 * n) for n in range(400)) + ")\nTEXTS = ('unheard of', 'a marmot')\n"
    assert examples(tmp_path / "one", None) == examples(tmp_path / "two", "true", constants)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002, S311


@pytest.fixture(scope="module")
def of_fixture() -> tuple[float, float, float]:
    return drawn()


@pytest.mark.parametrize("number", [0, 1])
def test_global_generators_begin_anew_in_each_fixture_and_test(
    of_fixture: tuple[float, float, float], number: int
) -> None:
    # First outputs of Mersenne twisters of seed 0: of Python, NumPy and PyTorch.
    first = (0.8444218515250481, 0.5488135039273248, 0.4962565898895264)
    assert of_fixture == pytest.approx(first)
    assert drawn() == pytest.approx(first)
