"""Freed memory goes back to the system before tables are made."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import os
import numpy as np
from netdissect.cli.process_tuning import tune_malloc
from netdissect.process.freed_memory import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

tune_malloc()
arrays = [np.ones(2**17) for _ in range(201)]  # a megabyte each
del arrays[:200]  # the last one keeps the heap from shrinking
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide by themselves")
def test_freed_memory_below_what_is_used_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150e6
