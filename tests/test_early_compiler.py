"""Loops that another process compiles: their code is taken, and nothing depends on it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="forks on Linux alone, for a second processor"
)

LOOPS = """
import json, os, signal, sys, threading, time
from numba import float64, int64
from netdissect import jit
from netdissect.process.early_compiler import compile_early

@jit.compiled_in_place
def double(values):
    for index in range(len(values)):
        values[index] *= 2

@jit.compiled_in_place
def halve(values):
    for index in range(len(values)):
        values[index] /= 2

def start():
    return compile_early([[(double, (int64[::1],))], [(halve, (float64[::1],))]])

def call():
    import numpy as np
    doubled, halved = np.arange(3), np.arange(0.0, 12, 4)
    double(doubled)
    halve(halved)
    return doubled.tolist() == halved.tolist() == [0, 2, 4]

def report(processes):
    left = True
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        left = False
    hits, misses = (sum(sum(one.stats[kind].values()) for one in (double, halve)) for kind in (1, 2))
    print(json.dumps({"started": len(processes), "hits": hits, "misses": misses, "children left": left}))
"""


def report_of(folder: Path, program: str) -> dict[str, Any]:
    """Run a program after the definitions above in a process of its own."""
    path = folder / "program.py"
    path.write_text(LOOPS + program, encoding="utf-8")
    variables = os.environ | {"NUMBA_CACHE_DIR": str(folder / "code")}
    done = subprocess.run([sys.executable, path], check=True, capture_output=True, text=True, env=variables)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_first_run_takes_the_code_that_other_processes_compiled_and_a_later_one_starts_none(tmp_path: Path) -> None:
    program = "processes = start()\nassert call()\nreport(processes)"
    of_first = {"started": 2, "hits": 2, "misses": 0, "children left": False}
    assert report_of(tmp_path, program) == of_first
    assert report_of(tmp_path, program) == of_first | {"started": 0}


@pytest.mark.parametrize("when", ["", "time.sleep(0.3)\n"], ids=["at once", "later"])
def test_a_process_that_is_killed_leaves_its_loops_to_this_one(tmp_path: Path, when: str) -> None:
    stop = "processes = start()\n" + when + "for one in processes:\n    os.kill(one.pid, signal.SIGKILL)\n"
    found = report_of(tmp_path, stop + "assert call()\nreport(processes)")
    assert (found["started"], found["hits"] + found["misses"], found["children left"]) == (2, 2, False)
    assert when or found["misses"] == 2


def test_a_process_whose_loop_cannot_be_compiled_changes_nothing(tmp_path: Path) -> None:
    program = """
from numba import types
processes = compile_early([[(double, (types.unicode_type,)), (double, (int64[::1],)), (halve, (float64[::1],))]])
assert call()
report(processes)
"""
    assert report_of(tmp_path, program) == {"started": 1, "hits": 0, "misses": 2, "children left": False}


@pytest.mark.parametrize(
    "before",
    [
        "import warnings; from pathlib import Path; warnings.simplefilter('ignore')\n"
        "jit._Provided.ensure_cache_path = jit._InPackage.ensure_cache_path = refuse\n"
        "jit._user_folder = lambda: Path('/proc/none')\n"
        "double, halve = jit.compiled_in_place(double.py_func), jit.compiled_in_place(halve.py_func)",
        "event = threading.Event(); threading.Thread(target=event.wait, daemon=True).start()",
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])",
        "sys.platform = 'darwin'",
    ],
    ids=["no folder can be written", "a thread was started", "one processor", "not Linux"],
)
def test_no_process_is_started_where_it_would_not_help_or_not_be_safe(tmp_path: Path, before: str) -> None:
    refuse = "def refuse(_):\n    raise PermissionError(13, 'read-only')\n"
    found = report_of(tmp_path, refuse + before + "\nprocesses = start()\nassert call()\nreport(processes)")
    assert found == {"started": 0, "hits": 0, "misses": 2, "children left": False}


@pytest.mark.parametrize("failing", [1, 2])
def test_a_limit_on_processes_leaves_the_loops_to_this_one(tmp_path: Path, failing: int) -> None:
    program = f"""
forks, fork = [], os.fork
def limited():
    forks.append(1)
    if len(forks) >= {failing}:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = limited
files = len(os.listdir("/proc/self/fd"))
processes = start()
assert call()
assert len(os.listdir("/proc/self/fd")) == files
report(processes)
"""
    found = report_of(tmp_path, program)
    assert found == {"started": failing - 1, "hits": failing - 1, "misses": 3 - failing, "children left": False}


def test_closed_standard_streams_are_not_taken_for_the_pipe(tmp_path: Path) -> None:
    program = """
output = os.dup(1)
for stream in range(3):
    os.close(stream)
processes = start()
assert call()
os.dup2(output, 1)
report(processes)
"""
    assert report_of(tmp_path, program) == {"started": 2, "hits": 2, "misses": 0, "children left": False}


def test_an_interruption_at_the_fork_ends_this_process_alone(tmp_path: Path) -> None:
    program = """
fork = os.fork
def interrupted():
    pid = fork()
    os.kill(os.getpid(), signal.SIGINT)
    return pid
os.fork = interrupted
try:
    start()
except KeyboardInterrupt:
    os.write(1, b'{"ended": 1}')
"""
    assert report_of(tmp_path, program) == {"ended": 1}


def test_no_process_outlives_one_that_ends_or_is_interrupted_before_it_needs_the_code(tmp_path: Path) -> None:
    program = """
slow = [(double, (int64[::1],))]
processes = compile_early([slow])
os.kill(processes[0].pid, signal.SIGSTOP)  # as if it took very long
def interrupt(_, frame):
    if frame.f_code.co_name == "wait":  # elsewhere it may be swallowed, and what is awaited never comes
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.1)
print(processes[0].pid, flush=True)
call()
"""
    path = tmp_path / "program.py"
    path.write_text(LOOPS + program, encoding="utf-8")
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "code")}
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, env=variables, check=False, timeout=300
    )
    assert "KeyboardInterrupt" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_process_ends_with_one_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(LOOPS + "print(*(one.pid for one in start()), flush=True)\nos.kill(os.getpid(), 9)", "utf-8")
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "code")}
    started = subprocess.run(
        [sys.executable, path], stdout=subprocess.PIPE, env=variables, check=False, timeout=300
    ).stdout.split()
    assert len(started) == 2
    for _ in range(300):
        if not any(Path(f"/proc/{int(pid)}").exists() for pid in started):
            return
        time.sleep(0.1)
    pytest.fail("processes that nobody waits for go on")
