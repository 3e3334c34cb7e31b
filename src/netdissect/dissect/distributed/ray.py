"""A run on a Ray cluster: its shards are tasks of workers that load the network once.

Workers and driver share the run folder, and nothing else: what a shard has finished lies there, so a worker that
dies costs what it did since its last checkpoint, and a driver that is started again picks up where the last one was.

Extra ``[ray]``. A network that was loaded by name is loaded again by each worker; one that was made in Python
is sent to them as Ray sends any argument (pickled, within the user's own cluster).
"""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, NetworkSource, Progress
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.progress_actor import ProgressActor
from netdissect.dissect.distributed.shard_result import exists
from netdissect.dissect.distributed.shards import SHARDS, THRESHOLDS, Shard, ShardPass, look_at
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.run_dissection import finished_run, opened
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.work_dir import difference
from netdissect.errors import ConfigError, NetdissectError, ResultError
from netdissect.extras import need
from netdissect.models import Network, reload_network
from netdissect.result import Result, load_result
from netdissect.result.folder_lock import hold

LOCAL = "local"
SHARDS_A_WORKER = 4  # so that a slow worker is left with little when the others are done
RETRIES = 3  # a shard whose worker dies more often than this is given up
WAIT = 120.0  # seconds for a worker that was thought dead, or one of an earlier driver, to let go of its shard
POLL = 0.5  # seconds between looks at the progress


@dataclass(frozen=True)
class RayJob:
    """What every worker needs.

    Attributes
    ----------
    network
        What to load it from, or the network itself.
    concepts
        Folder of the data set, or the data set, if its images were chosen in Python.
    config, execution
        What to measure, and how.
    run
        Run folder.
    threads
        Of torch: as many as the driver has, because the last bits of activations depend on them.
    pinned
        What the driver found network, data and versions to be: a worker that finds something else is refused.
    """

    network: NetworkSource | Network
    concepts: ConceptData | str
    config: DissectConfig
    execution: Execution
    run: Path
    threads: int
    pinned: dict[str, Any]


class ShardWorker:
    """One process of the cluster, with the network in memory."""

    def __init__(self, job: RayJob, board: Any) -> None:
        torch.set_num_threads(job.threads)
        self._run, self._board = job.run, board
        self._source: DissectionInputs | NetdissectError
        try:
            network = reload_network(job.network) if isinstance(job.network, NetworkSource) else job.network
            self._source = opened(network, job.concepts, job.config, job.execution)
            _refuse_other(job.pinned, bitwise_fingerprint(describe(self._source)))
        except NetdissectError as error:
            self._source = error

    def look(self, shard: Shard) -> str | NetdissectError:
        """Do what can be done of one shard; an error that was raised on purpose is no reason to try again."""
        if isinstance(self._source, NetdissectError):
            return self._source
        total = len(batch_starts(len(self._source.data), self._source.config.batch_size))
        part = ShardPass(self._run, str(shard), shard.batches(total))

        def progress(stage: str, done: int, _total: int | None) -> None:
            self._board.report.remote(stage, shard.number, done)

        try:
            return look_at(self._source, part, progress, WAIT)
        except NetdissectError as error:
            return error


def _refuse_other(driver: dict[str, Any], worker: dict[str, Any]) -> None:
    different = difference(driver, worker)
    if different is not None:
        name, there, here = different
        raise ResultError(
            f"a worker on {socket.gethostname()} has another {name} than the driver: {here} instead of {there}. "
            "Expected the same network, data set and versions on all machines, so that bits agree."
        )


