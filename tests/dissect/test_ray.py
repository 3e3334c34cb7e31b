"""Runs on a real Ray cluster of two worker processes: killed, slow and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.distributed.ray import TASKS_A_WORKER, dissect_on_ray
from netdissect.errors import ConfigError, ResultError
from netdissect.models import Network, load_network
from netdissect.result import Result
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, build, images

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own, of its processes and sockets

SETTINGS = DissectConfig(
    layers=("1",),
    batch_size=2,
    top_images=3,
    protocol=strategies.definition("paper", 0.05).protocol,
    statistics=StatisticsConfig(permutations=0),
)
NOW = Execution(checkpoint_seconds=0)

FACTORY = '''
import os, signal, time
from pathlib import Path
import torch
from netdissect import Preprocessing

HERE = Path(__file__).parent


class Watched(torch.nn.Module):
    """Passes everything on; does what files next to this one request of the first process that sees them."""

    def forward(self, images):
        (HERE / "batches").open("a").write(f"{os.getpid()}\\n")
        if (HERE / "die").exists() and (HERE / "batches").read_text().count(str(os.getpid())) > 2:
            (HERE / "die").unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            (HERE / "slow").rename(HERE / f"slow.{os.getpid()}")
        except OSError:
            pass
        if (HERE / f"slow.{os.getpid()}").exists():
            time.sleep(0.1)
        if (HERE / "all-slow").exists():
            time.sleep(0.2)
        return images


def watched():
    (HERE / "loads").open("a").write(f"{os.getpid()}\\n")
    torch.manual_seed(0)
    layers = Watched(), torch.nn.Conv2d(3, 4, 3, stride=2)
    return torch.nn.Sequential(*layers), Preprocessing((24, 24), (0.5,) * 3, (0.25,) * 3)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the factory of the network lies, and the data."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "watched_network.py").write_text(FACTORY)
    strategies.write_broden(folder / "broden", images(16), COVERAGE, image=(SIDE, SIDE))
    sys.path.insert(0, str(folder))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[str]:
    """Address of a cluster with room for two workers of one thread."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def one_worker() -> Iterator[None]:
    """Let a worker take both processors of the cluster, where it does not matter how many there are."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def watched(place: Path) -> Iterator[Network]:
    yield load_network("python:watched_network:watched")
    for name in ("batches", "loads", "die", "all-slow", *(path.name for path in place.glob("slow*"))):
        (place / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def single(place: Path) -> Result:
    return dissect(load_network("python:watched_network:watched"), place / "broden", config=SETTINGS)


def on_ray(network: Network, place: Path, out: Path, **options: Any) -> Result:
    return dissect_on_ray(network, place / "broden", config=SETTINGS, out=out, execution=NOW, **options)


def test_a_killed_and_a_slow_worker_change_nothing(
    cluster: str, place: Path, watched: Network, single: Result, tmp_path: Path
) -> None:
    for name in ("loads", "batches"):
        (place / name).unlink(missing_ok=True)
    (place / "die").touch()
    (place / "slow").touch()
    reports: list[tuple[str, int, int | None]] = []
    found = on_ray(watched, place, tmp_path / "run", progress=lambda *report: reports.append(report))
    run_asserts.assert_same_run(found, single)
    assert not (place / "die").exists(), "a worker was killed in the middle"
    assert list(place.glob("slow.*")), "a worker was slow"
    loads = (place / "loads").read_text().split()
    assert len(loads) == len(set(loads)) == 3, "each worker loads the network once: two, and one for the killed one"
    assert os.getpid() not in map(int, loads)
    assert {stage for stage, *_ in reports} == {"thresholds", "counting"}
    assert reports[-1] == ("counting", 16, 16)
    assert on_ray(watched, place, tmp_path / "run").info == found.info, "a finished run is returned as it is"


@pytest.mark.usefixtures("one_worker")
def test_a_killed_driver_is_started_again_and_takes_up_what_is_finished(
    cluster: str, place: Path, watched: Network, tmp_path: Path
) -> None:
    run, start = tmp_path / "run", "from netdissect.cli import main; main()"
    (place / "all-slow").touch()
    options = ["--layer", "1", "--batch-size", "2", "--top-images", "3", "--quantile", "0.05", "--threads", "2"]
    command = [sys.executable, "-c", start, "run", "python:watched_network:watched", "--concepts", place / "broden",
               *options, "--out", run, "--ray", cluster]  # fmt: skip
    with subprocess.Popen(list(map(str, command))) as driver:
        deadline = time.monotonic() + 300
        while not list(run.glob("shards/*/thresholds/shard.json")):
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    finished = {path: path.stat().st_mtime_ns for path in run.glob("shards/*/thresholds/shard.json")}
    (place / "all-slow").unlink()
    assert len(finished) < TASKS_A_WORKER, "killed in the middle"
    seen: dict[Path, int] = {}

    def progress(stage: str, _done: int, _total: int | None) -> None:
        seen.update({path: path.stat().st_mtime_ns for path in finished if path.exists()})

    config = read_config(run).config
    found = dissect_on_ray(watched, place / "broden", config=config, out=run, progress=progress)
    run_asserts.assert_same_run(found, dissect(watched, place / "broden", config=config))
    assert {path: seen[path] for path in finished} == finished, "what was finished is not done again"


@pytest.mark.usefixtures("one_worker")
def test_a_network_made_in_python_is_sent_to_the_workers(cluster: str, place: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"layers": ("deep_relu",)})
    found = dissect_on_ray(build(), place / "broden", config=settings, out=tmp_path / "run")
    run_asserts.assert_same_run(found, dissect(build(), place / "broden", config=settings))


def test_permutations_are_counted_by_all_workers(cluster: str, place: Path, tmp_path: Path) -> None:
    statistics = StatisticsConfig(bootstrap=3, permutations=19)
    settings = SETTINGS.model_copy(update={"layers": ("wide_relu", "fc"), "statistics": statistics, "min_iou": "fdr"})
    reports: list[tuple[str, int, int | None]] = []
    run = tmp_path / "run"
    found = dissect_on_ray(
        build(), place / "broden", config=settings, out=run, progress=lambda *report: reports.append(report)
    )
    run_asserts.assert_same_run(found, dissect(build(), place / "broden", config=settings))
    assert reports[-1] == ("permutations", 19, 19)
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    counted = [event["pid"] for event in events if event.get("stage") == "permutations" and "shard" not in event]
    assert len(counted) == -(-19 // 3), "three permutations at a time: eight tasks for two workers"
    assert len(set(counted)) == 2
    assert os.getpid() not in counted


@pytest.mark.usefixtures("one_worker")
def test_a_worker_whose_network_is_not_the_driver_s_is_refused(
    cluster: str, place: Path, watched: Network, tmp_path: Path
) -> None:
    with torch.no_grad():
        next(watched.module.parameters()).add_(1)
    with pytest.raises(ResultError, match=r"a worker on \S+ has another network\.digest than the driver"):
        on_ray(watched, place, tmp_path / "run")


def test_more_threads_than_the_cluster_has_are_refused(
    cluster: str, place: Path, watched: Network, tmp_path: Path
) -> None:
    torch.set_num_threads(3)
    try:
        with pytest.raises(ConfigError, match="has 2 processors and 0 GPUs, but a worker takes 3"):
            on_ray(watched, place, tmp_path / "run")
    finally:
        torch.set_num_threads(1)
