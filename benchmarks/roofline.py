"""How close forward passes and whole runs come to what the processor can do.

    python -m benchmarks.roofline measure FILE DATA [--network NAME]
    python -m benchmarks.roofline table FILE

The limit of an image is the longest of three times: its FLOPs up to the layer over the fastest product of the same
number format, the bytes that its convolutions and matrix products read and write over the memory bandwidth, and
decoding it. All three are measured on all cores, together with each backend's own forward pass: images in memory,
nothing but the pass. The product is one of matrices or a convolution, whichever is faster: on AMD, torch's float32
matrix product takes twice as long as its convolutions. FILE is that of `benchmarks.whole_run`, from which whole runs
are taken.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmarks.networks import NETWORKS, Measured
from benchmarks.plain_loop import WORKERS, ReachedError, decode, seconds_of, source_images
from benchmarks.process import environment_of_users, prepared
from benchmarks.series import Record, append, markdown, read
from benchmarks.whole_run import PLAIN, of
from netdissect.config import BackendName, Precision
from netdissect.models import ActivationRecorder, Network, load_network, resolve_layers
from netdissect.models.backends import BackendSettings

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SQUARES = (1024, 2048, 3072)
BACKENDS = (
    ("eager", "float32"), ("compile", "float32"), ("onnxruntime", "float32"), ("openvino", "float32"),
    ("eager", "bfloat16"), ("compile", "bfloat16"), ("openvino", "bfloat16"),
)  # fmt: skip
BATCHES = (8, 16, 32)
COMPILED_BATCHES = (8,)
"""Compiling takes half a minute for each."""
COPIED = 2**28
"""Numbers of float32 in the copy that measures the memory bandwidth."""


class Moved(TorchDispatchMode):
    """Counts the bytes that operations with FLOPs, and all operations, read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.fused, self.all = 0, 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count its tensors unless it is a view."""
        outputs = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            tensors = torch.utils._pytree.tree_leaves((args, kwargs, outputs))
            count = sum(one.nbytes for one in tensors if isinstance(one, torch.Tensor))
            self.all += count
            self.fused += count * (operation._overloadpacket in flop_registry)
        return outputs


def stopping(network: Network, layer: str) -> Any:
    """Let the network's pass end after a layer; return the hook."""

    def stop(*_: object) -> None:
        raise ReachedError

    return network.module.get_submodule(layer).register_forward_hook(stop)


def cost(network: Network, layer: str, batch_size: int) -> Record:
    """Return GFLOP and megabytes of an image, up to a layer, in batches of some size."""
    images = torch.zeros(batch_size, 3, *network.preprocessing.size)
    hook = stopping(network, layer)
    flops, moved = FlopCounterMode(display=False), Moved()
    for counter in (flops, moved):
        with torch.no_grad(), counter, suppress(ReachedError):
            network.module(images)
    hook.remove()
    return {
        "gflop": flops.get_total_flops() / batch_size / 1e9,
        "fused_mb": moved.fused / batch_size / 1e6,
        "eager_mb": moved.all / batch_size / 1e6,
    }


def peaks(precision: Precision) -> Record:
    """Return GFLOP/s of the fastest matrix product and of a convolution, and GB/s of memory, read and written."""
    squares = [torch.rand(n, n).to(FORMATS[precision]) for n in SQUARES]
    product = max(2 * len(one) ** 3 / seconds_of(partial(torch.mm, one, one), 5) for one in squares)
    images, filters = torch.rand(8, 256, 28, 28), torch.rand(256, 256, 3, 3)
    laid_out = [one.to(FORMATS[precision]).contiguous(memory_format=torch.channels_last) for one in (images, filters)]
    with torch.inference_mode():
        convolution = (
            2 * images.numel() * filters[0].numel() / seconds_of(partial(torch.conv2d, *laid_out, padding=1), 5)
        )
    source = torch.rand(COPIED)
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / seconds_of(partial(target.copy_, source), 3)
    return {"product": product / 1e9, "convolution": convolution / 1e9, "bandwidth": bandwidth / 1e9}


def forward_passes(measured: Measured, backend: BackendName, precision: Precision, images: int) -> dict[int, float]:
    """Return milliseconds an image of a backend's own forward pass, by batch size."""
    network = load_network(measured.spec, weights=measured.weights)
    layers = resolve_layers(network, measured.chosen(1))
    pixels = torch.randint(0, 256, (max(BATCHES), 3, *network.preprocessing.size), dtype=torch.uint8)
    normalized = network.preprocessing.normalize(pixels).contiguous(memory_format=torch.channels_last)
    found = {}
    for size in COMPILED_BATCHES if backend == "compile" else BATCHES:
        settings = BackendSettings(backend, size, precision)
        times = -(-images // size)
        with (
            network.prepared(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
            ActivationRecorder(network, layers, backend=settings) as run,
        ):
            found[size] = 1e3 * seconds_of(partial(_repeat, run, normalized[:size], times), 3) / (times * size)
    return found


def _repeat(run: Callable[[torch.Tensor], object], images: torch.Tensor, times: int) -> None:
    for _ in range(times):
        run(images)


app = typer.Typer(add_completion=False)


@app.command()
def one(network: str, backend: BackendName, precision: Precision, images: int) -> None:
    """Print what `forward_passes` and `peaks` return; a process of its own, as a run is."""
    prepared()
    print(json.dumps({"ms": forward_passes(NETWORKS[network], backend, precision, images)} | peaks(precision)))


@app.command()
def measure(
    file: Path,
    data: Path,
    network: Annotated[list[str] | None, typer.Option(help="By default all.")] = None,
    again: Annotated[bool, typer.Option(help="Measure also what is in the file.")] = False,
) -> None:
    """Add the limits of the machine and each backend's own forward pass to a file."""
    prepared()
    paths = source_images(data, 128)
    for name in network or NETWORKS:
        loaded = load_network(NETWORKS[name].spec, weights=NETWORKS[name].weights)
        side = loaded.preprocessing.size.height
        decoding = 1e3 * seconds_of(partial(decode, paths, side)) / len(paths) / WORKERS
        moved = cost(loaded, NETWORKS[name].layers[-1], max(BATCHES))
        append(file, "cost", {"network": name, "decoding": decoding} | moved)
        for backend, precision in BACKENDS:
            key = {"network": name, "backend": backend, "precision": precision}
            if again or not any(key.items() <= record.items() for record in read(file, "forward")):
                append(file, "forward", key | _in_a_process(name, backend, precision))
                print(" ".join(key.values()), flush=True)


def _in_a_process(network: str, backend: str, precision: str) -> Record:
    images = 128 if network == "efficientnet_lite0" else 32
    command = [sys.executable, "-m", "benchmarks.roofline", "one", network, backend, precision, str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment_of_users())
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: Record = json.loads(done.stdout.splitlines()[-1])
    best = min(found["ms"], key=found["ms"].__getitem__)
    return found | {"batch_size": int(best), "best_ms": found["ms"][best]}


@app.command()
def table(file: Path) -> None:
    """Print the limits, and the share of them that forward passes and whole runs reach."""
    print("\n".join(lines(file)))


LIMITS = ("network", "GFLOP", "MB, fused", "MB, eager", "decoding", *(f"limit, {precision}" for precision in FORMATS))
SHARES = (
    "network, way",
    "batch",
    "own forward pass",
    "limit / it",
    "whole run",
    "limit / it",
    "forward pass / whole run",
)


def lines(file: Path) -> Iterator[str]:
    """Return the lines of both tables; times are milliseconds an image."""
    peak = {precision: typical(file, precision) for precision in FORMATS}
    for precision, record in peak.items():
        product = f"matrix product {record['product']:.0f} GFLOP/s, convolution {record['convolution']:.0f}"
        yield f"{precision}: {product}, memory {record['bandwidth']:.0f} GB/s.  "
    costs = {record["network"]: record for record in read(file, "cost")}
    limits = {
        name: {precision: limit(record, peak[precision], precision) for precision in FORMATS}
        for name, record in costs.items()
    }
    yield ""
    yield from markdown(LIMITS, (_limits(record, limits[name]) for name, record in costs.items()))
    yield ""
    every = ((f"{name}, {row[0]}", *row[1:]) for name in costs for row in shares(file, costs[name], limits[name]))
    yield from markdown(SHARES, every)


def _limits(record: Record, limits: dict[str, float]) -> tuple[str, ...]:
    numbers = (record["gflop"], record["fused_mb"], record["eager_mb"])
    return (
        record["network"],
        *(f"{one:.1f}" for one in numbers),
        *(f"{one:.2f} ms" for one in (record["decoding"], *limits.values())),
    )


def typical(file: Path, precision: str) -> Record:
    """Return the medians of what was measured beside the forward passes of one number format."""
    beside = [record for record in read(file, "forward") if record["precision"] == precision and "product" in record]
    return {
        name: statistics.median(record[name] for record in beside) for name in ("product", "convolution", "bandwidth")
    }


def limit(record: Record, peak: Record, precision: str) -> float:
    """Return the milliseconds that an image takes at least."""
    half = 0.5 if precision == "bfloat16" else 1.0
    computing = 1e3 * record["gflop"] / max(peak["product"], peak["convolution"])
    moving = half * record["fused_mb"] / peak["bandwidth"]
    return float(max(computing, moving, record["decoding"]))


def shares(file: Path, costs: Record, limits: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Return a row for the plain loop and for each backend: the limit over its forward pass and over its whole runs."""
    network = costs["network"]
    wholes = whole_runs(file, network)
    if PLAIN in wholes:
        yield PLAIN, "", "", "", f"{wholes[PLAIN]:.2f} ms", f"{limits['float32'] / wholes[PLAIN]:.0%}", ""
    latest = {(r["backend"], r["precision"]): r for r in read(file, "forward") if r["network"] == network}
    for (backend, precision), record in latest.items():
        name = f"{backend}, {precision}"
        if "failed" in record:
            yield name, "", record["failed"], "", "", "", ""
            continue
        forward, whole = record["best_ms"], wholes.get(name)
        whole_row = (
            ("", "", "")
            if whole is None
            else (f"{whole:.2f} ms", f"{limits[precision] / whole:.0%}", f"{forward / whole:.0%}")
        )
        reached = f"{limit(costs, record, precision) / forward:.0%}"
        yield name, str(record["batch_size"]), f"{forward:.2f} ms", reached, *whole_row


def whole_runs(file: Path, network: str) -> dict[str, float]:
    """Return the milliseconds an image of whole runs with packed images, on the largest number of images."""
    rounds = [r for r in read(file, "round") if r["network"] == network and r["group"] == "backends"]
    rounds = [r for r in rounds if r["times"] == max(other["times"] for other in rounds)]
    names = {run["name"]: None for record in rounds for run in record["runs"]}
    images = next((run["images"] for record in rounds for run in record["runs"] if "images" in run), 1)
    return {name: 1e3 * statistics.median(of(rounds, name, "seconds")) / images for name in names}


if __name__ == "__main__":
    app()
