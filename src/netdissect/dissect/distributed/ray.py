"""A run on a Ray cluster: its shards are tasks of workers that load the network once.

Workers and driver share only the run folder, which holds what every shard has finished. A worker that dies loses the
work since its last checkpoint, and a restarted driver resumes where the last one stopped.

Extra ``[ray]``. A network that was loaded by name is loaded again by each worker; one that was made in Python
is sent to them as Ray sends any argument (pickled, within the user's own cluster).
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.bases.basis_files import keep_bases
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.permutation_parts import PERMUTATIONS
from netdissect.dissect.distributed.progress_actor import ProgressActor
from netdissect.dissect.distributed.ray_worker import RayJob, ShardWorker, open_permutation_parts
from netdissect.dissect.distributed.shard_result import exists
from netdissect.dissect.distributed.shards import MERGED_THRESHOLDS, SHARDS, Shard, ShardTask
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.run_dissection import finished_run, open_inputs
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.work_dir import run_folder
from netdissect.dissect_options import DissectOptions
from netdissect.errors import ConfigError, NetdissectError, ResultError
from netdissect.extras import need
from netdissect.keywords import ConfigObjects, read_options, takes_options
from netdissect.models import Network, as_network
from netdissect.progress import Display, ShowProgress, show_line, shown
from netdissect.result import Result, load_result
from netdissect.result.folder_lock import lock_folder

LOCAL = "local"
TASKS_A_WORKER = 4  # shards or permutations: small enough that a slow worker does not delay the others for long
RETRIES = 3  # a task whose worker dies more often than this is given up
POLL = 0.5  # seconds between updates of the progress


@takes_options
def dissect_on_ray(
    model: Network | torch.nn.Module | str,
    data: ConceptData | str | Path,
    *,
    out: str | Path,
    address: str = LOCAL,
    layers: Sequence[str] | str | None = None,
    preprocessing: object = None,
    config: DissectConfig | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
    **options: Unpack[DissectOptions],
) -> Result:
    """Dissect on a Ray cluster: bit for bit what `netdissect.dissect` gives at the same number of threads.

    Parameters
    ----------
    model, data, layers, preprocessing, config, execution, progress
        As for `netdissect.dissect`. All machines must see the data set under the same path.
    out
        Run folder that all machines share. A run that was interrupted there is resumed.
    address
        Of a cluster, as ``ray.init`` takes it; ``local`` starts one on this machine for the time of the run.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config, execution = read_options(dissect_on_ray, options, ConfigObjects(layers, config, execution))
    network = as_network(model, preprocessing)
    run = run_folder(out).resolve()
    source = open_inputs(network, data, config, execution, run)
    done = finished_run(run, describe(source))
    if done is not None:
        return done
    keep_bases(run, source)
    threads = torch.get_num_threads()
    fingerprint = bitwise_fingerprint(describe(source))
    concepts = source.data if source.data.subset is None else str(source.data.root.resolve())
    # A source does not say which bases were added to the network.
    named = network if network.bases or network.source is None else network.source
    job = RayJob(named, concepts, source.config, source.execution, run, threads, fingerprint)
    (run / SHARDS).mkdir(parents=True, exist_ok=True)
    ray = need("ray", "ray", "A run on Ray")
    with _locked(run / SHARDS), _Cluster(ray, address, job) as cluster, shown(progress) as display:
        shards = _shards(run, source, cluster.size)
        folders = [shard.folder for shard in shards]
        if not exists(run / MERGED_THRESHOLDS):
            cluster.run_stage(_shard_stage("thresholds", shards, source), display)
            merge_shards(run, folders, concepts=concepts, progress=display)
        cluster.run_stage(_shard_stage("counting", shards, source), display)
        if source.config.permutations:
            cluster.run_stage(_permutation_stage(run, folders, source, cluster.size, display), display)
        merge_shards(run, folders, concepts=concepts, execution=source.execution, progress=display)
    return load_result(run)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = lock_folder(folder)
    try:
        yield
    finally:
        lock.release()


def _shards(run: Path, source: DissectionInputs, workers: int) -> list[ShardTask]:
    """Split the run into shards, as many as an earlier driver made if there are any."""
    batches = len(batch_starts(len(source.data), source.config.images_per_batch))
    counts = [path.name.rpartition("-of-")[2] for path in (run / SHARDS).glob("*-of-*") if path.is_dir()]
    count = int(counts[0]) if counts else min(batches, TASKS_A_WORKER * workers)
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return [ShardTask(run, str(shard), shard.batches(batches)) for shard in shards]


@dataclass(frozen=True)
class _WorkerTask:
    """What one worker does at a time.

    Attributes
    ----------
    name
        Such as ``shard 3/8``.
    result
        Folder of its result, which exists once it is finished.
    size
        Number of images, or of permutations.
    start
        Starts it on a worker, and returns Ray's reference to its outcome.
    """

    name: str
    result: Path
    size: int
    start: Callable[[Any], Any]


