"""Memory and time of a layer of very many units, beside those of an ordinary one; each run a process of its own.

    python -m benchmarks.growth [--images 1906] [--units 65536] [--statistics]

The network and the data are those of `benchmarks.memory`: 7 x 7 cells of a 1 x 1 convolution over averaged pixels, and
1,197 concepts. Memory is above that of the network alone in batches of the same size. Intervals and the permutation
test are left out, unless `--statistics` asks for them as they are by default. 65,536 units on 1,906 images: some 10
minutes and 8 GB of disk.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import netdissect
from benchmarks.memory import Case, network_of, write_data
from benchmarks.plain_loop import forward_all, source_images
from benchmarks.process import peak_memory, prepared
from netdissect.config import DissectConfig, StatisticsConfig

ORDINARY = 2_048
CONCEPTS = 1_197
BATCH = 16


def child(do: str, case: Case, folder: Path, *, statistics: bool) -> dict[str, float]:
    """Run the network alone, or dissect it, and say what it took."""
    network, begin = network_of(case), time.monotonic()
    if do == "network":
        forward_all(network, source_images(folder / "data", 10 * BATCH), "2", BATCH)
    else:
        chosen = StatisticsConfig() if statistics else StatisticsConfig(bootstrap=0, permutations=0)
        config = DissectConfig(layers=("2",), batch_size=BATCH, statistics=chosen, layout_check=False)
        result = netdissect.dissect(network, folder / "data", config=config, out=folder / "run")
        assert len(result.layers["2"].units) == case.units
        assert result.info.data.images == case.images
    return {"memory": peak_memory(), "seconds": time.monotonic() - begin}


def measured(case: Case, *, statistics: bool) -> float:
    """Print what a case takes, and return its microseconds for each unit and image."""
    found = {}
    with TemporaryDirectory() as name:
        write_data(Path(name) / "data", case.images, case.concepts)
        for do in ("network", "dissect"):
            task = json.dumps({"do": do, "case": case, "folder": name, "statistics": statistics})
            command = [sys.executable, "-m", "benchmarks.growth", "--child", task]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[do] = json.loads(done.stdout.splitlines()[-1])
    above = found["dissect"]["memory"] - found["network"]["memory"]
    pace = 1e6 * found["dissect"]["seconds"] / case.units / case.images
    print(
        f"{case.units:,} units on {case.images:,} images: {above / 1e6:,.0f} MB above the network's "
        f"{found['network']['memory'] / 1e6:,.0f} MB, {found['dissect']['seconds']:.1f} s, "
        f"{pace:.2f} µs for each unit and image",
        flush=True,
    )
    return pace


def main(
    images: Annotated[int, typer.Option()] = 1_906,
    units: Annotated[int, typer.Option()] = 65_536,
    statistics: Annotated[bool, typer.Option("--statistics")] = False,
    child_task: Annotated[str | None, typer.Option("--child", hidden=True)] = None,
) -> None:
    """Print peak memory and time."""
    prepared()
    if child_task is not None:
        task = json.loads(child_task)
        done = child(task["do"], Case(*task["case"]), Path(task["folder"]), statistics=task["statistics"])
        print(json.dumps(done))
        return
    ordinary, wide = (measured(Case(each, 7, images, CONCEPTS), statistics=statistics) for each in (ORDINARY, units))
    print(f"time for each unit and image: {wide / ordinary:.2f} times that at {ORDINARY:,} units")


if __name__ == "__main__":
    typer.run(main)
