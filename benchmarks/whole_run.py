"""Whole runs as a user types them, in turn with a tuned plain loop over the same images; each a process.

    python -m benchmarks.whole_run measure FILE DATA --group default [--network NAME] [--times 5] [--rounds 5]
    python -m benchmarks.whole_run table FILE

DATA is a data set in Broden's layout. A round runs every way of a group once, and is appended to FILE, JSON lines, when
it is complete; `measure` adds rounds until FILE has as many as asked for, or until the next would not end within
`--minutes` (it then exits with 3), so that a long series can be taken in pieces. Ratios are medians over rounds of what
is in FILE. Data sets that name every image several times over and the caches of labels and images lie in FILE's folder.

Groups: `default` (eager, one, five and ten layers), `backends` (images packed by an earlier run; every backend and
precision), `images` (packed or decoded), `statistics` (what the default statistics and the layout check add), `start`
(32 images: warm, and with nothing compiled).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copy, copytree
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer

from benchmarks.networks import NETWORKS, Measured
from benchmarks.plain_loop import forward_all, source_images
from benchmarks.process import prepared
from benchmarks.series import Record, append, commit, machine, read
from netdissect.cli.process_tuning import SPINS
from netdissect.models import load_network

PLAIN = "plain loop"
BARE = ("--bootstrap", "0", "--permutations", "0", "--no-layout-check")
BATCHES = (8, 16, 32, 64)
FEW = 32
"""Images of a short run."""


class Way(NamedTuple):
    """One way to run over the images: the plain loop, or `netdissect run` with options."""

    name: str
    layers: int = 1
    options: tuple[str, ...] = BARE
    packed: bool = False
    cold: bool = False


def _backend(backend: str, precision: str) -> Way:
    options = (*BARE, "--backend", backend, "--precision", precision)
    return Way(f"{backend}, {precision}", 1, options, packed=True)


GROUPS = {
    "default": (Way(PLAIN), Way("one layer"), Way("five layers", 5), Way("ten layers", 10)),
    "backends": (
        Way(PLAIN),
        *(_backend(backend, "float32") for backend in ("eager", "compile", "onnxruntime", "auto")),
        *(_backend(backend, "bfloat16") for backend in ("eager", "compile", "onnxruntime")),
    ),
    "images": (Way("decoded"), Way("packed", packed=True)),
    "statistics": (
        Way("none"),
        Way("bootstrap", options=("--permutations", "0", "--no-layout-check")),
        Way("permutations", options=("--bootstrap", "0", "--no-layout-check")),
        Way("layout check", options=("--bootstrap", "0", "--permutations", "0")),
        Way("all, as by default", options=()),
        Way("none, five layers", 5),
        Way("all, five layers", 5, options=()),
    ),
    "start": (Way(PLAIN), Way("warm"), Way("nothing compiled", cold=True)),
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """Where one group is measured.

    Attributes
    ----------
    file
        Of the records; caches and larger data sets lie in its folder.
    data
        Data set.
    network
        Key of `NETWORKS`.
    times
        How many times over the images are taken.
    group
        Key of `GROUPS`.
    """

    file: Path
    data: Path
    network: str
    times: int
    group: str

    @property
    def measured(self) -> Measured:
        """Return the network and its layers."""
        return NETWORKS[self.network]

    @property
    def limit(self) -> int | None:
        """Return how many images are taken; None: all."""
        return FEW if self.group == "start" else None

    @property
    def key(self) -> Record:
        """Return what the records of this series have in common."""
        return {"group": self.group, "network": self.network, "times": self.times}

    def rounds(self) -> list[Record]:
        """Return the rounds measured so far."""
        return [record for record in read(self.file, "round") if self.key.items() <= record.items()]


def enlarged(series: Series) -> Path:
    """Return a data set that holds every image several times over, each time in files of their own."""
    if series.times == 1:
        return series.data
    larger = series.file.parent.resolve() / f"{series.data.name}-times-{series.times}"
    if (larger / "index.csv").exists():
        return larger
    larger.mkdir(exist_ok=True)
    for table in series.data.glob("*.csv"):
        copy(table, larger)
    for number in range(series.times):
        copytree(series.data / "images", larger / "images" / str(number), dirs_exist_ok=True)
    (larger / "index.csv").unlink()
    header, *rows = (series.data / "index.csv").read_text(encoding="utf-8").splitlines()
    lines = (",".join(_moved(row, number)) for number in range(series.times) for row in rows)
    (larger / "index.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return larger


def _moved(row: str, number: int) -> Iterator[str]:
    """Name the files of a row in the folder of their copies."""
    for column, cell in enumerate(row.split(",")):
        is_file = column == 0 or cell.endswith((".png", ".jpg"))
        yield ";".join(f"{number}/{part}" if "." in part else part for part in cell.split(";")) if is_file else cell


def process(*arguments: object, **environment: str) -> tuple[float, float]:
    """Run a module of Python in a process of its own; return its seconds and those of the processors.

    Its threads wait for work as those of the command line do.
    """
    command = [sys.executable, *map(str, arguments)]
    settings = {"GOMP_SPINCOUNT": str(SPINS)} | os.environ | environment
    start, before = time.perf_counter(), sum(os.times()[2:4])
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
    spent = time.perf_counter() - start, sum(os.times()[2:4]) - before
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{done.stderr[-3000:]}")
    return spent


def plain_loop(series: Series, data: Path, batch_size: int) -> Record:
    """Run the plain loop once."""
    limit = [] if series.limit is None else ["--limit", series.limit]
    network = ["--network", series.measured.spec, *series.measured.options]
    layer = series.measured.layers[-1]
    seconds, cpu = process("-m", "benchmarks.plain_loop", data, layer, *network, "--batch-size", batch_size, *limit)
    return {"name": PLAIN, "seconds": seconds, "cpu": cpu, "batch_size": batch_size}


def dissected(series: Series, data: Path, way: Way, batch_size: int) -> Record:
    """Run `netdissect run` once, and record what it says of itself."""
    measured, caches = series.measured, series.file.parent
    layers = [part for layer in measured.chosen(way.layers) for part in ("--layer", layer)]
    limit = [] if series.limit is None else ["--max-images", series.limit]
    packed = ["--image-cache"] if way.packed else []
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        environment = {"NUMBA_CACHE_DIR": str(Path(folder) / "numba")} if way.cold else {}
        seconds, cpu = process(
            "-c", "from netdissect.cli import main; main()", "run", measured.spec, *measured.options,
            "--concepts", data, *layers, "--out", out, "--batch-size", batch_size, "--cache-folder", caches / "cache",
            *packed, *limit, *way.options, **environment,
        )  # fmt: skip
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))["run"]
    assert [layer["name"] for layer in run["layers"]] == list(measured.chosen(way.layers))
    return {
        "name": way.name, "seconds": seconds, "cpu": cpu, "batch_size": batch_size, "images": run["data"]["images"],
        "says": {name: run[name] for name in ("seconds", "versions", "backend", "forward") if name in run},
    }  # fmt: skip


def seconds_of(function: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of some times: what the machine can do."""
    function()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def tuned(series: Series) -> int:
    """Return the batch size at which the plain loop is fastest, measured once for each network."""
    for record in read(series.file, "batch size"):
        if record["network"] == series.network:
            return int(record["batch_size"])
    network = load_network(series.measured.spec, weights=series.measured.weights)
    few = source_images(series.data, 256 if series.network == "efficientnet_lite0" else 64)
    layer = series.measured.layers[-1]
    pace = {n: seconds_of(partial(forward_all, network, few, layer, n), 2) / len(few) for n in BATCHES}
    best = min(pace, key=pace.__getitem__)
    milliseconds = {str(n): round(1e3 * pace[n], 2) for n in BATCHES}
    append(series.file, "batch size", {"network": series.network, "batch_size": best, "ms": milliseconds})
    return best


