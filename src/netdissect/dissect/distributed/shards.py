"""A run in shards: each looks at some of the batches, wherever and whenever it likes.

    RUN/shards/3-of-8/first     the largest values and top images of the shard's images
    RUN/thresholds              those of all shards, merged: the thresholds
    RUN/shards/3-of-8/second    the shard's counts, with these thresholds
    RUN/run.json ...            all counts, merged: the finished run

Shards begin where batches begin, batches are cut by index row, and statistics add up: the run is, bit for
bit, the one that a single process would have made. A shard's own largest values bound the thresholds of the whole from
below, so it keeps only activations that can matter.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.determinism_check import with_repeatability
from netdissect.dissect.distributed.shard_result import (
    Array,
    ShardResult,
    ShardResultInfo,
    Stage,
    exists,
    write_shard_result,
)
from netdissect.dissect.forward import DissectionInputs, torch_device
from netdissect.dissect.layer_state import ThresholdResult, of_layers, strip_prefix
from netdissect.dissect.layout_checks import with_layout_checks
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.dissect.run_dissection import finished_run, opened, planned
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe
from netdissect.dissect.work_dir.run_log import RunLog, timed
from netdissect.dissect.work_dir.saved_config import write_config
from netdissect.dissect.work_dir.work_dir import WorkDir, refuse_other
from netdissect.errors import ConfigError
from netdissect.models import Network
from netdissect.result import RunInfo

SHARDS, THRESHOLDS, IMAGES = "shards", "thresholds", "images"
STAGES: tuple[Literal["second"], Literal["first"]] = ("second", "first")


@dataclass(frozen=True)
class Shard:
    """One of `count` shards of about the same number of batches, counted from 1.

    >>> Shard.parse("3/8").batches(20)
    range(5, 7)
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"shard {self} does not exist. Expected I/N with I from 1 to N, such as 3/8.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``I/N``.

        Raises
        ------
        ConfigError
            If it is something else.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise ConfigError(f"{text!r} is no shard. Expected I/N with I from 1 to N, such as 3/8.")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def batches(self, total: int) -> range:
        """Return the shard's batches of `total`.

        Raises
        ------
        ConfigError
            If there are fewer batches than shards.
        """
        if self.count > total:
            raise ConfigError(
                f"{total} batches cannot be cut into {self.count} shards. Name at most {total} shards, or a smaller "
                "--batch-size."
            )
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


@dataclass(frozen=True)
class ShardPass:
    """Which batches a process looks at, and where it writes.

    Attributes
    ----------
    run
        The run folder, in which thresholds appear.
    name
        What it is called: that of the shard.
    batches
        Numbers of the batches.
    """

    run: Path
    name: str
    batches: range

    @property
    def folder(self) -> Path:
        """Where its pieces lie."""
        return self.run / SHARDS / self.name.replace("/", "-of-")


