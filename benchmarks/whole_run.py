"""Whole runs as a user types them, against a tuned bare loop over the same images; processes, in turn.

    python -m benchmarks.whole_run DATA [--pairs 5] [--limit N] [--times N]

DATA is a data set in Broden's layout. EfficientNet-Lite0 on 2 cores, 1,906 images, 5 pairs: about 25 minutes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_loop import WORKERS, decode, forward_all, source_images
from benchmarks.process import interleaved, prepared
from netdissect.cli.process_tuning import SPINS
from netdissect.models import Network, load_network

LAST = "_blocks.15"
FIVE = ("_blocks.2", "_blocks.4", "_blocks.10", "_blocks.14", LAST)
TEN = ("_blocks.2", "_blocks.4", "_blocks.5", "_blocks.7", "_blocks.8", "_blocks.10", "_blocks.11", "_blocks.13",
       "_blocks.14", LAST)  # fmt: skip
NETWORK = "efficientnet_lite0"
BATCHES = (8, 16, 32, 64)


def seconds(function: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of some times: what the machine can do."""
    function()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def physical_limit(network: Network, paths: list[Path]) -> tuple[float, float]:
    """Return seconds an image at the peak of the processor's matrix product, and of decoding, on all cores."""
    image = torch.zeros(1, 3, *network.preprocessing.size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.module(image)
    square = torch.rand(2048, 2048)
    peak = 2 * 2048**3 / seconds(lambda: square @ square, 10)
    some = paths[:128]
    decoding = seconds(lambda: decode(some, network.preprocessing.size.height)) / len(some) / WORKERS
    flops = counter.get_total_flops()
    print(
        f"{flops / 1e9:.2f} GFLOP an image, matrix product {peak / 1e9:.0f} GFLOP/s, decoding {1e3 * decoding:.2f} ms"
    )
    return flops / peak, decoding


def tuned(network: Network, paths: list[Path]) -> int:
    """Return the batch size at which the bare loop is fastest."""
    some = paths[:256]
    paces = {size: seconds(lambda size=size: forward_all(network, some, LAST, size), 2) for size in BATCHES}
    print("bare loop, ms an image: " + ", ".join(f"{1e3 * s / len(some):.2f} at {n}" for n, s in paces.items()))
    return min(paces, key=paces.__getitem__)


@contextmanager
def repeated(data: Path, times: int) -> Iterator[Path]:
    """Make a data set that names every image some times over: a larger one with the same work for each image."""
    with TemporaryDirectory() as folder:
        larger = Path(folder)
        for table in data.glob("*.csv"):
            copy(table, larger)
        (larger / "images").symlink_to((data / "images").resolve())
        header, *rows = (data / "index.csv").read_text(encoding="utf-8").splitlines()
        (larger / "index.csv").write_text("\n".join([header, *rows * times, ""]), encoding="utf-8")
        yield larger


def process(*arguments: object) -> str:
    """Run a module of Python in a process of its own, whose threads wait for work as those of the command line do."""
    command = [sys.executable, *map(str, arguments)]
    environment = {"GOMP_SPINCOUNT": str(SPINS)} | os.environ
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def main(
    data: Path,
    pairs: Annotated[int, typer.Option()] = 5,
    limit: Annotated[int | None, typer.Option()] = None,
    times: Annotated[int, typer.Option(help="Go through the images so many times, as if they were more.")] = 1,
    option: Annotated[list[str] | None, typer.Option(help="Passed on to netdissect run, as --bootstrap=0.")] = None,
) -> None:
    """Print ratios: medians of interleaved pairs."""
    prepared()
    with repeated(data, times) as larger:
        measure(larger, pairs, limit, option or [])


def measure(data: Path, pairs: int, limit: int | None, option: list[str]) -> None:
    """Run all cases, and print the ratio of each."""
    network, paths = load_network(NETWORK), source_images(data, limit)
    computing, decoding = physical_limit(network, paths)
    size = tuned(network, paths)
    few = ["--max-images", limit] if limit else []
    bare = ["-m", "benchmarks.plain_loop", data, LAST, "--batch-size", size, *few]

    def dissected(layers: tuple[str, ...]) -> None:
        with TemporaryDirectory() as folder:
            named = [part for layer in layers for part in ("--layer", layer)]
            out = Path(folder) / "run"
            program = "from netdissect.cli import main; main()"
            options = ("--batch-size", size, *few, *option)  # the same forward pass on both sides
            process("-c", program, "run", NETWORK, "--concepts", data, *named, "--out", out, *options)
            info = json.loads((out / "run.json").read_text())["run"]
            assert [layer["name"] for layer in info["layers"]] == list(layers)
            assert info["data"]["images"] == len(paths)

    cases: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "one layer / bare loop": (lambda: dissected((LAST,)), lambda: process(*bare)),
        "five layers / bare loop": (lambda: dissected(FIVE), lambda: process(*bare)),
        "ten layers / one layer": (lambda: dissected(TEN), lambda: dissected((LAST,))),
        "one layer / bare loop that gives memory back": (
            lambda: dissected((LAST,)), lambda: process(*bare, "--give-back"),
        ),
    }  # fmt: skip
    for name, (left, right) in cases.items():
        found = interleaved(left, right, pairs)
        print(
            f"{name}: {found.left:.1f} s / {found.right:.1f} s, ratio {found.ratio:.3f}, "
            f"of processor time {found.computing:.3f}",
            flush=True,
        )
        if name == "one layer / bare loop":
            physical = len(paths) * max(computing, decoding)
            print(f"physical limit {physical:.1f} s: the bare loop takes {found.right / physical:.1f} times as long")


if __name__ == "__main__":
    typer.run(main)
