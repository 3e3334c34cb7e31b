"""Fixtures that every room's tests share."""

import atexit
import gc
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from playwright.sync_api import Browser, sync_playwright

# The order of sets and `hash` of a text are the same in workers, and in processes that tests start.
os.environ.setdefault("PYTHONHASHSEED", "0")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is loaded: workers share the cores, and so do the processes that their tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Commands keep label maps packed in the user's cache folder: in one that ends with the tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="netdissect-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"

# A program of its own, which needs a package that does not install everywhere.
collect_ignore = ["fuzz/coverage_guided.py"]

# Files whose tests take long; all of them run in processes of their own, so no other test depends on their place.
LONGEST = ("tests/faults/test_faults.py", "tests/test_journeys.py", "tests/test_wheel.py")

# The rooms' tests import the oracle and the tiny worlds that lie beside this file.
sys.path.insert(0, str(TESTS))

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

# The same examples on each machine, each day and in each order of tests, whether CI is set or not (where it is,
# Hypothesis has loaded a profile of its own by now). What `make fuzz` finds is pinned as an explicit `@example`.
settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# For `make fuzz`: as many cases as an hour or so allows, and new ones each time.
settings.register_profile("long", settings.get_profile("tests"), derandomize=False, max_examples=2000)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Draw no constants from the modules that happen to be loaded: these depend on which tests ran before."""
    if config.getoption("--hypothesis-profile") != "long":
        providers._get_local_constants = providers.Constants


def seed_generators() -> None:
    """Start the global generators anew."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        # Its `manual_seed` formats the stack for each kind of device that there might be.
        sys.modules["torch"].default_generator.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude what is loaded to collect the tests from collections of garbage: none of it is ever garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes half a minute a test: if it came last, one worker would wait for the other."""
    ranks = {file: rank for rank, file in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Let no fixture depend on what was drawn before it."""
    seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Let no test depend on what was drawn before it."""
    seed_generators()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real labeled images and published tables beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real labeled images and published tables is not beside the checkout")
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


@pytest.fixture(scope="session")
def first_day_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of everything that mistakes of the first day are made with; see `first_day`."""
    import first_day

    return first_day.write_first_day(tmp_path_factory.mktemp("first-day"))


@pytest.fixture
def first_day_folder(first_day_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working folder, where factories of networks are found."""
    monkeypatch.chdir(first_day_files)
    return first_day_files
