"""More images take more time, not more memory; what is not needed any more is released."""

import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

import strategies
from netdissect.dissect import dissect, run_dissection
from netdissect.dissect.distributed import merge
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.merged_shards import MergedCounts
from netdissect.dissect.distributed.shards import dissect_shard
from netdissect.dissect.statistics.layer_counts import LayerCounts
from netdissect.result import LayerResult
from networks import COVERAGE, SIDE, build, images

ROOT = Path(__file__).resolve().parents[2]
# A process of its own: the largest memory of a process never falls. The first run loads libraries and compiled loops;
# the second and the third differ in their images alone.
PROGRAM = """
import sys
from pathlib import Path
import netdissect
from benchmarks.memory import Case, network_of, write_data
from benchmarks.process import peak_memory
from netdissect.config import DissectConfig, StatisticsConfig

folder = Path(sys.argv[1])
for run, images in enumerate((100, 100, 1000)):
    case = Case(units=200, side=14, images=images, concepts=1197)
    write_data(folder / f"data{run}", images, case.concepts)
    config = DissectConfig(layers=("2",), statistics=StatisticsConfig(bootstrap=0))
    netdissect.dissect(network_of(case), folder / f"data{run}", config=config, out=folder / f"run{run}")
    print(peak_memory())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="asks the system for the largest memory so far")
def test_ten_times_the_images_take_no_more_memory(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, few, many = map(int, done.stdout.split())
    assert many - few < 80e6, f"{(many - few) / 1e6:.0f} MB more"


def held_counts(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[bool]]:
    """Return, for each layer that a module is about to write, whether the counts of each layer so far are in memory."""
    counts, held = list[weakref.ref[LayerCounts]](), list[list[bool]]()
    layer_statistics, write_result = run_dissection.layer_statistics, run_dissection.write_result

    def statistics_of(layer_counts: LayerCounts) -> dict[str, pl.LazyFrame]:
        counts.extend([weakref.ref(layer_counts), weakref.ref(layer_counts.counts)])
        return layer_statistics(layer_counts)

    def write(folder: Path, info: Any, concepts: pl.DataFrame, layers: Iterable[LayerResult]) -> Path:
        def seen() -> Iterator[LayerResult]:
            for layer in layers:
                held.append([of_layer() is not None for of_layer in counts])
                yield layer

        return write_result(folder, info, concepts, seen())

    monkeypatch.setattr(run_dissection, "layer_statistics", statistics_of)
    monkeypatch.setattr(module, "write_result", write)
    return held


def test_what_only_tables_are_made_of_is_released_before_a_layer_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = held_counts(run_dissection, monkeypatch)
    data = strategies.write_broden(tmp_path / "broden", images(4), COVERAGE, image=(SIDE, SIDE))
    dissect(build(), data, layers=["wide_relu", "fc"], quantile=0.05, out=tmp_path / "run")
    assert held == [[False] * 2, [False] * 4]


def test_a_merge_of_shards_releases_what_only_tables_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = held_counts(merge, monkeypatch)
    data = strategies.write_broden(tmp_path / "broden", images(4), COVERAGE, image=(SIDE, SIDE))
    for _ in ("thresholds", "counting"):
        for shard in ("1/2", "2/2"):
            dissect_shard(
                build(), data, shard=shard, layers=["wide_relu", "fc"], quantile=0.05, batch_size=2,
                permutations=2, out=tmp_path / "run",
            )  # fmt: skip
        merge_shards(tmp_path / "run")
    assert held == [[False] * 2, [False] * 4]


def test_the_counts_of_shards_are_not_all_in_memory_to_be_added() -> None:
    shards = [{"counts": np.full(2**17, number), "image_level": np.array([number > 6, False])} for number in range(8)]
    tracemalloc.start()
    merged = MergedCounts.of(SimpleNamespace(shards=shards, info=None, of_images=({}, {})))  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * shards[0]["counts"].nbytes  # those of all shards would be eight times as much
    assert (merged.arrays["counts"] == 28).all()
    assert (merged.arrays["image_level"] > 0).tolist() == [True, False]
