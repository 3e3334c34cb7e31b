"""A run in shards: each processes some of the batches, on any machine and at any time.

    RUN/shards/3-of-8/thresholds   largest values and top images of the shard's images
    RUN/merged-thresholds          thresholds and top images of all shards
    RUN/shards/3-of-8/counting     counts of the shard at these thresholds, and its masks for the permutation test
    RUN/run.json ...               the finished run, from the sum of all counts

Shards begin where batches begin, and statistics add up: the run equals that of a single process bit for bit. The
largest values of a shard are a lower bound of the merged thresholds, so a shard stores only activations above it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self, Unpack

import numpy as np
import torch

from netdissect.activations import batch_starts
from netdissect.activations.array_log import AppendOnlyFile
from netdissect.activations.sparse.unit_maps import UnitMaps
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.determinism_check import with_determinism_check
from netdissect.dissect.devices import torch_device
from netdissect.dissect.distributed.shard_result import (
    Array,
    ShardResult,
    ShardResultInfo,
    ShardStage,
    exists,
    write_shard_result,
)
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.layer_state import AnyCollector, ThresholdResult, add_prefix, prefix_layers
from netdissect.dissect.layout_checks import with_layout_checks
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.dissect.run_dissection import finished_run, make_run_plan, open_inputs
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.saved_config import write_config
from netdissect.dissect.work_dir.work_dir import WorkDir, refuse_other, run_folder
from netdissect.dissect_options import DissectOptions
from netdissect.errors import ConfigError
from netdissect.keywords import ConfigObjects, read_options, takes_options
from netdissect.models import Network, as_network
from netdissect.models.dictionaries.basis_spec import parse_specs
from netdissect.paths import writing
from netdissect.process.interruption import locks_spared
from netdissect.progress import ShowProgress, shown
from netdissect.result import RunInfo
from netdissect.result.folder_lock import lock_folder
from netdissect.result.run_config import CONFIG_FILE

SHARDS, MERGED_THRESHOLDS, IMAGES, PERMUTATION_TEST = "shards", "merged-thresholds", "images", "permutation-test"
WAIT_FOR_CHOICE = 600.0  # seconds until another shard must have measured batch size and backend
STAGES: tuple[Literal["counting"], Literal["thresholds"]] = ("counting", "thresholds")


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
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise ConfigError(f"{text!r} is not a shard. Expected I/N with I from 1 to N, such as 3/8.")
        return cls(*map(int, match.groups()))

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
                f"{total} batches cannot be split into {self.count} shards. Name at most {total} shards, or a smaller "
                "--batch-size."
            )
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


@dataclass(frozen=True)
class ShardTask:
    """The batches that one process works on, and the folder of its results.

    Attributes
    ----------
    run
        Run folder, which holds the merged thresholds.
    name
        Of the shard, such as ``3/8``.
    batches
        Indices of the batches.
    """

    run: Path
    name: str
    batches: range

    @property
    def folder(self) -> Path:
        """Folder of its results."""
        return self.run / SHARDS / self.name.replace("/", "-of-")


@takes_options
def dissect_shard(
    model: Network | torch.nn.Module | str,
    data: ConceptData | str | Path,
    *,
    shard: Shard | str,
    out: str | Path,
    layers: Sequence[str] | str | None = None,
    preprocessing: object = None,
    config: DissectConfig | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
    **options: Unpack[DissectOptions],
) -> ShardStage:
    """Run one shard: first the threshold pass and, once the thresholds of all shards are merged, the counting pass.

    Parameters
    ----------
    model, data, layers, preprocessing, config, execution, progress
        As for `netdissect.dissect`.
    shard
        The shard, such as ``3/8``.
    out
        Run folder, which several shards may share: see `netdissect.merge_shards`.

    Returns
    -------
    Stage
        ``thresholds`` or ``counting``: the last pass that is finished.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    shard = Shard.parse(shard) if isinstance(shard, str) else shard
    config, execution = read_options(dissect_shard, options, ConfigObjects(layers, config, execution))
    run, network = run_folder(out), as_network(model, preprocessing)
    with locks_spared(), shown(progress) as display:
        with _choosing_alone(run, config):
            source = open_inputs(network, data, config, execution, run, display)
            if _measures(config) and not (run / CONFIG_FILE).exists():
                write_config(run, source)
        total = len(batch_starts(len(source.data), source.config.images_per_batch))
        return run_shard(source, ShardTask(run, str(shard), shard.batches(total)), display)


