"""Fixtures that every room's tests share."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is loaded: workers share the cores, and so do the processes that their tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Commands keep label maps packed in the user's cache folder: in one that ends with the tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="netdissect-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"

# A program of its own, which needs a package that does not install everywhere.
collect_ignore = ["hostile/coverage_guided.py"]

# The rooms' tests import the oracle and the tiny worlds that lie beside this file.
sys.path.insert(0, str(TESTS))

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Of a module, not of the session: as long as it is open, asyncio runs in this thread."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()
