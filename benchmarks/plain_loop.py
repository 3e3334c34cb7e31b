"""The least that a dissection can cost: decode the images, and run the network up to a layer.

    python -m benchmarks.plain_loop DATA LAYER [--network NAME --weights none] [--batch-size 32 | --tune] [--give-back]

Tuned by hand: inference mode, channels last, batches of one size, images decoded by two threads while the network
runs, freed memory kept (`--give-back`: not, as C libraries do by default), nothing computed behind the layer.
`--tune` finds the batch size.
"""

import csv
import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image

from benchmarks.process import prepared
from netdissect.cli.process_tuning import freeze_gc
from netdissect.models import Network, load_network

BATCHES = (8, 16, 32, 64)
WORKERS = 2
AHEAD = 2


class ReachedError(Exception):
    """The layer has run."""


def source_images(data: Path, limit: int | None) -> list[Path]:
    """List the images of a data set."""
    with (data / "index.csv").open(newline="", encoding="utf-8") as file:
        return [data / "images" / row["image"] for row in csv.DictReader(file)][:limit]


def decode(paths: list[Path], side: int) -> npt.NDArray[np.uint8]:
    """Decode a batch, uint8 (B, 3, side, side)."""
    batch = np.empty((len(paths), 3, side, side), np.uint8)
    for row, path in zip(batch, paths, strict=True):
        with Image.open(path) as image:
            source_image = image.convert("RGB")
            if source_image.size != (side, side):
                source_image = source_image.resize((side, side), Image.Resampling.BILINEAR)
            row[:] = np.asarray(source_image).transpose(2, 0, 1)
    return batch


def decoded(paths: list[Path], side: int, batch_size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode batches, the next ones while the network runs."""
    parts = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    waiting: deque[Future[npt.NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for part in parts:
            waiting.append(pool.submit(decode, part, side))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def forward_all(network: Network, paths: list[Path], layer: str, batch_size: int) -> int:
    """Run the network on all images up to a layer, and count what it put out."""
    module = network.module.to(memory_format=torch.channels_last)
    seen = 0

    def stop(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal seen
        seen += output.numel()
        raise ReachedError

    hook = module.get_submodule(layer).register_forward_hook(stop)
    with torch.inference_mode():
        for pixels in decoded(paths, network.preprocessing.size.height, batch_size):
            images = network.preprocessing.normalize(torch.from_numpy(pixels))
            try:
                module(images.contiguous(memory_format=torch.channels_last))
            except ReachedError:
                continue
    hook.remove()
    return seen


def seconds_of(function: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of some times: what the machine can do."""
    function()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def pace(network: Network, paths: list[Path], layer: str) -> dict[int, float]:
    """Return milliseconds an image by batch size."""
    return {
        size: 1e3 * seconds_of(partial(forward_all, network, paths, layer, size), 2) / len(paths) for size in BATCHES
    }


def main(
    data: Path,
    layer: str,
    network: Annotated[str, typer.Option()] = "efficientnet_lite0",
    weights: Annotated[str | None, typer.Option()] = None,
    batch_size: Annotated[int, typer.Option()] = 32,
    limit: Annotated[int | None, typer.Option()] = None,
    give_back: Annotated[bool, typer.Option()] = False,
    tune: Annotated[bool, typer.Option()] = False,
) -> None:
    """Print how many values the layer put out, or milliseconds an image by batch size."""
    if not give_back:
        prepared()
    with freeze_gc():
        loaded = load_network(network, weights=weights)
    if tune:
        print(json.dumps(pace(loaded, source_images(data, limit), layer)))
    else:
        print(forward_all(loaded, source_images(data, limit), layer, batch_size))
    gc.freeze()


if __name__ == "__main__":
    typer.run(main)
