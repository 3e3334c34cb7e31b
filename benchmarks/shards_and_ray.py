"""Measure what shards and Ray cost and gain against one process, in interleaved rounds of fresh processes.

    python benchmarks/shards_and_ray.py --concepts DATA --limit 800 --rounds 5

Prints medians of wall time of each way, ratios of pairs, and whether all runs are equal, bit for bit, to the run of one
process of one thread.

    1x1, 1x2   one process of one thread, or of two
    shards     two processes of one thread: thresholds, merge, counts, merge
    ray, ray1  two workers of one thread, or one: Ray's overhead
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import netdissect

NETDISSECT = [sys.executable, "-c", "from netdissect.cli import main; main()"]


def start(arguments: list[str], threads: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen([*NETDISSECT, *arguments], env=environment, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)  # fmt: skip


def finish(*processes: subprocess.Popen[bytes]) -> None:
    if any(process.wait() for process in processes):
        raise SystemExit("a run failed")


def one_process(run: list[str], out: Path, threads: int) -> None:
    finish(start([*run, "--threads", str(threads), "--out", str(out)], threads))


def two_shards(run: list[str], out: Path) -> None:
    for _ in range(2):
        arguments = [*run, "--threads", "1", "--out", str(out), "--shard"]
        finish(*(start([*arguments, f"{number}/2"], 1) for number in (1, 2)))
        finish(start(["merge-shards", str(out)], 1))


def on_ray(run: list[str], out: Path, processors: int) -> None:
    import ray

    ray.init(address="local", num_cpus=processors, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        finish(start([*run, "--threads", "1", "--out", str(out), "--ray", address], 1))
    finally:
        ray.shutdown()


def equal(left: Path, right: Path) -> bool:
    runs = [netdissect.load_result(path) for path in (left, right)]
    return all(
        run.concepts.equals(other.concepts)
        and all(
            getattr(layer, table).equals(getattr(other.layers[name], table))
            for name, layer in run.layers.items()
            for table in ("thresholds", "units", "scores", "top")
        )
        for run, other in [runs]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--layer", action="append")
    parser.add_argument("--concepts", required=True)
    parser.add_argument("--limit", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    layers = [option for layer in asked.layer or ["_blocks.10"] for option in ("--layer", layer)]
    run = ["run", asked.network, "--concepts", asked.concepts, *layers, "--max-images", str(asked.limit)]
    ways: dict[str, Callable[[Path], None]] = {
        "1x1": lambda out: one_process(run, out, 1),
        "1x2": lambda out: one_process(run, out, 2),
        "shards": lambda out: two_shards(run, out),
        "ray": lambda out: on_ray(run, out, 2),
        "ray1": lambda out: on_ray(run, out, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    folder = Path(tempfile.mkdtemp(prefix="netdissect-shards-"))
    for number in range(asked.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(folder / f"{name}-{number}")
            seconds[name].append(time.perf_counter() - begin)
            print(f"round {number + 1}  {name:7} {seconds[name][-1]:7.1f} s", flush=True)
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds["1x1"], times, strict=True)]
        print(
            f"{name:7} median {statistics.median(times):7.1f} s, {statistics.median(ratios):.2f} times as fast as 1x1"
        )
    same = [equal(folder / "1x1-0", folder / f"{name}-0") for name in ("shards", "ray", "ray1")]
    print(f"equal to one process, bit for bit: {same}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
