"""A worker of a run on Ray: one process of the cluster, with the network in memory."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, NetworkSource
from netdissect.dissect.distributed.merged_shards import MergedCounts, MergedShards
from netdissect.dissect.distributed.permutation_parts import PermutationParts
from netdissect.dissect.distributed.shard_result import ShardResult
from netdissect.dissect.distributed.shards import Shard, ShardTask, run_shard
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.run_dissection import open_inputs
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe
from netdissect.dissect.work_dir.work_dir import difference
from netdissect.errors import NetdissectError, ResultError
from netdissect.models import Network, reload_network

WAIT = 120.0  # seconds until a worker presumed dead, or one of an earlier driver, must have released its task


@dataclass(frozen=True)
class RayJob:
    """The arguments of every worker.

    Attributes
    ----------
    network
        Source to load it from, or the network itself.
    concepts
        Folder of the data set, or the data set, if its images were chosen in Python.
    config, execution
        What to measure, and how.
    run
        Run folder.
    threads
        Threads of torch, as in the driver: the last bits of activations depend on their number.
    fingerprint
        Network, data and versions as the driver sees them; a worker with another fingerprint is refused.
    """

    network: NetworkSource | Network
    concepts: ConceptData | str
    config: DissectConfig
    execution: Execution
    run: Path
    threads: int
    fingerprint: dict[str, Any]


class ShardWorker:
    """What a worker does; errors of ours are returned, so that Ray does not retry them."""

    def __init__(self, job: RayJob, progress_actor: Any) -> None:
        torch.set_num_threads(job.threads)
        self._run, self._progress_actor = job.run, progress_actor
        self._parts: PermutationParts | None = None
        self._source: DissectionInputs | NetdissectError
        try:
            network = reload_network(job.network) if isinstance(job.network, NetworkSource) else job.network
            self._source = open_inputs(network, job.concepts, job.config, job.execution, job.run)
            _refuse_other(job.fingerprint, bitwise_fingerprint(describe(self._source)))
        except NetdissectError as error:
            self._source = error

    def run_permutations(self, shards: Sequence[Path], permutations: range) -> NetdissectError | None:
        """Count some permutations of all layers against the counting passes of all shards."""
        if isinstance(self._source, NetdissectError):
            return self._source

        def progress(stage: str, done: int, _total: int | None) -> None:
            self._progress_actor.report.remote(stage, permutations.start, done - permutations.start)

        try:
            if self._parts is None:
                self._parts = open_permutation_parts(self._run, shards, self._source)
            replace(self._parts, test=replace(self._parts.test, progress=progress)).measure(permutations, WAIT)
        except NetdissectError as error:
            return error
        return None

    def run_shard(self, shard: Shard) -> str | NetdissectError:
        """Run one shard as far as possible."""
        if isinstance(self._source, NetdissectError):
            return self._source
        total = len(batch_starts(len(self._source.data), self._source.config.images_per_batch))
        task = ShardTask(self._run, str(shard), shard.batches(total))

        def progress(stage: str, done: int, _total: int | None) -> None:
            self._progress_actor.report.remote(stage, shard.number, done)

        try:
            return run_shard(self._source, task, progress, WAIT)
        except NetdissectError as error:
            return error


def open_permutation_parts(run: Path, shards: Sequence[Path], source: DissectionInputs) -> PermutationParts:
    """Open what the shards have counted, for the permutation test."""
    merged = MergedShards.of([ShardResult.open(shard / "counting") for shard in shards])
    return PermutationParts.of(run, MergedCounts.of(merged), source.data, source.execution)


def _refuse_other(driver: dict[str, Any], worker: dict[str, Any]) -> None:
    different = difference(driver, worker)
    if different is not None:
        name, expected, actual = different
        raise ResultError(
            f"a worker on {socket.gethostname()} has another {name} than the driver: {actual} instead of {expected}. "
            "Expected the same network, data set and versions on all machines, so that bits agree."
        )
