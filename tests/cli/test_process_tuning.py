"""Threads that wait for work: set before torch is there, and left to the user who says otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from netdissect.cli import main
assert "torch" not in sys.modules  # which reads the variable when it is imported
try:
    main()
finally:
    print("spins:", os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_briefly_unless_the_environment_sets_a_policy(given, found):
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--help"], env=plain | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(f"spins: {found}\n")
