"""Reports and the explorer of layers of many units.

    python benchmarks/wide_layers.py dissect DATA RUN UNITS               make a run of UNITS units on real images
    python benchmarks/wide_layers.py pairs RUN CHECKOUT RUN CHECKOUT      write two reports in turn, five times each

A run and the checkout that writes its report: the runs may be the same, or the same network and data dissected by each
checkout, where the format has changed.

The network is EfficientNet-Lite0 with its published weights up to `_blocks.10` (14 x 14 cells; beyond 2,048 units up
to `_blocks.15`, 7 x 7 cells), then a convolution of 1 x 1 with random weights of seed 0, and a ReLU: real activations
of real images in as many units as are asked for.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NARROW = 2_048
LAYER = "wide"

WRITE = """
import json, resource, sys, time
from pathlib import Path
from netdissect.report import report
from netdissect.result import load_result
start, wall = time.process_time(), time.perf_counter()
report(load_result(sys.argv[1]), sys.argv[2])
cpu, wall = time.process_time() - start, time.perf_counter() - wall
sizes = [path.stat().st_size for path in Path(sys.argv[2]).rglob("*") if path.is_file()]
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cpu": cpu, "wall": wall, "files": len(sizes), "MB": sum(sizes) / 1e6, "peak MB": memory}))
"""


def dissect(data: Path, run: Path, units: int) -> None:
    """Make a run of one layer of random mixtures of real features."""
    import torch
    from torch import nn

    from netdissect import dissect, load_network
    from netdissect.models import Network

    lite = load_network("efficientnet_lite0")
    blocks = list(lite.module._blocks)[: 11 if units <= NARROW else 16]
    torch.manual_seed(0)
    mixed = nn.Conv2d(112 if units <= NARROW else 320, units, 1)
    nn.init.normal_(mixed.weight, std=mixed.in_channels**-0.5)
    nn.init.zeros_(mixed.bias)
    module = nn.Sequential()
    for name, part in (
        ("stem", lite.module._conv_stem), ("norm", lite.module._bn0), ("relu", lite.module._swish),
        ("blocks", nn.Sequential(*blocks)), ("mixed", mixed), (LAYER, nn.ReLU()),
    ):  # fmt: skip
        module.add_module(name, part)
    network = Network("EfficientNet-Lite0, mixed at random", module.eval(), lite.preprocessing)
    dissect(network, data, layers=[LAYER], out=run)


def pairs(paths: list[Path], count: int) -> None:
    """Write the reports of runs, each by its checkout, in turn; print each cost, and medians."""
    jobs = list(zip(paths[::2], paths[1::2], strict=True))
    costs: dict[Path, list[dict[str, float]]] = {checkout: [] for _, checkout in jobs}
    for _ in range(count):
        for run, checkout in jobs:
            with tempfile.TemporaryDirectory() as out:
                command = [sys.executable, "-c", WRITE, str(run), out]
                environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")}
                text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            costs[checkout].append(json.loads(text))
            print(checkout.name, json.dumps(costs[checkout][-1]), flush=True)
    for checkout, each in costs.items():
        print(checkout.name, {name: round(statistics.median(row[name] for row in each), 2) for name in each[0]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("dissect")
    made.add_argument("data", type=Path)
    made.add_argument("run", type=Path)
    made.add_argument("units", type=int)
    compared = commands.add_parser("pairs")
    compared.add_argument("paths", type=Path, nargs="+")
    compared.add_argument("--count", type=int, default=5)
    chosen = vars(parser.parse_args())
    {"dissect": dissect, "pairs": pairs}[chosen.pop("command")](**chosen)


if __name__ == "__main__":
    main()
