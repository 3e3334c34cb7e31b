"""Whole runs as a user types them, in turn with a tuned plain loop over the same images; each a process.

    python -m benchmarks.whole_run measure FILE DATA --group default [--network NAME] [--times 5] [--rounds 5]
    python -m benchmarks.whole_run series FILE DATA [--rounds 5] [--minutes 60]
    python -m benchmarks.whole_run table FILE

DATA is a data set in Broden's layout. A round runs every way of a group once, and is appended to FILE, JSON lines, when
it is complete; `measure` adds rounds until FILE has as many as asked for, or until the next would not end within
`--minutes` (it then exits with 3), so that a long series can be taken in pieces; `series` does so for everything in
`benchmarks/RESULTS.md`, a round of each in turn. Ratios are medians over rounds of what is in FILE. Data sets that hold
every image several times over and the caches of labels and images lie in FILE's folder.

Groups: `default` (eager, one, five and ten layers), `backends` (images packed by an earlier run; every backend and
precision), `images` (packed or decoded), `statistics` (what the default statistics and the layout check add), `start`
(32 images: warm, and with nothing compiled; and the text of `--help`).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer

from benchmarks.larger_data import enlarged
from benchmarks.networks import NETWORKS, Measured
from benchmarks.process import environment_of_users
from benchmarks.series import Record, append, commit, markdown, read
from netdissect.cli.process_tuning import SPINS

LITE = "efficientnet_lite0"
PLAIN, HELP = "plain loop", "--help"
PROGRAM = ("-c", "from netdissect.cli import main; main()")
BARE = ("--bootstrap", "0", "--permutations", "0", "--no-layout-check")
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
        *(_backend(backend, "float32") for backend in ("eager", "compile", "onnxruntime", "openvino", "auto")),
        *(_backend(backend, "bfloat16") for backend in ("eager", "compile", "openvino")),
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
    "start": (Way(PLAIN), Way("warm"), Way("nothing compiled", cold=True), Way(HELP)),
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


def process(*arguments: object, **environment: str) -> tuple[str, Record]:
    """Run a module of Python in a process of its own; return what it prints, its seconds and those of the processors.

    Its threads wait for work as those of the command line do.
    """
    command = [sys.executable, *map(str, arguments)]
    settings = {"GOMP_SPINCOUNT": str(SPINS)} | environment_of_users() | environment
    start, before = time.perf_counter(), sum(os.times()[2:4])
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=True)
    return done.stdout, {"seconds": time.perf_counter() - start, "cpu": sum(os.times()[2:4]) - before}


def plain_loop(series: Series, data: Path, *options: object) -> tuple[str, Record]:
    """Run the plain loop."""
    network = ["--network", series.measured.spec, *series.measured.options]
    return process("-m", "benchmarks.plain_loop", data, series.measured.layers[-1], *network, *options)


def dissected(series: Series, data: Path, way: Way, batch_size: int) -> Record:
    """Run `netdissect run` once, and record what it says of itself."""
    measured, caches = series.measured, series.file.parent
    layers = [part for layer in measured.chosen(way.layers) for part in ("--layer", layer)]
    limit = [] if series.limit is None else ["--max-images", series.limit]
    packed = ["--image-cache"] if way.packed else []
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        environment = {"NUMBA_CACHE_DIR": str(Path(folder) / "numba")} if way.cold else {}
        _, spent = process(
            *PROGRAM, "run", measured.spec, *measured.options,
            "--concepts", data, *layers, "--out", out, "--batch-size", batch_size, "--cache-folder", caches / "cache",
            *packed, *limit, *way.options, **environment,
        )  # fmt: skip
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))["run"]
    assert [layer["name"] for layer in run["layers"]] == list(measured.chosen(way.layers))
    says = {"seconds": run["seconds"], "check": run.get("backend_check"), "backend": run["config"]["backend"]}
    return {"name": way.name} | spent | {"batch_size": batch_size, "images": run["data"]["images"], "says": says}


def tuned(series: Series) -> int:
    """Return the batch size at which the plain loop is fastest, measured once for each network."""
    for record in read(series.file, "batch size"):
        if record["network"] == series.network:
            return int(record["batch_size"])
    limit = 256 if series.network == LITE else 64
    pace = json.loads(plain_loop(series, series.data, "--tune", "--limit", limit)[0])
    best = int(min(pace, key=pace.__getitem__))
    append(series.file, "batch size", {"network": series.network, "batch_size": best, "ms": pace})
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
    """Fill caches before anything is measured with a commit: of labels and images, and of the code of every way."""
    tuned(series)
    packed = Way("caches", packed=True)
    for way in (packed, *ways):
        done = {"name": way.name, "commit": commit()} | series.key
        if way is packed:
            done |= {"group": "any", "network": "any"}
        if (
            way.name in (PLAIN, HELP)
            or way.cold
            or any(done.items() <= record.items() for record in read(series.file, "warm"))
        ):
            continue
        with suppress(subprocess.CalledProcessError):  # said when it is measured
            if way is packed:
                whole = replace(series, network=LITE, group="images")
                dissected(whole, data, way, tuned(whole))
            else:
                dissected(series, series.data, way, batch_size_of(series, way))
        append(series.file, "warm", done)


def one_round(series: Series, data: Path, ways: tuple[Way, ...]) -> Record:
    """Run every way once."""
    runs = []
    for way in ways:
        try:
            runs.append(one_run(series, data, way))
        except subprocess.CalledProcessError as error:  # such as a backend that is not installed
            print(f"{way.name} failed: {error.stderr.strip()[-1000:]}", flush=True)
    return series.key | {"runs": runs}


def one_run(series: Series, data: Path, way: Way) -> Record:
    """Run a way once."""
    if way.name == PLAIN:
        limit = [] if series.limit is None else ["--limit", series.limit]
        return {"name": PLAIN} | plain_loop(series, data, "--batch-size", tuned(series), *limit)[1]
    if way.name == HELP:
        return {"name": HELP} | process(*PROGRAM, HELP)[1]
    return dissected(series, data, way, batch_size_of(series, way))


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    file: Path,
    data: Path,
    group: Annotated[str, typer.Option()] = "default",
    network: Annotated[str, typer.Option()] = LITE,
    times: Annotated[int, typer.Option(help="Take the images so many times over.")] = 1,
    rounds: Annotated[int, typer.Option(help="In the file, with those that are there.")] = 5,
    way: Annotated[list[str] | None, typer.Option(help="Only these of the group; by default all.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin no round that would not end by then.")] = 1e6,
) -> None:
    """Add rounds to a file until it has as many as asked for."""
    series, end = Series(file, data.resolve(), network, times, group), time.monotonic() + 60 * minutes
    while len(series.rounds()) < rounds:
        if not add_round(series, tuple(way or ()), end):
            raise typer.Exit(3)


def add_round(series: Series, only: tuple[str, ...], end: float) -> bool:
    """Add a round to a file, unless it would not end in time."""
    done = series.rounds()
    past = [sum(run["seconds"] for run in record["runs"]) for record in done]
    if past and time.monotonic() + max(past) > end:
        return False
    ways = tuple(way for way in GROUPS[series.group] if not only or way.name in only)
    data = enlarged(series.data, series.times, series.file.parent)
    warm_up(series, data, ways)
    append(series.file, "round", one_round(series, data, ways))
    print(f"{series.group}, {series.network}, {series.times} x: round {len(done) + 1}", flush=True)
    return True


FASTEST = (PLAIN, "onnxruntime, float32", "openvino, float32", "openvino, bfloat16")
SERIES = (
    ("default", LITE, 1, ()),
    ("backends", LITE, 1, ()),
    ("start", LITE, 1, ()),
    ("default", LITE, 5, ()),
    ("backends", LITE, 5, FASTEST),
    ("images", LITE, 1, ()),
    ("statistics", LITE, 1, ()),
    ("backends", "resnet50", 5, FASTEST),
    ("backends", "vit_small", 5, FASTEST),
    ("backends", "convnext_tiny", 5, FASTEST),
)
"""Group, network, how many times over, and ways: the backends that were fastest alone (`benchmarks.roofline`).