def batch_size_of(series: Series, way: Way) -> int:
    """Return the batch size of a way: that of the plain loop, or the fastest of its backend's own forward pass."""
    options = dict(zip(way.options, way.options[1:], strict=False))
    for record in read(series.file, "forward"):
        asked = (series.network, options.get("--backend"), options.get("--precision"))
        if asked == (record["network"], record["backend"], record["precision"]):
            return int(record["batch_size"])
    return tuned(series)


def warm_up(series: Series, data: Path, ways: tuple[Way, ...]) -> None:
    """Run every way once before it is first measured: caches of labels, images and machine code fill."""
    tuned(series)
    for way in ways:
        done = {"name": way.name, "commit": commit()} | series.key
        if way.name == PLAIN or way.cold or any(done.items() <= record.items() for record in read(series.file, "warm")):
            continue
        dissected(series, data, way, batch_size_of(series, way))
        append(series.file, "warm", done)


def one_round(series: Series, data: Path, ways: tuple[Way, ...]) -> Record:
    """Run every way once."""
    runs = [
        plain_loop(series, data, tuned(series))
        if way.name == PLAIN
        else dissected(series, data, way, batch_size_of(series, way))
        for way in ways
    ]
    return series.key | {"runs": runs}


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    file: Path,
    data: Path,
    group: Annotated[str, typer.Option()] = "default",
    network: Annotated[str, typer.Option()] = "efficientnet_lite0",
    times: Annotated[int, typer.Option(help="Take the images so many times over.")] = 1,
    rounds: Annotated[int, typer.Option(help="In the file, with those that are there.")] = 5,
    way: Annotated[list[str] | None, typer.Option(help="Only these of the group; by default all.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin no round that would not end by then.")] = 1e6,
) -> None:
    """Add rounds to a file until it has as many as asked for."""
    end = time.monotonic() + 60 * minutes
    prepared()
    series = Series(file, data.resolve(), network, times, group)
    ways = tuple(one for one in GROUPS[group] if not way or one.name in way)
    larger = enlarged(series)
    warm_up(series, larger, ways)
    while len(series.rounds()) < rounds:
        past = [sum(run["seconds"] for run in record["runs"]) for record in series.rounds()]
        if past and time.monotonic() + max(past) > end:
            raise typer.Exit(3)
        append(file, "round", one_round(series, larger, ways))
        print(f"{group}, {network}, {times} x: round {len(series.rounds())} of {rounds}", flush=True)


