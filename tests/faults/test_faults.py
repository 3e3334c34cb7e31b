"""The short form of the campaign of faults: every kind at least once, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")


@pytest.mark.slow
def test_every_kind_of_fault_is_survived_and_the_result_is_that_of_an_unbroken_run() -> None:
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--rounds", "1", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert len(table) == 12
    assert sum(counts["injected"] for counts in table.values()) >= 8
    assert table["killed (SIGKILL)"]["injected"] >= 1


OUTSIDE = Path(__file__).with_name("outside.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fewest"), [("finished run", 40), ("unfinished run, second pass", 20), ("cache", 4), ("requests", 300)]
)
def test_no_fault_from_outside_is_silent(kind: str, fewest: int) -> None:
    done = subprocess.run(
        [sys.executable, str(OUTSIDE), "--places", "1", "--requests", "300", "--only", kind, "--json"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (counts,) = json.loads(done.stdout).values()
    assert counts["tried"] >= fewest
    assert counts["silent"] == counts["crash"] == 0
