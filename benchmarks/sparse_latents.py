"""A sparse autoencoder's latents as units: whole runs beside the forward pass and the encoding of the same images.

    python -m benchmarks.sparse_latents SOURCE [--network cnn] [--latents 16384] [--images 1906] [--pairs 3]

SOURCE is a data set in Broden's layout, whose images are used; their labels are drawn: 1,197 concepts, as in
`benchmarks.memory`. The layers are `_blocks.10` of EfficientNet-Lite0 with its published weights (`cnn`) and the
tokens of the last block of ViT-S/16 with random ones (`vit`), 14 x 14 cells both. A row of the encoder is a random cell
of these images, from which the mean cell was subtracted, so that each latent is active somewhere; 64 are kept on each
cell. The yardstick decodes, runs the network up to the layer and encodes the cells, and keeps nothing. Runs leave
intervals, the permutation test and the layout check out, unless `--statistics` asks for the first.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

import netdissect
from benchmarks.memory import write_data
from benchmarks.plain_loop import BATCHES, decoded, source_images
from benchmarks.process import peak_memory, prepared
from netdissect.config import DissectConfig, StatisticsConfig
from netdissect.models import ActivationRecorder, Network, load_network, resolve_layers
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary

CONCEPTS = 1_197
LATENTS = (4_096, 16_384, 65_536)
ACTIVE = 64
BATCH = BATCHES[1]
FITTED = 256  # images from whose cells the encoders are drawn
LAYERS = {"cnn": ("efficientnet_lite0", None, "_blocks.10"), "vit": ("timm:vit_small_patch16_224", "none", "blocks.11")}


def with_real_images(root: Path, source: Path, images: int) -> None:
    """Write a data set of drawn labels, and link the images of another one into it."""
    write_data(root, images, CONCEPTS)
    with (root / "index.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    for index, (row, path) in enumerate(zip(rows, source_images(source, images), strict=True)):
        os.link(path, root / "images" / f"real-{index}{path.suffix}")
        row[0] = f"real-{index}{path.suffix}"
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def opened(kind: str) -> tuple[Network, str]:
    """Return the network and the name of its layer."""
    spec, weights, layer = LAYERS[kind]
    torch.manual_seed(0)
    return load_network(spec, weights=weights), layer


def cells_of_batches(network: Network, layer: str, paths: list[Path]) -> Any:
    """Yield the cells of the images, batch by batch, float32 (N, U)."""
    layers = resolve_layers(network, [layer])
    with torch.inference_mode(), network.prepared(), ActivationRecorder(network, layers) as recorder:
        for pixels in decoded(paths, network.preprocessing.size.height, BATCH):
            maps = recorder(network.preprocessing.normalize(torch.from_numpy(pixels)))[layer]
            yield maps.flatten(2).transpose(1, 2).flatten(0, 1)


def fitted(kind: str, latents: int, data: Path) -> SparseDictionary:
    """Draw the encoder's rows from cells of the images."""
    network, layer = opened(kind)
    cells = torch.cat(list(cells_of_batches(network, layer, source_images(data, FITTED))))
    mean = cells.mean(dim=0)
    chosen = torch.from_numpy(np.random.default_rng(0).choice(len(cells), latents, replace=latents > len(cells)))
    rows = torch.nn.functional.normalize(
        cells[chosen] - mean + 1e-3 * cells.std() * torch.randn(latents, cells.shape[1])
    )
    return SparseDictionary(layer, DictionaryWeights(rows, -rows @ mean, rows, mean), ACTIVE)