A round of all of EfficientNet-Lite0 takes about 14 minutes on 2 cores, of ResNet-50 9, and of ViT-S or ConvNeXt-T 16.
"""


@app.command("series")
def measure_all(
    file: Path,
    data: Path,
    rounds: Annotated[int, typer.Option(help="Of each group, with those that are there.")] = 5,
    minutes: Annotated[float, typer.Option(help="Begin no round that would not end by then.")] = 1e6,
    network: Annotated[list[str] | None, typer.Option(help="Only these; by default all.")] = None,
) -> None:
    """Add rounds of every group in turn until a file has as many as asked for."""
    end = time.monotonic() + 60 * minutes
    for number in range(rounds):
        for group, name, times, only in SERIES:
            series = Series(file, data.resolve(), name, times, group)
            if (not network or name in network) and len(series.rounds()) <= number:
                add_round(series, only, end)


@app.command()
def table(file: Path) -> None:
    """Print medians over the rounds, and the ratio of each way to the first of its round."""
    print("\n".join(lines(file)))


def lines(file: Path) -> Iterator[str]:
    """Return the lines of a table for each series of a file."""
    for record in read(file, "batch size"):
        pace = ", ".join(f"{ms:.2f} at {size}" for size, ms in record["ms"].items())
        yield f"Plain loop of {record['network']}, ms an image by batch size: {pace}."
        yield ""
    for group, network, times in {(r["group"], r["network"], r["times"]): None for r in read(file, "round")}:
        rounds = Series(file, Path(), network, times, group).rounds()
        yield f"{TITLES[group]}: {network}, {images_of(group, times)} images, {len(rounds)} rounds."
        yield ""
        yield from markdown(COLUMNS, rows(rounds))
        yield ""


def images_of(group: str, times: int) -> str:
    """Return how many images a series has of the data set with which `benchmarks/RESULTS.md` was made."""
    return f"{FEW if group == 'start' else times * 1906:,}"


TITLES = {
    "default": "Default path",
    "backends": "Backends, images packed by an earlier run",
    "images": "Images decoded, or packed by an earlier run",
    "statistics": "What the default statistics and the layout check add",
    "start": "Start",
}
COLUMNS = ("", "wall time", "processor time", "ratio", "of processor time", "thresholds", "counting", "start and end")
KINDS = ("seconds", "cpu")
PASSES = ("thresholds", "counting")


def rows(rounds: list[Record]) -> Iterator[tuple[str, ...]]:
    """Return a row for each way, and one for ten layers against one."""
    names = list(dict.fromkeys(run["name"] for record in rounds for run in record["runs"]))
    for name in names:
        times = (f"{statistics.median(of(rounds, name, kind)):.2f} s" for kind in KINDS)
        yield name, *times, *ratios(rounds, name, names[0]), *passes(rounds, name)
    if {"one layer", "ten layers"} <= set(names):
        yield "ten layers / one layer", "", "", *ratios(rounds, "ten layers", "one layer"), "", "", ""


def passes(rounds: list[Record], name: str) -> Iterator[str]:
    """Return the medians of the two passes of a way, and of what is not in them."""
    runs = [run for record in rounds for run in record["runs"] if run["name"] == name]
    says = [(run["says"]["seconds"], run["seconds"]) for run in runs if "says" in run]
    if not says:
        yield from ("", "", "")
        return
    for stage in PASSES:
        yield f"{statistics.median(seconds[stage] for seconds, _ in says):.2f} s"
    yield f"{statistics.median(whole - sum(seconds[stage] for stage in PASSES) for seconds, whole in says):.2f} s"


def of(rounds: list[Record], name: str, kind: str) -> list[float]:
    """Return a number of all runs of one way."""
    return [run[kind] for record in rounds for run in record["runs"] if run["name"] == name]


def ratios(rounds: list[Record], name: str, base: str) -> Iterator[str]:
    """Return the median ratio to another way of the same round, and the smallest and largest."""
    for kind in KINDS:
        both = [{run["name"]: run[kind] for run in record["runs"]} for record in rounds]
        found = sorted(runs[name] / runs[base] for runs in both if name in runs and base in runs)
        yield f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})" if found else ""


if __name__ == "__main__":
    app()
