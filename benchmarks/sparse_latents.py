"""A sparse autoencoder's latents as units: whole runs beside the forward pass and the encoding of the same images.

    python -m benchmarks.sparse_latents SOURCE [--network cnn] [--latents 16384] [--images 1906] [--pairs 3]

SOURCE is a data set in Broden's layout, whose images are used; their labels are drawn: 1,197 concepts, as in
`benchmarks.memory`. The layers are `_blocks.10` of EfficientNet-Lite0 with its published weights (`cnn`) and the
tokens of the last block of ViT-S/16 with random ones (`vit`), 14 x 14 cells both. A row of the encoder is a random cell
of these images, from which the mean cell was subtracted, so that each latent is active somewhere; 64 are kept on each
cell. The yardstick decodes, runs the network up to the layer and encodes the cells, and keeps nothing. Runs leave
intervals, the permutation test and the layout check out; `--statistics` asks for the first two as they are by default.
Medians of the pairs; what the last run did until which of its processor seconds is written to standard error.
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
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor

import netdissect
from benchmarks.memory import write_data
from benchmarks.plain_loop import BATCHES, decoded, source_images
from benchmarks.process import peak_memory, prepared
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.models import ActivationRecorder, Network, load_network, resolve_layers
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary

CONCEPTS = 1_197
LATENTS = (4_096, 16_384, 65_536)
ACTIVE = 64
BATCH = BATCHES[1]
FITTED = 256  # images from whose cells the encoders are drawn
LAYERS = {"cnn": ("efficientnet_lite0", None, "_blocks.10"), "vit": ("timm:vit_small_patch16_224", "none", "blocks.11")}
TIMES = ("wall", "computing")
HEADER = (
    "| layer | latents | processor time: forward pass and encoding | dissection | ratio | wall time: forward pass and "
    "encoding | dissection | ratio | memory above that of the network: encoding | dissection | run folder |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


class Case(NamedTuple):
    """A dictionary of the layer of one network, whether the run has its default statistics, and its checkpoints."""

    kind: str
    latents: int
    statistics: bool
    checkpoint_seconds: float


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


def child(do: str, case: Case, folder: Path) -> dict[str, float]:
    """Do one thing, and say what it took: in all, and the processor seconds until the end of each pass."""
    network, layer = opened(case.kind)
    paths = source_images(folder / "data", None)
    weights: dict[str, Tensor] = torch.load(folder / f"{case.latents}.pt")
    dictionary = SparseDictionary(layer, DictionaryWeights(**weights), ACTIVE)
    dissect = netdissect.dissect  # loads its modules, as those of the yardstick are loaded
    begin, before = time.monotonic(), time.process_time()
    found: dict[str, float] = {}

    def progress(stage: str, _done: int, _total: int | None) -> None:
        found[stage] = time.process_time() - before

    if do == "dissect":
        sparse = replace(network, bases={f"{layer}@sae": dictionary})
        chosen = StatisticsConfig() if case.statistics else StatisticsConfig(bootstrap=0, permutations=0)
        config = DissectConfig(layers=(f"{layer}@sae",), batch_size=BATCH, statistics=chosen, layout_check=False)
        execution = Execution(checkpoint_seconds=case.checkpoint_seconds)
        result = dissect(
            sparse, folder / "data", config=config, execution=execution, out=folder / "run", progress=progress
        )
        thresholds = result.layers[f"{layer}@sae"].thresholds
        found["dead"], found["zero"] = float(thresholds["dead"].sum()), float((thresholds["threshold"] == 0).sum())
    else:
        for cells in cells_of_batches(network, layer, paths):
            if do == "encode":
                with torch.inference_mode():
                    dictionary.encode_sparse(cells)
    wall, computing = time.monotonic() - begin, time.process_time() - before
    return found | {"wall": wall, "computing": computing, "memory": peak_memory()}


def run_child(do: str, case: Case, folder: Path) -> dict[str, float]:
    """Run `child` as a process of its own."""
    task = json.dumps({"do": do, "case": case, "folder": str(folder)})
    command = [sys.executable, "-m", "benchmarks.sparse_latents", "--child", task, "."]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(case: Case, folder: Path, pairs: int) -> None:
    """Print a line of the table, and what the last run did until when."""
    dictionary, run = fitted(case.kind, case.latents, folder / "data"), folder / "run"
    torch.save({name: part for name, part in dictionary.weights._asdict().items() if part is not None},
               folder / f"{case.latents}.pt")  # fmt: skip
    network, found = run_child("network", case, folder), []
    for _ in range(pairs):
        whole, plain = (run_child(do, case, folder) for do in ("dissect", "encode"))
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        subprocess.run(["rm", "-r", str(run)], check=True)
        found.append((whole, plain))
    sides = [[f"{statistics.median(pair[side][name] for pair in found):.1f} s" for side in (1, 0)] for name in TIMES]
    ratios = [f"{statistics.median(whole[name] / plain[name] for whole, plain in found):.2f}" for name in TIMES]
    above = [f"{(side['memory'] - network['memory']) / 1e6:,.0f} MB" for side in (plain, whole)]
    cells = (
        case.kind,
        f"{case.latents:,}",
        *sides[1],
        ratios[1],
        *sides[0],
        ratios[0],
        *above,
        f"{size / 1e6:,.0f} MB",
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    passes = {name: round(value, 1) for name, value in whole.items() if name not in (*TIMES, "memory")}
    print(passes, file=sys.stderr, flush=True)


def main(
    source: Path,
    network: Annotated[str, typer.Option(help="cnn or vit; default both.")] = "",
    latents: Annotated[int, typer.Option(help="Default: 4,096, 16,384 and 65,536.")] = 0,
    images: Annotated[int, typer.Option()] = 1_906,
    pairs: Annotated[int, typer.Option()] = 3,
    with_statistics: Annotated[bool, typer.Option("--statistics")] = False,
    checkpoint_seconds: Annotated[float, typer.Option(help="More where other work slows the machine down.")] = 30,
    child_task: Annotated[str | None, typer.Option("--child", hidden=True)] = None,
) -> None:
    """Print ratios and memory."""
    prepared()
    if child_task is not None:
        task = json.loads(child_task)
        print(json.dumps(child(task["do"], Case(*task["case"]), Path(task["folder"]))))
        return
    print(HEADER)
    with TemporaryDirectory() as name:
        with_real_images(Path(name) / "data", source, images)
        for kind in (network,) if network else tuple(LAYERS):
            for number in (latents,) if latents else LATENTS:
                measured(Case(kind, number, with_statistics, checkpoint_seconds), Path(name), pairs)


if __name__ == "__main__":
    typer.run(main)