def dissect_on_ray(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    *,
    out: str | Path,
    address: str = LOCAL,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Result:
    """Dissect on a Ray cluster: bit for bit what `netdissect.dissect` gives at the same number of threads.

    Parameters
    ----------
    network, concepts, config, execution, progress
        As for `netdissect.dissect`. All machines must see the data set under the same path.
    out
        Run folder that all machines share. What is finished there is taken up.
    address
        Of a cluster, as ``ray.init`` takes it; ``local`` starts one on this machine for the time of the run.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    source, run = opened(network, concepts, config, execution), Path(out).resolve()
    done = finished_run(run, describe(source))
    if done is not None:
        return done
    threads = torch.get_num_threads()
    data, made_by = source.data, bitwise_fingerprint(describe(source))
    concepts = data if data.subset is None else str(data.root.resolve())
    job = RayJob(network.source or network, concepts, source.config, source.execution, run, threads, made_by)
    (run / SHARDS).mkdir(parents=True, exist_ok=True)
    with _held(run / SHARDS), _Cluster(need("ray", "ray", "A run on Ray"), address, job) as cluster:
        starts = batch_starts(len(source.data), config.batch_size)
        parts = _parts(run, len(starts), cluster.size)
        for stage in ("first", "second"):
            if stage == "second" or not exists(run / THRESHOLDS):
                cluster.look(_RayStage(stage, parts, source, progress))
                merge_shards(run, [part.folder for part in parts], concepts=concepts)
    return load_result(run)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = hold(folder)
    try:
        yield
    finally:
        lock.release()


def _parts(run: Path, batches: int, workers: int) -> list[ShardPass]:
    """Cut the run into shards: into as many as an earlier driver did, if there are any."""
    found = [path.name.rpartition("-of-")[2] for path in (run / SHARDS).glob("*-of-*") if path.is_dir()]
    count = int(found[0]) if found else min(batches, SHARDS_A_WORKER * workers)
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return [ShardPass(run, str(shard), shard.batches(batches)) for shard in shards]


@dataclass(frozen=True)
class _RayStage:
    """One look at all parts."""

    name: Literal["first", "second"]
    parts: Sequence[ShardPass]
    source: DissectionInputs
    progress: Progress | None

    @property
    def left(self) -> list[ShardPass]:
        """Parts that have not finished it."""
        return [part for part in self.parts if not exists(part.folder / self.name)]

    def images(self, parts: Sequence[ShardPass]) -> int:
        """Count the images of some parts."""
        size = self.source.config.batch_size
        last = len(self.source.data)
        return sum(min(part.batches.stop * size, last) - part.batches.start * size for part in parts)


class _Cluster:
    """Workers on a cluster, replaced when they die."""

    def __init__(self, ray: Any, address: str, job: RayJob) -> None:
        self._ray, self._job = ray, job
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address)
        self._gpus = 1 if job.config.device.startswith("cuda") else 0
        self._idle: list[Any] = []
        self._board = ray.remote(num_cpus=0)(ProgressActor).remote()
        self._worker = ray.remote(num_cpus=job.threads, num_gpus=self._gpus)(ShardWorker)

    @property
    def size(self) -> int:
        """How many workers the cluster has room for."""
        there = self._ray.cluster_resources()
        room = int(there.get("CPU", 0) // self._job.threads)
        room = min(room, int(there.get("GPU", 0))) if self._gpus else room
        if room < 1:
            raise ConfigError(
                f"the cluster has {there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs, but a worker "
                f"takes {self._job.threads} and {self._gpus}. Set --threads to what one machine of it has."
            )
        return room

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def look(self, stage: _RayStage) -> None:
        """Carry out a look: every worker takes the next part when it is done with one."""
        waiting, deaths = deque(stage.left), Counter[str]()
        before = stage.images(stage.parts) - stage.images(stage.left)
        self._idle += [self._start() for _ in range(min(self.size, len(waiting)) - len(self._idle))]
        running: dict[Any, tuple[Any, ShardPass]] = {}
        while waiting or running:
            while self._idle and waiting:
                worker, part = self._idle.pop(), waiting.popleft()
                running[worker.look.remote(Shard.parse(part.name))] = (worker, part)
            ready, _ = self._ray.wait(list(running), timeout=POLL)
            for reference in ready:
                worker, part = running.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayActorError as error:
                    deaths[part.name] += 1
                    RunLog(part.run).event("worker died", level="warning", shard=part.name, message=str(error))
                    if deaths[part.name] > RETRIES:
                        raise _given_up(part, error) from error
                    waiting.append(part)
                    worker = self._start()
                else:
                    if isinstance(outcome, NetdissectError):
                        raise outcome
                self._idle.append(worker)
            self._report(stage, before)

    def _start(self) -> Any:
        return self._worker.remote(self._job, self._board)

    def _report(self, stage: _RayStage, before: int) -> None:
        name = f"{stage.name} look"
        done = self._ray.get(self._board.done.remote(name))
        if stage.progress and done:
            stage.progress(name, before + done, len(stage.source.data))


def _given_up(part: ShardPass, error: Exception) -> ResultError:
    return ResultError(
        f"the worker of shard {part.name} died {RETRIES + 1} times ({str(error).splitlines()[0]}). What is finished is "
        "kept: see that its machine has enough memory, and run the same command again."
    )


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options["include_dashboard"] = False
        # Nothing is sent anywhere. Ray offers no argument for that, and its processes inherit the variable.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]}). Expected 'local', 'auto' or the "
            "HOST:PORT that 'ray start --head' prints."
        ) from error
