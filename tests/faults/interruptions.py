"""Ctrl-C at random moments of a run: it ends at once, says so, and the same command goes on to the same result.

    python tests/faults/interruptions.py --count 300

Runs of the command line are forked from a process that has loaded everything but computed nothing (polars does not
survive a fork once it has), and get SIGINT at a moment that is drawn evenly over the time that a run takes. One that
does not end shows where all its threads stand. Prints what became of the interruptions; ends with 1 if a run hung,
ended otherwise, or gave another result than an unbroken one.
"""

# ruff: noqa: T201
import argparse
import atexit
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import run_asserts  # noqa: E402  the folder of tests comes first
import strategies  # noqa: E402
from faults.children import PATIENCE, ended, show_stacks_on_request  # noqa: E402
from netdissect.cli import main  # noqa: E402
from netdissect.result import load_result  # noqa: E402
from networks import COVERAGE, SIDE, images  # noqa: E402

IMAGES = 30
INTERRUPTED = 130
NETWORK = """
import networks

def tiny():
    network = networks.build()
    return network.module, network.preprocessing
"""
SAID = "interrupted: finished work is kept"


class Trials:
    """Runs of one command in one folder after the other, each interrupted until it is through.

    Parameters
    ----------
    folder
        Where.
    seed
        Of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  moments are no secret
        self.folder = folder
        self.data = strategies.write_broden(folder / "data", images(count=IMAGES), COVERAGE, image=(SIDE, SIDE))
        (folder / "interrupted_network.py").write_text(NETWORK)
        sys.path.insert(0, str(folder))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        self.outcomes: Counter[str] = Counter()
        self.seconds = 60.0
        for _ in range(2):  # the first one compiles
            shutil.rmtree(folder / "unbroken", ignore_errors=True)
            begin = time.monotonic()
            self.end(self.begin(folder / "unbroken"))
        self.seconds = time.monotonic() - begin

    def begin(self, out: Path) -> int:
        """Fork a process that carries the command out, and return its number."""
        sys.argv = [
            "netdissect", "run", "python:interrupted_network:tiny", "--concepts", str(self.data), "--out", str(out),
            "--layer", "wide_relu", "--layer", "fc", "--batch-size", "3", "--quantile", "0.05", "--bootstrap", "20",
            "--permutations", "3", "--extra-metrics", "--holdout", "0.5",
        ]  # fmt: skip
        return self.forked(main)

    def compare(self, out: Path) -> int:
        """Fork a process that compares a run with the unbroken one, and return its number."""
        return self.forked(lambda: run_asserts.assert_same_run(load_result(out), load_result(self.folder / "unbroken")))

    def forked(self, action: Callable[[], object]) -> int:
        """Fork a process that does something as the interpreter would, to its end."""
        number = os.fork()
        if number:
            return number
        errors = os.open(self.folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        show_stacks_on_request((self.folder / "stacks").open("w"))
        code = 0
        try:
            action()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except KeyboardInterrupt:  # after the command, or before it
            code = INTERRUPTED
        except BaseException:
            traceback.print_exc()
            code = 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # As the interpreter ends: threads are joined, and what was registered is called.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)

    def end(self, number: int) -> int | None:
        """Wait for a process, and return its exit code; None: it hung, and was killed."""
        return ended(number, PATIENCE + 3 * self.seconds)

    def interrupt(self, out: Path) -> bool:
        """Begin, or go on with, a run, and interrupt it; returns whether it came to its end before."""
        number = self.begin(out)
        time.sleep(self.random.random() * self.seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGINT)
        code = self.end(number)
        said = (self.folder / "stderr").read_text(errors="replace")
        outcome = {None: "hung", 0: "was through", INTERRUPTED: "ended"}.get(code, f"ended with {code}")
        if code == INTERRUPTED and said and ("Traceback" in said or SAID not in said):
            outcome = "ended, but did not say so"
        self.outcomes[outcome] += 1
        if outcome not in ("ended", "was through"):
            print(outcome, said, (self.folder / "stacks").read_text(errors="replace"), sep="\n", flush=True)
        return code == 0

    def round(self, number: int) -> None:
        """Interrupt a run again and again until it is through, and compare it with an unbroken one."""
        out = self.folder / str(number)
        for _ in range(5):
            if self.interrupt(out):
                break
        else:
            self.end(self.begin(out))
        if self.end(self.compare(out)) != 0:
            self.outcomes["gave another result"] += 1
            print((self.folder / "stderr").read_text(errors="replace"), flush=True)
        shutil.rmtree(out, ignore_errors=True)


def campaign() -> int:
    """Interrupt runs as the command line says, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="interruptions")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # threads of OpenMP do not survive a fork
    folder = Path(tempfile.mkdtemp(prefix="netdissect-interruptions-"))
    trials, number = Trials(folder, asked.seed), 0
    print(f"an unbroken run takes {trials.seconds:.2f} s", flush=True)
    while sum(trials.outcomes[name] for name in trials.outcomes) - trials.outcomes["was through"] < asked.count:
        trials.round(number)
        number += 1
        print(dict(trials.outcomes), flush=True)
    print(dict(trials.outcomes))
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if trials.outcomes.keys() <= {"ended", "was through"} else 1


if __name__ == "__main__":
    sys.exit(campaign())