def dissect_shard(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    shard: Shard,
    *,
    out: str | Path,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Stage:
    """Look at one shard: at first for thresholds, and once those of all shards are merged, for counts.

    Parameters
    ----------
    network, concepts, config, execution, progress
        As for `netdissect.dissect`.
    shard
        Which images.
    out
        Run folder, which several shards may share: see `netdissect.merge_shards`.

    Returns
    -------
    Stage
        ``first`` or ``second``: the look that is finished.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    source = opened(network, concepts, config, execution)
    total = len(batch_starts(len(source.data), config.batch_size))
    return look_at(source, ShardPass(Path(out), str(shard), shard.batches(total)), progress)


def look_at(source: DissectionInputs, part: ShardPass, progress: Progress | None = None, wait: float = 0) -> Stage:
    """Do what can be done of one part: its first look, and its second if the thresholds of all parts are there.

    Parameters
    ----------
    source
        Network, data, and what to measure.
    part
        Which batches.
    progress
        Called with the stage and the number of images done and in all.
    wait
        Seconds to wait for another process that works on this part.

    Returns
    -------
    Stage
        The last stage that is finished.

    Raises
    ------
    ResultError
        If the folder holds something else, or another process works on it.
    ConfigError
        If what chance gives, or scores beside IoU, are asked for.
    """
    if source.config.statistics.extra_metrics:
        raise ConfigError(
            "a shard does not measure scores beside IoU: the leading concepts are known once all shards are merged. "
            "Leave --extra-metrics out, or dissect in one process."
        )
    if source.config.permutations:
        raise ConfigError(
            "a shard cannot say what chance gives: masks meet the labels of other images, which other shards hold. "
            "Leave --permutations and --min-iou fdr out, or dissect in one process."
        )
    run = describe(source, progress)
    if finished_run(part.run, run) is not None:
        return "second"
    stage = finished_stage(part)
    if stage == "second" or (stage == "first" and not exists(part.run / THRESHOLDS)):
        _refuse_other(ShardResult.open(part.folder / stage), run)
        return stage
    starts = batch_starts(len(source.data), source.config.batch_size)
    info = ShardResultInfo(
        stage="first",
        run=run,
        shards=(part.name,),
        batches=((part.batches.start, part.batches.stop),),
        total=len(starts),
        files={},
    )
    wanted = bitwise_fingerprint(run) | {"batches": [part.batches.start, part.batches.stop]}
    log = RunLog(part.run, shard=part.name)
    with source.network.prepared(torch_device(source.config.device)):
        info = info.model_copy(update={"run": with_repeatability(source, run)})
        with WorkDir(part.folder, wanted, source.execution.checkpoint_seconds, wait, log) as work:
            write_config(part.run, source)
            own = starts[part.batches.start : part.batches.stop]
            return _carry_out(
                TwoPass(source, planned(source, work), work, progress, own, source.data.stamp()), part, info
            )


def finished_stage(part: ShardPass) -> Literal["first", "second"] | None:
    """Return the last look of a part that is finished; None: not even the first."""
    return next((stage for stage in STAGES if exists(part.folder / stage)), None)


def _carry_out(looks: TwoPass, part: ShardPass, info: ShardResultInfo) -> Stage:
    seconds: dict[str, float] = {}
    with timed("layout check", seconds, looks.work.log):
        run = with_layout_checks(looks.source, info.run, part.run / SHARDS, looks.work.log)
        info = info.model_copy(update={"run": run})
    with timed("first look", seconds, looks.work.log):
        collectors = looks.first()
    looks.refuse_changed(info.run.data.digest)
    if not exists(part.folder / "first"):
        parts = of_layers(collector.part() for collector in collectors.values())
        write_shard_result(part.folder / "first", _at(info, "first", seconds), parts)
    if not exists(part.run / THRESHOLDS):
        return "first"
    thresholds = ShardResult.open(part.run / THRESHOLDS)
    _refuse_other(thresholds, info.run)
    with timed("second look", seconds, looks.work.log):
        counted = looks.second(collectors, read_found(thresholds))
    looks.refuse_changed(info.run.data.digest)
    info = _at(info, "second", seconds).model_copy(update={"thresholds": digest_of(thresholds)})
    own = f"{IMAGES}.{part.batches.start:09}"  # image by image: stays apart when shards are merged
    files = {f"{own}.{name}.bin": file.path for name, file in counted.images.files.items()}
    write_shard_result(
        part.folder / "second", info, _second(counted) | strip_prefix(own, counted.images.state()), files
    )
    looks.work.remove()
    return "second"


def _at(info: ShardResultInfo, stage: Stage, seconds: Mapping[str, float]) -> ShardResultInfo:
    return info.model_copy(update={"stage": stage, "run": info.run.model_copy(update={"seconds": dict(seconds)})})


def _second(counted: CountResult) -> dict[str, Array]:
    return strip_prefix("truth", vars(counted.truth)) | of_layers(map(vars, counted.tallies.values()))


def read_found(piece: ShardResult) -> dict[str, ThresholdResult]:
    """Read thresholds and top images of each layer."""
    names = ("thresholds", "rows", "maxima", "maps")
    return {
        layer.name: ThresholdResult(*(np.array(piece[f"layer{index}.{name}"]) for name in names))
        for index, layer in enumerate(piece.info.run.layers)
    }


def digest_of(thresholds: ShardResult) -> str:
    """Return the SHA-256 of all thresholds, whoever merged them."""
    digest = hashlib.sha256()
    for name, file in sorted(thresholds.info.files.items()):
        if name.endswith(".thresholds.npy"):
            digest.update(file.encode())
    return digest.hexdigest()


def _refuse_other(piece: ShardResult, info: RunInfo) -> None:
    refuse_other(piece.folder, bitwise_fingerprint(piece.info.run), bitwise_fingerprint(info))
