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


SHARED = """
import os, subprocess, time
import torch
from netdissect.cli.process_tuning import share_processors

def threads_become(number):
    end = time.monotonic() + 60
    while len(os.listdir("/proc/self/task")) != number and time.monotonic() < end:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task")) == number

torch.zeros(2**20).add_(1)
before = len(os.listdir("/proc/self/task"))
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
share_processors([child.pid])
print(threads_become(before + torch.get_num_threads()))
child.stdin.close()
print(threads_become(before), child.wait())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="loops compile in other processes on Linux alone",
)
def test_a_second_team_of_openmp_threads_is_kept_until_other_processes_end():
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "0"]
