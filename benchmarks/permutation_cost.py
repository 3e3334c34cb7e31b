"""Processor time of whole runs with the permutation test against runs without it; processes, in turn.

    python -m benchmarks.permutation_cost DATA [--pairs 5] [--permutations 100] [--layers 1 --layers 5]

DATA is a data set in Broden's layout. EfficientNet-Lite0 on 184 images: about 4 minutes; on 1,906 images 15 minutes.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.whole_run import FIVE, NETWORK

CHOICES = {1: ("_blocks.10",), 5: FIVE}
PROGRAM = "from netdissect.cli import main; main()"


def seconds(data: Path, layers: tuple[str, ...], permutations: int) -> float:
    """Return the processor time of a run, as a user types it."""
    with TemporaryDirectory() as folder:
        named = [part for layer in layers for part in ("--layer", layer)]
        command = ["run", NETWORK, "--concepts", data, *named, "--out", Path(folder) / "run"]
        arguments = [*map(str, command), "--permutations", str(permutations)]
        before = sum(os.times()[2:4])
        subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, capture_output=True)
        return sum(os.times()[2:4]) - before


def main(
    data: Path,
    pairs: Annotated[int, typer.Option()] = 5,
    permutations: Annotated[int, typer.Option()] = 100,
    layers: Annotated[list[int] | None, typer.Option(help="1 or 5.")] = None,
) -> None:
    """Print medians, and the ratio of each pair."""
    for count in layers or CHOICES:
        for asked in (permutations, 0):
            seconds(data, CHOICES[count], asked)
        found = [(seconds(data, CHOICES[count], permutations), seconds(data, CHOICES[count], 0)) for _ in range(pairs)]
        ratios = [with_test / without for with_test, without in found]
        left, right = (statistics.median(side) for side in zip(*found, strict=True))
        print(
            f"layers {count}: {left:.2f} s / {right:.2f} s, ratio {statistics.median(ratios):.3f} "
            f"({', '.join(f'{ratio:.3f}' for ratio in ratios)})",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