def child(do: str, kind: str, latents: int, folder: Path, *, intervals: bool) -> dict[str, float]:
    """Do one thing, and say what it took."""
    network, layer = opened(kind)
    paths = source_images(folder / "data", None)
    weights: dict[str, Tensor] = torch.load(folder / f"{latents}.pt")
    dictionary = SparseDictionary(layer, DictionaryWeights(**weights), ACTIVE)
    begin, before = time.monotonic(), time.process_time()
    found: dict[str, float] = {}
    if do == "dissect":
        sparse = replace(network, bases={f"{layer}@sae": dictionary})
        chosen = StatisticsConfig(bootstrap=1000 if intervals else 0, permutations=0)
        config = DissectConfig(layers=(f"{layer}@sae",), batch_size=BATCH, statistics=chosen, layout_check=False)
        result = netdissect.dissect(sparse, folder / "data", config=config, out=folder / f"run-{latents}")
        found = dict(result.info.seconds) | {
            "dead": float(result.layers[f"{layer}@sae"].thresholds["dead"].sum()),
        }
    else:
        for cells in cells_of_batches(network, layer, paths):
            if do == "encode":
                with torch.inference_mode():
                    dictionary.encode_sparse(cells)
    wall, computing = time.monotonic() - begin, time.process_time() - before
    return found | {"wall": wall, "computing": computing, "memory": peak_memory()}


def run_child(do: str, kind: str, latents: int, folder: Path, *, intervals: bool) -> dict[str, float]:
    """Run `child` as a process of its own."""
    task = json.dumps({"do": do, "kind": kind, "latents": latents, "folder": str(folder), "intervals": intervals})
    command = [sys.executable, "-m", "benchmarks.sparse_latents", "--child", task, "."]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(kind: str, latents: int, folder: Path, pairs: int, *, intervals: bool) -> None:
    """Print the ratios of a number of latents, and the memory above the network's own."""
    dictionary = fitted(kind, latents, folder / "data")
    torch.save({name: part for name, part in dictionary.weights._asdict().items() if part is not None},
               folder / f"{latents}.pt")  # fmt: skip
    network = run_child("network", kind, latents, folder, intervals=intervals)
    ratios: dict[str, list[float]] = {"wall": [], "computing": []}
    for _ in range(pairs):
        run = folder / f"run-{latents}"
        whole, plain = (run_child(do, kind, latents, folder, intervals=intervals) for do in ("dissect", "encode"))
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        subprocess.run(["rm", "-r", str(run)], check=True)
        for name, values in ratios.items():
            values.append(whole[name] / plain[name])
    rounded = {name: round(value, 1) for name, value in whole.items() if name != "memory"}
    print(
        f"{kind}, {latents:,} latents: {statistics.median(ratios['wall']):.2f} of forward pass and encoding "
        f"(processor time {statistics.median(ratios['computing']):.2f}; last pair {plain['wall']:.1f} s, "
        f"{plain['computing']:.1f} s of processor time, and {rounded}), "
        f"{(whole['memory'] - network['memory']) / 1e6:,.0f} MB above the network's {network['memory'] / 1e6:,.0f} MB, "
        f"encoding alone {(plain['memory'] - network['memory']) / 1e6:,.0f} MB above, run folder {size / 1e6:,.0f} MB",
        flush=True,
    )


def main(
    source: Path,
    network: Annotated[str, typer.Option(help="cnn or vit; default both.")] = "",
    latents: Annotated[int, typer.Option(help="Default: 4,096, 16,384 and 65,536.")] = 0,
    images: Annotated[int, typer.Option()] = 1_906,
    pairs: Annotated[int, typer.Option()] = 3,
    intervals: Annotated[bool, typer.Option("--statistics")] = False,
    child_task: Annotated[str | None, typer.Option("--child", hidden=True)] = None,
) -> None:
    """Print ratios and memory."""
    prepared()
    if child_task is not None:
        task = json.loads(child_task)
        found = child(task["do"], task["kind"], task["latents"], Path(task["folder"]), intervals=task["intervals"])
        print(json.dumps(found))
        return
    with TemporaryDirectory() as name:
        with_real_images(Path(name) / "data", source, images)
        for kind in (network,) if network else tuple(LAYERS):
            for number in (latents,) if latents else LATENTS:
                measured(kind, number, Path(name), pairs, intervals=intervals)


if __name__ == "__main__":
    typer.run(main)
