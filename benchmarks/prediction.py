"""Hold `netdissect.estimate` against whole runs: time, memory and disk.

    python -m benchmarks.prediction DATA [--network N] [--limit N]

Each run and each prediction is a process of its own. EfficientNet-Lite0, 1,906 images: about 4 minutes.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

import netdissect
from benchmarks.process import peak_memory, prepared
from netdissect.config import DissectConfig

LAYERS = (
    ("_blocks.15",),
    ("_blocks.4", "_blocks.10"),
    ("_blocks.2", "_blocks.6", "_blocks.10", "_blocks.15", "_conv_head"),
)


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def predicted(network: str, data: Path, config: DissectConfig) -> dict[str, Any]:
    found = netdissect.estimate(netdissect.load_network(network), data, config=config)
    return {
        "seconds": found.total_seconds, "stages": dict(found.seconds),
        "memory": found.memory_bytes, "disk": found.disk_bytes,
    }  # fmt: skip


def measured(network: str, data: Path, config: DissectConfig) -> dict[str, Any]:
    loaded, largest = netdissect.load_network(network), 0
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"

        def note(*_: object) -> None:
            nonlocal largest
            largest = max(largest, folder_size(out))

        begin = time.monotonic()
        result = netdissect.dissect(loaded, data, config=config, out=out, progress=note)
        seconds = time.monotonic() - begin
        stages = result.info.seconds | {"tables": seconds - sum(result.info.seconds.values())}
        # While tables are written, what was kept is still there.
        return {"seconds": seconds, "stages": stages, "memory": peak_memory(), "disk": largest + folder_size(out)}


def main(
    data: Path,
    network: Annotated[str, typer.Option()] = "efficientnet_lite0",
    limit: Annotated[int | None, typer.Option()] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Predict and measure in turn, and print measured / predicted."""
    prepared()
    if child is not None:
        task = json.loads(child)
        config = DissectConfig(layers=task["layers"], max_images=limit)
        print(json.dumps({"predict": predicted, "run": measured}[task["do"]](network, data, config)))
        return
    for layers in LAYERS:
        found = {}
        for do in ("predict", "run"):
            task = json.dumps({"do": do, "layers": layers})
            command = [sys.executable, *sys.orig_argv[1:], "--child", task]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[do] = json.loads(done.stdout.splitlines()[-1])
        told = "; ".join(
            f"{name} {found['predict'][name]:,.0f} predicted, {found['run'][name]:,.0f} measured "
            f"({found['run'][name] / found['predict'][name]:.2f})"
            for name in ("seconds", "memory", "disk")
        )
        stages = {name: [round(found[do]["stages"][name], 2) for do in found] for name in found["run"]["stages"]}
        print(f"{len(layers)} layers: {told}; stages {stages}", flush=True)


if __name__ == "__main__":
    typer.run(main)