@app.command()
def table(file: Path) -> None:
    """Print medians over the rounds, and the ratio of each way to the first of its round."""
    for record in read(file, "batch size"):
        print(f"{record['network']}, plain loop: batches of {record['batch_size']}, ms an image {record['ms']}")
    keys = {(r["group"], r["network"], r["times"]): None for r in read(file, "round")}
    for group, network, times in keys:
        series = Series(file, Path(), network, times, group)
        print(f"\n{group}, {network}, {times} x, {machine()}, {len(series.rounds())} rounds\n")
        print("| | wall, s | processor, s | ratio of wall time | of processor time |\n|---|---|---|---|---|")
        for row in rows(series.rounds()):
            print(f"| {' | '.join(row)} |")


def rows(rounds: list[Record]) -> Iterator[tuple[str, ...]]:
    """Return a row for each way, and one for ten layers against one."""
    names = list(dict.fromkeys(run["name"] for record in rounds for run in record["runs"]))
    for name in names:
        yield (
            name,
            *(f"{statistics.median(of(rounds, name, kind)):.2f}" for kind in KINDS),
            *ratios(rounds, name, rounds[0]["runs"][0]["name"]),
        )
    if {"one layer", "ten layers"} <= set(names):
        yield "ten layers / one layer", "", "", *ratios(rounds, "ten layers", "one layer")


KINDS = ("seconds", "cpu")


def of(rounds: list[Record], name: str, kind: str) -> list[float]:
    """Return a number of all runs of one way."""
    return [run[kind] for record in rounds for run in record["runs"] if run["name"] == name]


def ratios(rounds: list[Record], name: str, base: str) -> Iterator[str]:
    """Return the median ratio to another way of the same round, and the smallest and largest."""
    for kind in KINDS:
        both = [{run["name"]: run[kind] for run in record["runs"]} for record in rounds]
        found = sorted(runs[name] / runs[base] for runs in both if name in runs and base in runs)
        yield f"{statistics.median(found):.3f} ({found[0]:.3f} to {found[-1]:.3f}; {len(found)})" if found else "-"


if __name__ == "__main__":
    app()
