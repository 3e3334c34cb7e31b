"""The batch size that a run finds by doubling, and who keeps it."""

import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import strategies
from netdissect import dissect, dissect_shard, estimate, merge_shards
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import layer_state, run_dissection
from netdissect.dissect.choices import batch_size
from netdissect.dissect.choices.batch_size import double_batch, find_batch_size, largest_that_fits
from netdissect.dissect.run_dissection import open_inputs
from netdissect.errors import ConfigError, NetworkError
from netdissect.models import Network, Preprocessing
from netdissect.models.run_module import is_out_of_memory
from netdissect.result import load_result
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, build, images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(20), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have each measurement find another batch size: 5, 6, 7 and so on; the list holds those that were found."""
    found: list[int] = []

    def find(_source: Any) -> int:
        found.append(5 + len(found))
        return found[-1]

    monkeypatch.setattr(run_dissection, "find_batch_size", find)
    return found


@pytest.mark.parametrize(
    ("rates", "images", "chosen", "tried"),
    [
        ({4: 100, 8: 200, 16: 400, 32: 419, 64: 1000}, 10_000, 16, 4),  # 4.75 % faster ends it
        ({4: 100, 8: 105, 16: 110.25, 32: 100}, 10_000, 16, 4),  # 5 % is enough
        ({4: 100, 8: 90}, 10_000, 4, 2),
        ({4: 100, 8: 200, 16: 400}, 31, 16, 3),  # no larger than the data
        ({4: 100}, 2, 4, 1),
    ],
)
def test_a_batch_is_doubled_while_that_makes_it_5_percent_faster(
    rates: dict[int, float], images: int, chosen: int, tried: int
) -> None:
    size, measured = double_batch(rates.__getitem__, images)
    assert (size, len(measured)) == (chosen, tried)


def of_device(error: Exception) -> NetworkError:
    """The error of a forward pass that another one caused."""
    outer = NetworkError("fails")
    outer.__cause__ = error
    return outer


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    of_device(torch.OutOfMemoryError("XPU out of memory")),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("fails_at", "chosen"), [(64, 16), (16, 4), (8, 4)])
def test_where_memory_ends_it_is_half_of_the_largest_that_fitted(error: Exception, fails_at: int, chosen: int) -> None:
    assert is_out_of_memory(error)

    def rate(size: int) -> float:
        if size >= fails_at:
            raise error
        return 10.0 * size

    assert double_batch(rate, 10_000)[0] == chosen
    with pytest.raises(ConfigError, match=r"a batch of 4 images does not fit into memory.*smaller --batch-size"):
        double_batch(lambda _size: rate(64), 10_000)


def test_other_errors_are_no_lack_of_memory() -> None:
    error = of_device(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(error)

    def fail(_size: int) -> float:
        raise error

    with pytest.raises(NetworkError, match="fails"):
        double_batch(fail, 100)


def test_images_per_second_are_measured_in_batches_of_each_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Spy(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return super().forward(x)

    network = Network("spied", nn.Sequential(Spy(3, 4, 3)), Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    # A clock by which a batch takes one second, whatever its size.
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)
    source = open_inputs(network, root, DissectConfig(layers="0"), Execution())
    sizes.clear()
    assert find_batch_size(source) == 16  # 20 images
    assert [size for size in dict.fromkeys(sizes) if size > 2] == [4, 8, 16]


def test_a_run_records_the_batch_size_that_it_found_and_its_repetition_keeps_it(
    root: Path, tmp_path: Path, measured: list[int]
) -> None:
    out = tmp_path / "run"
    result = dissect(build(), root, layers="fc", batch_size="auto", out=out)
    assert result.info.config.batch_size == read_config(out).config.batch_size == 5
    before = (out / "run.json").read_bytes()
    dissect(build(), root, layers="fc", batch_size="auto", out=out)
    assert (out / "run.json").read_bytes() == before
    dissect(build(), root, config=read_config(out).config, out=tmp_path / "again")
    assert read_config(tmp_path / "again").config.batch_size == 5
    assert measured == [5]


class StoppedError(Exception):
    """Ends a run in its middle."""


def test_an_interrupted_run_resumes_with_the_batch_size_that_it_found(
    root: Path, tmp_path: Path, measured: list[int]
) -> None:
    def stop(stage: str, done: int, _total: int | None) -> None:
        if stage == "counting" and done >= 10:
            raise StoppedError

    options: Any = {"layers": "fc", "batch_size": "auto", "out": tmp_path / "run", "checkpoint_seconds": 0.0}
    with pytest.raises(StoppedError, match=r"^$"):
        dissect(build(), root, progress=stop, **options)
    result = dissect(build(), root, **options)
    assert (measured, result.info.config.batch_size) == ([5], 5)
    assert result.layers["fc"].units.equals(dissect(build(), root, layers="fc", batch_size=5).layers["fc"].units)


def test_shards_of_a_folder_keep_the_batch_size_of_the_first(root: Path, tmp_path: Path, measured: list[int]) -> None:
    out = tmp_path / "run"
    for _stage in ("thresholds", "counting"):
        for shard in ("1/2", "2/2"):
            dissect_shard(build(), root, shard=shard, out=out, layers="fc", batch_size="auto", permutations=0)
        merge_shards(out)
    assert (measured, load_result(out).info.config.batch_size) == ([5], 5)


def test_of_shards_that_begin_together_one_measures_and_the_others_wait(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def find(_source: Any) -> int:
        found.append(5 + len(found))
        time.sleep(0.3)  # long enough for the other shard to ask
        return found[-1]

    monkeypatch.setattr(run_dissection, "find_batch_size", find)

    def run(shard: str) -> str:
        out = tmp_path / "run"
        return dissect_shard(build(), root, shard=shard, out=out, layers="fc", batch_size="auto", permutations=0)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, ("1/2", "2/2"))) == ["thresholds", "thresholds"]
    assert (found, read_config(tmp_path / "run").config.batch_size) == ([5], 5)


def test_an_estimate_is_of_the_batch_size_that_is_found(root: Path, measured: list[int]) -> None:
    cost = estimate(build(), root, layers="fc", batch_size="auto", sample=5)
    assert measured == [5]
    assert "in batches of 5" in str(cost.plan)


def test_a_pass_outside_of_a_run_needs_a_number() -> None:
    with pytest.raises(ConfigError, match=r"'auto' is found when a run begins.*--batch-size 32"):
        _ = DissectConfig(layers="0", batch_size="auto").images_per_batch


def test_a_forward_pass_that_runs_out_of_memory_says_so() -> None:
    class Greedy(nn.Module):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network = Network("greedy", Greedy(), Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    message = re.escape(
        "runs out of memory of device cpu on an input of shape (2, 3, 24, 24). Expected a smaller batch"
    )
    with pytest.raises(NetworkError, match=message):
        network.forward(torch.zeros(2, 3, SIDE, SIDE))


@pytest.mark.parametrize("engine", ["compiled", "tensor"])
def test_a_run_whose_memory_runs_out_names_a_batch_size_that_fits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    tried: list[int] = []

    def forward_pass(_source: Any, size: int) -> float:
        tried.append(size)
        if size > 4:
            raise NetworkError("fails") from torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(layer_state.Collector, "update", refuse)
    monkeypatch.setattr(layer_state.DeviceCollector, "update", refuse)
    monkeypatch.setattr(batch_size, "_images_per_second", forward_pass)
    with pytest.raises(ConfigError, match=r"a batch of 18 images does not fit.*'cpu'.*--batch-size 2, which fits"):
        dissect(build(), root, layers="fc", batch_size=18, engine=engine, out=tmp_path)
    assert tried == [9, 4]


def test_no_batch_size_is_named_where_not_even_one_image_fits() -> None:
    def refuse(_size: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(refuse, 64) is None


def test_another_error_of_a_smaller_batch_is_not_hidden() -> None:
    def fail(_size: int) -> float:
        raise RuntimeError("CUDA error: an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        largest_that_fits(fail, 64)