def _measures(config: DissectConfig) -> bool:
    """Tell whether something of a run is chosen by measuring, or a basis is fitted."""
    sampled = any(spec.needs_cells for spec in parse_specs(config.bases))
    return sampled or "auto" in (config.batch_size, config.backend)


@contextmanager
def _choosing_alone(run: Path, config: DissectConfig) -> Iterator[None]:
    """Of shards that begin together let one measure or fit; the others wait for its configuration and bases."""
    if not _measures(config) or (run / CONFIG_FILE).exists():
        yield
        return
    with writing(run, "Choose a run folder on a disk with space and write access."):
        (run / SHARDS).mkdir(parents=True, exist_ok=True)
    lock = lock_folder(run / SHARDS, WAIT_FOR_CHOICE)
    try:
        yield
    finally:
        lock.release()


def run_shard(
    source: DissectionInputs, task: ShardTask, progress: Progress | None = None, wait: float = 0
) -> ShardStage:
    """Run what can be run of one shard: the threshold pass, and the counting pass if thresholds are merged.

    Parameters
    ----------
    source
        Network, data, and what to measure.
    task
        The shard.
    progress
        Called with the stage and the number of images done and in all.
    wait
        Seconds to wait for another process that holds this shard.

    Returns
    -------
    Stage
        The last pass that is finished.

    Raises
    ------
    ResultError
        If the folder holds something else, or another process works on it.
    ConfigError
        If extra metrics or the information quality are requested.
    """
    if source.config.statistics.iqr:
        raise ConfigError(
            "a shard cannot search for the highest information quality: its thresholds are known only once all shards "
            "are merged. Leave --iqr out, or dissect in one process."
        )
    if source.config.statistics.extra_metrics:
        raise ConfigError(
            "a shard cannot measure extra metrics: the leading concepts are known only once all shards are merged. "
            "Leave --extra-metrics out, or dissect in one process."
        )
    run = describe(source, progress)
    if finished_run(task.run, run) is not None:
        return "counting"
    stage = finished_stage(task)
    if stage == "counting" or (stage == "thresholds" and not exists(task.run / MERGED_THRESHOLDS)):
        _refuse_other(ShardResult.open(task.folder / stage), run)
        return stage
    starts = batch_starts(len(source.data), source.config.images_per_batch)
    info = ShardResultInfo(
        stage="thresholds",
        run=run,
        shards=(task.name,),
        batches=((task.batches.start, task.batches.stop),),
        total=len(starts),
        files={},
    )
    fingerprint = bitwise_fingerprint(run) | {"batches": [task.batches.start, task.batches.stop]}
    log = RunLog(task.run, shard=task.name)
    with source.network.prepared(torch_device(source.config.device)):
        info = info.model_copy(update={"run": with_determinism_check(source, run)})
        with WorkDir(task.folder, fingerprint, source.execution.checkpoint_seconds, wait, log) as work:
            write_config(task.run, source)
            own = starts[task.batches.start : task.batches.stop]
            plan = make_run_plan(source, work, progress)
            return _carry_out(TwoPass(source, plan, work, progress, own, source.data.stamp()), task, info)


def finished_stage(task: ShardTask) -> Literal["thresholds", "counting"] | None:
    """Return the last finished pass of a shard; None: none."""
    return next((stage for stage in STAGES if exists(task.folder / stage)), None)


def _carry_out(two_pass: TwoPass, task: ShardTask, info: ShardResultInfo) -> ShardStage:
    work = two_pass.work
    own = f"{IMAGES}.{task.batches.start:09}"
    with work.timed("layout check"):
        run = with_layout_checks(two_pass.source, info.run, task.run / SHARDS, work.log)
        info = info.model_copy(update={"run": run})
    with work.timed("thresholds"):
        collectors = two_pass.threshold_pass()
    two_pass.refuse_changed(info.run.data.digest)
    if not exists(task.folder / "thresholds"):
        arrays, files = _threshold_arrays(collectors, own)
        write_shard_result(task.folder / "thresholds", _at(info, "thresholds", work.seconds), arrays, files)
    if not exists(task.run / MERGED_THRESHOLDS):
        return "thresholds"
    thresholds = ShardResult.open(task.run / MERGED_THRESHOLDS)
    _refuse_other(thresholds, info.run)
    threshold_results = read_thresholds(thresholds)
    with work.timed("counting"):
        counted = two_pass.count_pass(collectors, threshold_results)
    two_pass.refuse_changed(info.run.data.digest)
    # The time of the other stages is in the result of the threshold pass.
    info = _at(info, "counting", {"counting": work.seconds["counting"]}).model_copy(
        update={"thresholds": thresholds_digest(thresholds)}
    )
    moments = [collector.moments for collector in collectors.values()]
    arrays, files = _count_arrays(counted, own, moments)
    write_shard_result(task.folder / "counting", info, arrays, files)
    work.remove()
    return "counting"


