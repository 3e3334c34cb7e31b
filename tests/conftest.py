"""Fixtures that every room's tests share."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"

# A program of its own, which needs a package that does not install everywhere.
collect_ignore = ["hostile/coverage_guided.py"]

# The rooms' tests import the oracle and the tiny worlds that lie beside this file.
sys.path.insert(0, str(TESTS))

slow_is_fine = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", deadline=None, max_examples=40, suppress_health_check=slow_is_fine)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
# For `make fuzz`: as many cases as an hour or so allows, and new ones each time.
settings.register_profile("long", settings.get_profile("dev"), max_examples=2000, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real labeled pictures and published tables beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real labeled pictures and published tables is not beside the checkout")
    return SHARED
