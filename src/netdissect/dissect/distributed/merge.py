"""Merge the results of shards, in any order and as a tree.

    threshold passes of all shards   -> RUN/merged-thresholds, which the counting passes read
    counts of all shards             -> the finished run
    results of some shards           -> OUT/thresholds or OUT/counting: a larger shard, to be merged with others

Merging largest values and top images, and adding counts, do not depend on the order: results agree bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from netdissect.activations import StreamingTopK, TopImages
from netdissect.concepts import ConceptData, Size
from netdissect.config import Execution, Progress, one_or_more
from netdissect.dissect.bases.basis_files import copy_bases
from netdissect.dissect.distributed.merged_shards import MergedCounts, MergedShards
from netdissect.dissect.distributed.permutation_parts import PERMUTATIONS, PermutationParts
from netdissect.dissect.distributed.shard_result import ShardResult, exists, write_shard_result
from netdissect.dissect.distributed.shards import MERGED_THRESHOLDS, SHARDS, read_thresholds, thresholds_digest
from netdissect.dissect.layer_state import ThresholdResult, export_arrays, prefix_layers, strip_prefix
from netdissect.dissect.reload import data_of
from netdissect.dissect.run_dissection import fdr_limits, finished_run, result_tables
from netdissect.dissect.statistics.layer_counts import LayerCounts
from netdissect.dissect.statistics.permutation_pass import NullTables
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.saved_config import save_config
from netdissect.dissect.work_dir.work_dir import WorkDir, clear_leftovers
from netdissect.errors import ResultError
from netdissect.process.interruption import locks_spared
from netdissect.progress import ShowProgress, shown
from netdissect.result import LayerResult, RunInfo
from netdissect.result.files import RUN_FILE, load_result, write_result
from netdissect.result.run_config import CONFIG_FILE, RunConfig

MergeOutcome = Literal["thresholds", "merged-thresholds", "counting", "finished"]
LEFTOVERS = (SHARDS, MERGED_THRESHOLDS, PERMUTATIONS)


def merge_shards(
    run: str | Path,
    shards: Sequence[str | Path] = (),
    *,
    partial: bool = False,
    concepts: ConceptData | str | Path | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
) -> MergeOutcome:
    """Merge what the shards of a run have finished, and carry out its permutation test.

    Parameters
    ----------
    run
        Folder of the result: a run or, with `partial`, a larger shard.
    shards
        Folders of shards or of merged shards, or run folders that hold shards. Empty: those below `run`.
    partial
        Whether shards may be missing; the result is then a larger shard, to be merged with others.
    concepts
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    execution
        Threads, memory and label cache of the permutation test, which reads the labels of all images.
    progress
        As for `netdissect.dissect`: None shows the permutations that are done on a terminal or in a notebook.

    Returns
    -------
    Outcome
        ``merged-thresholds``: every shard can run its counting pass. ``finished``: the run is complete.
        ``thresholds`` or ``counting``: with `partial`, the pass of which a larger shard was written.

    Raises
    ------
    ResultError
        If a shard is missing, given twice, overlaps another, belongs to another run or is damaged.
    """
    run = Path(run)
    if (run / RUN_FILE).exists() and all(Path(shard).resolve().is_relative_to(run.resolve()) for shard in shards):
        # A merge that was killed here may have removed some shards already; the result holds them.
        load_result(run)
        clear_leftovers(run, LEFTOVERS)
        return "finished"
    folders = _folders([Path(shard) for shard in one_or_more(shards)] or [run])
    stage = _stage(run, folders, partial=partial)
    merged = MergedShards.of([ShardResult.open(folder / stage) for folder in folders if exists(folder / stage)])
    if merged.missing and not partial:
        raise ResultError(
            f"{len(merged.shards)} shards of pass {stage!r} do not make the run: {merged.missing_names()} is missing. "
            "Run the missing shards, name their folders too, or merge these into a larger shard with --partial."
        )
    if finished_run(run, merged.info.run) is not None:
        clear_leftovers(run, LEFTOVERS)
        return "finished"
    log = RunLog(run, merges=merged.info.shards)
    with WorkDir(run, bitwise_fingerprint(merged.info.run), every=0, log=log) as work:
        copy_bases(folders, run)
        if stage == "thresholds":
            return _merge_thresholds(run, merged, work, folders)
        with locks_spared(), shown(progress) as display:
            return _merge_counts(run, merged, work, concepts, execution or Execution(), display)


def _folders(shards: Iterable[Path]) -> list[Path]:
    results: list[Path] = []
    for shard in shards:
        if exists(shard / "thresholds") or exists(shard / "counting"):
            results.append(shard)
        elif (shard / SHARDS).is_dir():
            results += sorted(path for path in (shard / SHARDS).iterdir() if path.is_dir())
        else:
            raise ResultError(
                f"{shard} holds no finished shard of a run. Expected a folder that 'netdissect run --shard I/N' or "
                "'netdissect merge-shards --partial' wrote; run the shard again, to its end."
            )
    return results


def _stage(run: Path, folders: Sequence[Path], *, partial: bool) -> Literal["thresholds", "counting"]:
    uncounted = [folder for folder in folders if not exists(folder / "counting")]
    if not uncounted:
        return "counting"
    if not exists(run / MERGED_THRESHOLDS) or (partial and len(uncounted) == len(folders)):
        return "thresholds"
    if partial:
        return "counting"
    raise ResultError(
        f"the thresholds are merged, but {len(uncounted)} of {len(folders)} shards have no counts yet: "
        f"{', '.join(map(str, uncounted))}. Repeat the command of each such shard, then merge again."
    )


def _merge_thresholds(run: Path, merged: MergedShards, work: WorkDir, folders: Sequence[Path]) -> MergeOutcome:
    layers = merged.info.run.layers
    statistics = [_merge_layer(merged, index, work.path / f"{index}.top") for index in range(len(layers))]
    if merged.missing:
        of_images, files = merged.of_images
        arrays = prefix_layers(export_arrays(*layer) for layer in statistics) | of_images
        write_shard_result(run / "thresholds", merged.info, arrays, files)
        work.remove()
        return "thresholds"
    config = merged.info.run.config
    arrays = prefix_layers(
        vars(ThresholdResult.of(config, *layer, merged.maxima(index))) for index, layer in enumerate(statistics)
    )
    # Each shard reads thresholds from its own run folder, here or on another machine. This folder comes last: once it
    # has them, they are not written again.
    others = {folder.parent.parent for folder in folders if folder.parent.name == SHARDS} - {run}
    for folder in (*sorted(others), run):
        write_shard_result(
            folder / MERGED_THRESHOLDS, merged.info.model_copy(update={"stage": "merged-thresholds"}), arrays
        )
    work.remove()
    return "merged-thresholds"


def _merge_layer(merged: MergedShards, index: int, file: Path) -> tuple[StreamingTopK, TopImages]:
    layer, shards = merged.info.run.layers[index], merged.shards
    keep, total, _seen = shards[0][f"layer{index}.counts"].tolist()
    values = StreamingTopK(layer.units, keep, total, file, float(shards[0][f"layer{index}.lowest"]))
    cells = Size(*shards[0][f"layer{index}.maps"].shape[2:])  # none where maps are sparse: they follow with the counts
    images = TopImages(layer.units, cells, merged.info.run.config.top_images)
    for shard in shards:
        exported = strip_prefix(f"layer{index}", shard)
        values.merge(exported["values"], exported["filled"], int(exported["counts"][2]))
        images.merge(exported["image_index"], exported["maxima"], exported["maps"])
    return values, images


def _merge_counts(
    run: Path,
    merged: MergedShards,
    work: WorkDir,
    concepts: ConceptData | str | Path | None,
    execution: Execution,
    progress: Progress | None,
) -> MergeOutcome:
    if merged.missing:
        counts = MergedCounts.of(merged)
        write_shard_result(run / "counting", merged.info, {**counts.arrays, **counts.per_image}, counts.files)
        work.remove()
        return "counting"
    thresholds, data = ShardResult.open(run / MERGED_THRESHOLDS), data_of(merged.info.run, concepts)
    if thresholds_digest(thresholds) != merged.info.thresholds:
        raise ResultError(
            f"{thresholds.folder} are not the thresholds at which the shards counted. Remove the folder, merge the "
            "thresholds of these shards again, and repeat their counting passes."
        )

    def test_of(counts: MergedCounts) -> PermutationParts:
        return PermutationParts.of(run, counts, data, execution, progress)

    info, table, layers = _tables(merged, thresholds, data, work, test_of)
    if not (run / CONFIG_FILE).exists():  # the shards wrote theirs into other folders
        threads, root = info.environment.threads, None if data.subset is None else str(data.root.resolve())
        save_config(run, RunConfig(network=info.network.source, concepts=root, config=info.config, threads=threads))
    write_result(run, info, table, layers)
    work.remove()
    clear_leftovers(run, LEFTOVERS)
    return "finished"


def _tables(
    merged: MergedShards,
    thresholds: ShardResult,
    data: ConceptData,
    work: WorkDir,
    test_of: Callable[[MergedCounts], PermutationParts],
) -> tuple[RunInfo, pl.DataFrame, Iterator[LayerResult]]:
    """Add the counts of all shards, and make the tables of the run; a layer's counts are released with its tables."""
    counts = MergedCounts.of(merged)
    info = _with_seconds(merged.info.run, thresholds.info.run.seconds)
    null_tables: dict[str, NullTables] = {}
    if info.config.permutations:
        info, null_tables = _measured_nulls(info, test_of(counts))
    threshold_results = read_thresholds(thresholds)
    layer_counts = [
        LayerCounts(
            info.config, data, counts.with_top_maps(name, threshold_results[name]), counts.counts[name],
            counts.concept_totals,
            counts.layer_images(name), counts.layer_masks(name), counts.range_maps(name), info.min_iou(name),
            null_tables.get(name), None, None, counts.layer_moments(name),
            work.file(name, "tables"),
        )
        for name in threshold_results
    ]  # fmt: skip
    return info, *result_tables(info, layer_counts)


def _measured_nulls(info: RunInfo, parts: PermutationParts) -> tuple[RunInfo, dict[str, NullTables]]:
    """Carry out what is left of the permutation test, and add its FDR limits and time to the description of the run."""
    parts.measure_missing()
    nulls, taken = parts.nulls()
    info = _with_seconds(info, {PERMUTATIONS: taken}).model_copy(update=fdr_limits(nulls))
    return info, {name: NullTables.of(null, info.min_iou(name)) for name, null in nulls.items()}


def _with_seconds(info: RunInfo, more: Mapping[str, float]) -> RunInfo:
    """Add the seconds of other processes."""
    added = {name: round(info.seconds.get(name, 0.0) + seconds, 3) for name, seconds in more.items()}
    return info.model_copy(update={"seconds": info.seconds | added})