def _at(info: ShardResultInfo, stage: ShardStage, seconds: Mapping[str, float]) -> ShardResultInfo:
    return info.model_copy(update={"stage": stage, "run": info.run.model_copy(update={"seconds": dict(seconds)})})


def _threshold_arrays(collectors: Mapping[str, AnyCollector], own: str) -> tuple[dict[str, Array], dict[str, Path]]:
    """Return arrays and files of a threshold pass; those whose names begin with `own` belong to its images."""
    maxima = {f"{own}.maxima{index}": collector.maxima for index, collector in enumerate(collectors.values())}
    arrays = prefix_layers(collector.export() for collector in collectors.values())
    arrays |= {name: np.array(file.offsets) for name, file in maxima.items()}
    return arrays, {f"{name}.bin": file.path for name, file in maxima.items()}


def _count_arrays(
    counted: CountResult, own: str, moments: Sequence[LayerMoments | None]
) -> tuple[dict[str, Array], dict[str, Path]]:
    """Return arrays and files of a counting pass and moments; those whose names begin with `own` are not summed."""
    arrays = add_prefix("concept-totals", vars(counted.concept_totals))
    arrays |= prefix_layers(map(vars, counted.counts.values())) | add_prefix(own, counted.per_image.state())
    arrays |= _map_arrays(counted, own)
    opened: dict[str, AppendOnlyFile] = dict(counted.per_image.files)
    for index, each in enumerate(moments):
        if each is not None:
            arrays |= add_prefix(f"moments{index}", vars(each.cells))
            arrays[f"{own}.means{index}"] = np.array(each.means[0].offsets)
            opened[f"means{index}"] = each.means[0]
    masks = counted.masks
    if masks.files:
        of_test = {"num_runs": masks.num_runs, "image_level": masks.image_level}
        arrays |= add_prefix(PERMUTATION_TEST, of_test)
        arrays[f"{own}.strata"] = masks.strata
        pixels = {f"pixels{index}": file for index, (file,) in enumerate(masks.files.values())}
        arrays |= add_prefix(own, {name: np.array(file.offsets) for name, file in pixels.items()})
        opened |= pixels
    return arrays, {f"{own}.{name}.bin": file.path for name, file in opened.items()}


def _map_arrays(counted: CountResult, own: str) -> dict[str, Array]:
    """Return the maps of the images over the range of each unit and, of a sparse layer, of its top images."""
    arrays: dict[str, Array] = {}
    for index, (layer, maps) in enumerate(counted.range_maps.items()):
        if isinstance(maps, UnitMaps):
            arrays |= add_prefix(f"{own}.range{index}", maps.arrays())
            arrays |= add_prefix(f"{own}.top{index}", counted.top_maps[layer].arrays())
        else:
            arrays[f"range{index}.maps"] = maps
    return arrays


def read_thresholds(result: ShardResult) -> dict[str, ThresholdResult]:
    """Read what is known of each layer after the threshold pass."""
    names = [field.name for field in fields(ThresholdResult)]
    return {
        layer.name: ThresholdResult(*(np.array(result[f"layer{index}.{name}"]) for name in names))
        for index, layer in enumerate(result.info.run.layers)
    }


def thresholds_digest(thresholds: ShardResult) -> str:
    """Return the SHA-256 of all thresholds; it does not depend on who merged them."""
    digest = hashlib.sha256()
    for name, file in sorted(thresholds.info.files.items()):
        if name.endswith(".thresholds.npy"):
            digest.update(file.encode())
    return digest.hexdigest()


def _refuse_other(result: ShardResult, info: RunInfo) -> None:
    refuse_other(result.folder, bitwise_fingerprint(result.info.run), bitwise_fingerprint(info))
