"""How many cores this process may use."""

import os
import sys


def available_cores() -> int:
    """Return the cores on which this process may run, or OMP_NUM_THREADS where that is less, as in a task of Ray."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores
