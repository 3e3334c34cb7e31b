"""Trace and check every layer of published network families: which are confirmed, contradicted, unknown.

    python -m benchmarks.layout_audit FILE [--only TEXT] [--seconds 300]   # a line a network; goes on after a stop
    python -m benchmarks.layout_audit FILE --table                         # the lines as a table

Weights are random and images synthetic: nothing is downloaded. Each network runs in a process of its own, with limits
of time and memory. A feature map is an output of four dimensions, or of three with tokens, that responds to spots in
few of its cells. Attention matrices and values per head are no feature maps.
"""

import json
import multiprocessing
import resource
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from benchmarks.layout_families import build, missing, networks
from netdissect.concepts import Size
from netdissect.models import Layer, Network, survey_layers
from netdissect.models.outputs import first_tensor
from netdissect.models.receptive_field.layout_check import (
    CONCENTRATED,
    FEWEST_CELLS,
    PEAK,
    LayoutCheck,
    check_layout,
    half_pixel,
)
from netdissect.models.receptive_field.spot_probe import CellResponses, Pixels, make_probe

MEMORY = 12 * 2**30  # bytes of addresses a network may take
# Words of the reasons why attention matrices, values per head and depth maps without units have no layout.
NO_MAPS = ("pairs of cells", "values per head", "none of its dimensions is that of the units")
VERDICTS = ("confirmed", "no evidence", "unknown", "contradicted")
COLUMNS = ("family", "networks", *VERDICTS, "no maps", "one cell", "unknown, %")


def noise_images(size: Size) -> Pixels:
    """Draw two images of coarse and fine noise, uint8 (2, 3, H, W)."""
    rng = np.random.default_rng(0)
    total = np.zeros((2, *size, 3))
    for cells in (3, 6, 12, 24, 48):
        for index in range(2):
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            total[index] += np.asarray(noise.resize((size.width, size.height), Image.Resampling.BICUBIC)) / cells**0.5
    low, high = total.min(), total.max()
    return ((total - low) / (high - low) * 255).astype(np.uint8).transpose(0, 3, 1, 2)


class LayerChecks:
    """Layout checks of every layer of a network, taken while it runs."""

    def __init__(self, network: Network) -> None:
        self.size = network.preprocessing.size
        self.layers = {layer.name: layer for layer in survey_layers(network)}
        self.checks: dict[str, LayoutCheck] = {}
        self.unread: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.probe = make_probe(noise_images(self.size))
        modules = dict(network.module.named_modules(remove_duplicate=False))
        hooks = [
            modules[name].register_forward_hook(lambda _module, _inputs, output, name=name: self._note(name, output))
            for name in self.layers
        ]
        images = network.preprocessing(torch.from_numpy(self.probe.images))
        with network.prepared(network.device), torch.inference_mode():
            network.forward(images)
        for hook in hooks:
            hook.remove()

    def _note(self, name: str, output: object) -> None:
        tensor, layer = first_tensor(output), self.layers[name]
        if tensor is None:
            return
        self.shapes[name] = tuple(tensor.shape)
        if layer.layout is None:
            self.checks[name] = self._any_layout(tensor.float())
        elif layer.grid is not None:
            self._read(tensor.float(), layer)

    def _read(self, output: Tensor, layer: Layer) -> None:
        """Check an output that is read as its layer says; the last run of a module counts."""
        self.unread.pop(layer.name, None)
        try:
            maps = layer.layout.read(output, layer.grid)
        except (ValueError, IndexError, RuntimeError) as error:
            self.unread[layer.name] = str(error)
        else:
            self.checks[layer.name] = self._check(maps, layer)

    def _check(self, maps: Tensor, layer: Layer) -> LayoutCheck:
        responses = CellResponses(self.probe.original)
        responses.update(maps)
        field = layer.field or half_pixel(Size(*maps.shape[2:]), self.size)
        return check_layout(responses.maps, field, self.size, self.probe, units=responses.units)

    def _any_layout(self, output: Tensor) -> LayoutCheck:
        """Return the check of an output in the reading in which its responses are most concentrated."""
        images = len(self.probe.images)
        if output.ndim < 3 or len(output) % images:
            return LayoutCheck("no evidence", "no response")
        parts = output if len(output) == images else output.unflatten(0, (images, -1))
        found = []
        for units in range(1 if output.ndim == 4 else parts.ndim - 1, parts.ndim):  # tokens have units last
            maps = parts.movedim(units, 1).flatten(2)[:, :, None]
            if maps.shape[3] < FEWEST_CELLS**2:
                continue
            responses = CellResponses(self.probe.original)
            responses.update(maps)
            cells = half_pixel(Size(1, maps.shape[3]), self.size)
            found.append(check_layout(responses.maps, cells, self.size, self.probe, units=responses.units))
        few = LayoutCheck("no evidence", "few cells")
        return min(found, key=lambda check: (not concentrated(check), check.share), default=few)

    def column(self, name: str) -> str:
        """Return the column of a layer in the table."""
        layer, check = self.layers[name], self.checks.get(name)
        if name in self.unread:
            return "contradicted"
        if layer.layout is None:
            map_like = check is not None and len(self.shapes[name]) in (3, 4) and concentrated(check)
            known = any(words in str(layer.reason) for words in NO_MAPS) or self._no_map(self.shapes[name], layer)
            return "unknown" if map_like and not known else "no maps"
        if layer.grid is None or layer.grid == (1, 1) or check is None:
            return "one cell"
        return check.verdict

    def _no_map(self, shape: tuple[int, ...], layer: Layer) -> bool:
        """Tell whether an output is attention by heads or among channels, or has no tokens at all."""
        reason = str(layer.reason)
        if len(shape) == 3:
            merged = shape[0] > len(self.probe.images) and "each cell of a map once" in reason
            return merged or "no dimension of it" in reason
        return shape[2] == shape[3] and "no dimension of it" in reason

    def row_of(self, name: str) -> dict[str, Any]:
        """Return what is stated of a layer, and the result of its check."""
        layer, check = self.layers[name], self.checks.get(name)
        axes = () if layer.field is None else (layer.field.vertical, layer.field.horizontal)
        layout = None if layer.layout is None else layer.layout.name
        return {
            "layer": name, "type": layer.type, "shape": self.shapes[name], "layout": layout, "grid": layer.grid,
            "field": [(axis.offset, axis.size, axis.step) for axis in axes], "reason": layer.reason,
            "check": asdict(check) if check and name not in self.unread else self.unread[name],
        }  # fmt: skip


def concentrated(check: LayoutCheck) -> bool:
    """Tell whether responses are strong in few cells."""
    return check.share <= CONCENTRATED and check.peak >= PEAK


def audit(network: Network) -> dict[str, Any]:
    """Count the layers of a network by column, and describe those that need inspection."""
    seen = LayerChecks(network)
    columns = {name: seen.column(name) for name in seen.layers if name in seen.shapes}
    return {
        "counts": dict(Counter(columns.values())),
        "contradicted": [seen.row_of(name) for name, column in columns.items() if column == "contradicted"],
        "reasons": dict(
            Counter(str(seen.layers[name].reason) for name, column in columns.items() if column == "no maps")
        ),
        "no evidence": dict(
            Counter(seen.checks[name].reason for name, column in columns.items() if column == "no evidence")
        ),
        "unknown": [seen.row_of(name) for name, column in columns.items() if column == "unknown"],
    }


def _child(library: str, name: str, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    try:
        answer.send(audit(build(library, name)))
    except Exception as error:  # of a library, whatever it is: one line of the audit
        answer.send({"error": f"{type(error).__name__}: {error}"[:400]})


def run(library: str, name: str, seconds: float) -> dict[str, Any]:
    """Audit one network in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(library, name, there))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(seconds) else {"error": f"longer than {seconds:g} seconds"}
    except EOFError:
        return {"error": "its process ended, as one that runs out of memory does"}
    finally:
        process.kill()
        process.join()


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the counts of each family, and of each library, as Markdown."""
    families: dict[tuple[str, str], Counter[str]] = {}
    for line in lines:
        for family in (line["family"], "**all**"):
            counts = families.setdefault((line["library"], family), Counter())
            counts.update(line.get("counts", {}))
            counts["networks" if "counts" in line else "not run"] += 1
    rows = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for (library, family), counts in sorted(families.items()):
        maps = sum(counts[verdict] for verdict in VERDICTS)
        share = f"{100 * counts['unknown'] / maps:.1f}" if maps else ""
        run = f"{counts['networks']}" + (f" ({counts['not run']} not run)" if counts["not run"] else "")
        cells = [run, *(str(counts[column]) for column in (*VERDICTS, "no maps", "one cell")), share]
        rows.append(f"| {library} {family} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(
    file: Path,
    *,
    only: Annotated[str, typer.Option(help="Part of LIBRARY FAMILY NETWORK.")] = "",
    seconds: Annotated[float, typer.Option(help="For one network.")] = 300.0,
    as_table: Annotated[bool, typer.Option("--table", help="Print the table of a finished file.")] = False,
) -> None:
    """Audit the networks that the file lacks, or print its table."""
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if as_table:
        print(table(done))
        return
    torch.set_num_threads(1)
    if missing():
        print("families that the table of networks lacks:", ", ".join(missing()))
    known = {(line["library"], line["network"]) for line in done}
    for library, family, name in networks():
        if (library, name) in known or only not in f"{library} {family} {name}":
            continue
        begin = time.monotonic()
        found = run(library, name, seconds)
        line = {"library": library, "family": family, "network": name, "seconds": round(time.monotonic() - begin, 1)}
        with file.open("a") as lines:
            lines.write(json.dumps(line | found) + "\n")
        print(library, name, line["seconds"], found.get("counts", found.get("error")), flush=True)


if __name__ == "__main__":
    typer.run(main)
