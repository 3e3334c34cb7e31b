"""The first run ever, later ones, and the plain inference loop: few images, whole processes, in turn.

    python -m benchmarks.cold_start DATA [--pairs 5] [--images 32]

A first run finds no compiled loops: its folder of machine code is new. A later one finds what the first one left there.
DATA is a data set in Broden's layout.
"""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer

from benchmarks.process import environment_of_users

PROGRAM = ("-c", "from netdissect.cli import main; main()")
NETWORK, LAYER = "efficientnet_lite0", "_blocks.15"


class Cost(NamedTuple):
    """Seconds of a process: on the wall, and of the processor."""

    wall: float
    processor: float


def measured(environment: dict[str, str], *arguments: object) -> Cost:
    """Run Python in a process of its own."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, env=environment_of_users() | environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, processor)


def round_of(data: Path, images: int) -> dict[str, Cost]:
    """Measure each kind of process once."""
    with TemporaryDirectory() as folder:
        code = {"NUMBA_CACHE_DIR": f"{folder}/code"}
        run = (*PROGRAM, "run", NETWORK, "--concepts", data, "--layer", LAYER, "--max-images", images, "--out")
        return {
            "first": measured(code, *run, f"{folder}/first"),
            "later": measured(code, *run, f"{folder}/later"),
            "plain loop": measured({}, "-m", "benchmarks.plain_loop", data, LAYER, "--limit", images),
            "--help": measured({}, *PROGRAM, "--help"),
        }


def main(data: Path, pairs: Annotated[int, typer.Option()] = 5, images: Annotated[int, typer.Option()] = 32) -> None:
    """Print medians."""
    round_of(data, images)  # files are read from the disk, and label maps are packed
    rounds = [round_of(data, images) for _ in range(pairs)]
    for name in rounds[0]:
        wall, processor = (statistics.median(found[name][kind] for found in rounds) for kind in (0, 1))
        print(f"{name}: {wall:.2f} s, {processor:.2f} s of the processor")
    for left, right in (("first", "later"), ("later", "plain loop")):
        wall, processor = (
            statistics.median(found[left][kind] - found[right][kind] for found in rounds) for kind in (0, 1)
        )
        print(f"{left} - {right}: {wall:.2f} s, {processor:.2f} s of the processor")


if __name__ == "__main__":
    typer.run(main)
