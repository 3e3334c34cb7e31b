"""Peak memory of whole dissections, beside that of the network alone; each a process of its own.

    python -m benchmarks.memory [--images 63305] [--units 64]   the three layers of the limit, 1,197 concepts
    python -m benchmarks.memory --growth                        images, units and concepts tenfold

The network is a 1 x 1 convolution over averaged pixels, which costs next to nothing, and the data set names the same
64 images of noise over and over; everything else is what `netdissect run` does. At 63,305 images about 45 minutes and
10 GB of disk.
"""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from PIL import Image

import netdissect
from benchmarks.plain_loop import forward_all, source_images
from benchmarks.process import peak_memory, prepared
from netdissect.config import DissectConfig, Execution
from netdissect.models import Network, Preprocessing

SIDE = 112
IMAGES = 64
CATEGORIES = {"scene": 0.4, "object": 0.48, "part": 0.12}  # shares of the concepts; scenes are of the whole image
LIMIT = 1.5e9


class Case(NamedTuple):
    """One layer on one data set."""

    units: int
    side: int
    images: int
    concepts: int
    store: str = "sparse"


def network_of(case: Case) -> Network:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, case.units, 1)
    module = torch.nn.Sequential(torch.nn.AvgPool2d(SIDE // case.side), layer, torch.nn.ReLU(), torch.nn.Flatten())
    return Network("synthetic", module, Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.25,) * 3))


def write_data(root: Path, images: int, concepts: int) -> None:
    """Write a data set in Broden's layout, its rows being the same images again and again."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    edges = np.round(np.cumsum([0, *CATEGORIES.values()]) * concepts).astype(int) + 1
    numbers = {name: range(a, b) for name, a, b in zip(CATEGORIES, edges, edges[1:], strict=False)}
    table(
        root / "category.csv",
        "name,first,last,count,frequency",
        [(n, r[0], r[-1], len(r), 1) for n, r in numbers.items()],
    )
    table(root / "label.csv", "number,name,category,frequency,coverage,syns",
          [(i, f"concept {i}", n, 1, 1, "") for n, r in numbers.items() for i in r])  # fmt: skip
    for name, codes in numbers.items():
        table(root / f"c_{name}.csv", "code,number,name,frequency,coverage",
              [(code, i, f"concept {i}", 1, 1) for code, i in enumerate(codes)])  # fmt: skip
    rows = []
    for index in range(IMAGES):
        noise = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(root / "images" / f"{index}.jpg")
        cells = [str(rng.choice(numbers["scene"]))]
        for name in ("object", "part"):
            blocks = np.kron(rng.choice(numbers[name], (7, 7)), np.ones((16, 16), np.int64))
            Image.fromarray(np.stack([blocks % 256, blocks // 256, 0 * blocks], -1).astype(np.uint8)).save(
                root / "images" / f"{index}_{name}.png"
            )
            cells.append(f"{index}_{name}.png")
        rows.append((f"{index}.jpg", "train", SIDE, SIDE, SIDE, SIDE, *cells))
    table(root / "index.csv", "image,split,ih,iw,sh,sw,scene,object,part", [rows[i % IMAGES] for i in range(images)])


def table(path: Path, header: str, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def child(do: str, case: Case, data: Path, out: Path) -> dict[str, float]:
    """Do one thing, and say what it took."""
    network, begin = network_of(case), time.monotonic()
    if do == "network":
        forward_all(network, source_images(data, 20 * 32), "2", 32)
    else:
        config = DissectConfig(layers=("2",))
        result = netdissect.dissect(
            network, data, config=config, out=out, execution=Execution(activation_cache=case.store)
        )
        assert len(result.layers["2"].units) == case.units
        assert result.info.data.images == case.images
    return {"memory": peak_memory(), "seconds": time.monotonic() - begin}


def measured(case: Case) -> tuple[float, float]:
    """Return bytes above the network's own, and seconds."""
    found = {}
    with TemporaryDirectory() as folder:
        write_data(Path(folder) / "data", case.images, case.concepts)
        for do in ("network", "dissect"):
            task = json.dumps({"do": do, "case": case, "folder": folder})
            command = [sys.executable, "-m", "benchmarks.memory", "--child", task]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[do] = json.loads(done.stdout.splitlines()[-1])
    above = found["dissect"]["memory"] - found["network"]["memory"]
    print(f"{case.units:,} units of {case.side} x {case.side}, {case.images:,} images, {case.concepts:,} concepts, "
          f"store {case.store}: {above / 1e6:,.0f} MB above the network's {found['network']['memory'] / 1e6:,.0f} MB, "
          f"{found['dissect']['seconds']:,.0f} s", flush=True)  # fmt: skip
    assert above < LIMIT
    return above, found["dissect"]["seconds"]


def main(
    images: Annotated[int, typer.Option()] = 63_305,
    growth: Annotated[bool, typer.Option("--growth")] = False,
    units: Annotated[int | None, typer.Option(help="Of the three layers only the one of so many units.")] = None,
    child_task: Annotated[str | None, typer.Option("--child", hidden=True)] = None,
) -> None:
    """Print peak memory and time."""
    prepared()
    if child_task is not None:
        task = json.loads(child_task)
        folder = Path(task["folder"])
        print(json.dumps(child(task["do"], Case(*task["case"]), folder / "data", folder / "run")))
    elif growth:
        start = Case(units=100, side=7, images=2_000, concepts=120)
        for grown in ({}, {"images": 20_000}, {"units": 1_000}, {"concepts": 1_200}):
            measured(start._replace(**grown))
    else:
        for case in (Case(512, 14, images, 1197), Case(2048, 7, images, 1197), Case(64, 112, images, 1197, "none")):
            if units in (None, case.units):
                measured(case)


if __name__ == "__main__":
    typer.run(main)