@dataclass(frozen=True)
class _WorkerStage:
    """Tasks that do not depend on each other, and how much of their kind is already done."""

    name: str
    tasks: Sequence[_WorkerTask]
    done: int

    @property
    def total(self) -> int:
        """Number of images or permutations."""
        return self.done + sum(task.size for task in self.tasks)


def _shard_stage(
    name: Literal["thresholds", "counting"], shards: Sequence[ShardTask], source: DissectionInputs
) -> _WorkerStage:
    """Return one pass over all shards."""

    def task(shard: ShardTask) -> _WorkerTask:
        size, number = source.config.images_per_batch, Shard.parse(shard.name)
        images = min(shard.batches.stop * size, len(source.data)) - shard.batches.start * size
        return _WorkerTask(
            f"shard {number}", shard.folder / name, images, lambda worker: worker.run_shard.remote(number)
        )

    tasks = [task(shard) for shard in shards]
    unfinished = [each for each in tasks if not exists(each.result)]
    return _WorkerStage(name, unfinished, len(source.data) - sum(each.size for each in unfinished))


def _permutation_stage(
    run: Path, shards: Sequence[Path], source: DissectionInputs, workers: int, display: Display
) -> _WorkerStage:
    """Return the permutations that are not counted yet."""
    parts = open_permutation_parts(run, shards, source)
    total = len(parts.test.permutations)

    def task(part: range) -> _WorkerTask:
        name = f"permutations {part.start} to {part.stop - 1}"
        return _WorkerTask(
            name, parts.folder(part), len(part), lambda worker: worker.run_permutations.remote(shards, part)
        )

    tasks = [task(part) for part in parts.missing(-(-total // (TASKS_A_WORKER * workers)))]
    missing = sum(each.size for each in tasks)
    show_line(display, parts.test.announcement(missing))
    return _WorkerStage(PERMUTATIONS, tasks, total - missing)


class _Cluster:
    """Workers on a cluster, replaced when they die."""

    def __init__(self, ray: Any, address: str, job: RayJob) -> None:
        self._ray, self._job = ray, job
        self._started_here = not ray.is_initialized()
        if self._started_here:
            _connect(ray, address)
        self._gpus = 1 if job.config.device.startswith("cuda") else 0
        self._idle: list[Any] = []
        self._progress_actor = ray.remote(num_cpus=0)(ProgressActor).remote()
        self._worker = ray.remote(num_cpus=job.threads, num_gpus=self._gpus)(ShardWorker)

    @property
    def size(self) -> int:
        """Number of workers that the cluster can run."""
        resources = self._ray.cluster_resources()
        workers = int(resources.get("CPU", 0) // self._job.threads)
        workers = min(workers, int(resources.get("GPU", 0))) if self._gpus else workers
        if workers < 1:
            raise ConfigError(
                f"the cluster has {resources.get('CPU', 0):g} processors and {resources.get('GPU', 0):g} GPUs, but a "
                f"worker takes {self._job.threads} and {self._gpus}. Set --threads to what one machine of it has."
            )
        return workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started_here:
            self._ray.shutdown()

    def run_stage(self, stage: _WorkerStage, progress: Progress | None) -> None:
        """Run all tasks of a stage: a worker that has finished one takes the next."""
        waiting, failures = deque(stage.tasks), Counter[str]()
        self._idle += [self._start() for _ in range(min(self.size, len(waiting)) - len(self._idle))]
        running: dict[Any, tuple[Any, _WorkerTask]] = {}
        while waiting or running:
            while self._idle and waiting:
                worker, task = self._idle.pop(), waiting.popleft()
                running[task.start(worker)] = (worker, task)
            ready, _ = self._ray.wait(list(running), timeout=POLL)
            for reference in ready:
                worker, task = running.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayActorError as error:
                    failures[task.name] += 1
                    RunLog(self._job.run).event("worker died", level="warning", task=task.name, message=str(error))
                    if failures[task.name] > RETRIES:
                        raise _failed_too_often(task, error) from error
                    waiting.append(task)
                    worker = self._start()
                else:
                    if isinstance(outcome, NetdissectError):
                        raise outcome
                self._idle.append(worker)
            done = self._ray.get(self._progress_actor.done.remote(stage.name))
            if progress and done:
                progress(stage.name, stage.done + done, stage.total)

    def _start(self) -> Any:
        return self._worker.remote(self._job, self._progress_actor)


def _failed_too_often(task: _WorkerTask, error: Exception) -> ResultError:
    return ResultError(
        f"the worker of {task.name} died {RETRIES + 1} times ({str(error).splitlines()[0]}). What is finished is "
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
