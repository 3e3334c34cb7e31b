"""Merge the results of shards, in any order and as a tree.

    threshold passes of all shards   -> RUN/merged-thresholds, which the counting passes read
    counts of all shards             -> the finished run
    results of some shards           -> OUT/thresholds or OUT/counting: a larger shard, to be merged with others

Merging largest values and top images, and adding counts, do not depend on the order: results agree bit for bit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from netdissect.activations import StreamingTopK, TopImages
from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.concepts import ConceptData, Size
from netdissect.config import one_or_more
from netdissect.dissect.distributed.shard_result import (
    ShardResult,
    ShardResultInfo,
    exists,
    merge_ranges,
    write_shard_result,
)
from netdissect.dissect.distributed.shards import IMAGES, MERGED_THRESHOLDS, SHARDS, read_thresholds, thresholds_digest
from netdissect.dissect.layer_state import ThresholdResult, export_arrays, prefix_layers, strip_prefix
from netdissect.dissect.reload import data_of
from netdissect.dissect.run_dissection import finished_run, result_tables
from netdissect.dissect.statistics.layer_counts import LayerCounts
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.per_image_files import LayerImages
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.work_dir import WorkDir, clear_leftovers, difference
from netdissect.errors import ResultError
from netdissect.result.files import RUN_FILE, load_result, write_result
from netdissect.scoring import ConceptTotals, IoUCounts

Array = npt.NDArray[Any]
MergeOutcome = Literal["thresholds", "merged-thresholds", "counting", "finished"]


@dataclass(frozen=True)
class _MergedShards:
    """Shards of one run in the order of their batches, and the ranges of batches that are missing."""

    shards: tuple[ShardResult, ...]
    info: ShardResultInfo
    missing: tuple[tuple[int, int], ...]


def merge_shards(
    run: str | Path,
    shards: Sequence[str | Path] = (),
    *,
    partial: bool = False,
    concepts: ConceptData | str | Path | None = None,
) -> MergeOutcome:
    """Merge what the shards of a run have finished.

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
        clear_leftovers(run, (SHARDS, MERGED_THRESHOLDS))
        return "finished"
    folders = _folders([Path(shard) for shard in one_or_more(shards)] or [run])
    stage = _stage(run, folders, partial=partial)
    merged = _checked([ShardResult.open(folder / stage) for folder in folders if exists(folder / stage)])
    if merged.missing and not partial:
        raise ResultError(
            f"{len(merged.shards)} shards of pass {stage!r} do not make the run: {_missing_names(merged)} is missing. "
            "Run the missing shards, name their folders too, or merge these into a larger shard with --partial."
        )
    if finished_run(run, merged.info.run) is not None:
        clear_leftovers(run, (SHARDS, MERGED_THRESHOLDS))
        return "finished"
    log = RunLog(run, merges=merged.info.shards)
    with WorkDir(run, bitwise_fingerprint(merged.info.run), every=0, log=log) as work:
        if stage == "thresholds":
            return _merge_thresholds(run, merged, work, folders)
        return _merge_counts(run, merged, work, concepts)


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


def _checked(shards: Sequence[ShardResult]) -> _MergedShards:
    """Sort shards by their batches; refuse shards of different runs and shards that overlap."""
    if not shards:
        raise ResultError("no shard is finished yet: there is nothing to merge. Run the shards to their end.")
    by_range = sorted(
        ((batches, shard) for shard in shards for batches in shard.info.batches), key=lambda pair: pair[0]
    )
    first = by_range[0][1]
    for shard in shards:
        _refuse_foreign(shard, first)
    for (batches, shard), (following, other) in pairwise(by_range):
        if following[0] < batches[1]:
            kind = "the same images" if batches == following else "some of the same images"
            raise ResultError(
                f"{shard.folder.parent} and {other.folder.parent} hold {kind} (shards "
                f"{', '.join(shard.info.shards)} and {', '.join(other.info.shards)}), which would be counted twice. "
                "Name only one of them."
            )
    ranges = merge_ranges([batches for batches, _ in by_range])
    edges = [0, *(edge for batches in ranges for edge in batches), first.info.total]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    ordered = tuple(dict.fromkeys(shard.folder for _, shard in by_range))
    by_folder = {shard.folder: shard for shard in shards}
    seconds: Counter[str] = Counter()
    for shard in shards:
        seconds.update(shard.info.run.seconds)
    run = first.info.run.model_copy(update={"seconds": {name: round(value, 3) for name, value in seconds.items()}})
    names = tuple(name for folder in ordered for name in by_folder[folder].info.shards)
    info = first.info.model_copy(update={"batches": ranges, "shards": names, "run": run, "files": {}})
    return _MergedShards(tuple(by_folder[folder] for folder in ordered), info, tuple((a, b) for a, b in gaps if a < b))


def _refuse_foreign(shard: ShardResult, first: ShardResult) -> None:
    sides = [
        bitwise_fingerprint(each.info.run)
        | {"thresholds": each.info.thresholds}
        | {"layout check": {name: check.verdict for name, check in each.info.run.layout_checks.items()}}
        for each in (shard, first)
    ]
    different = difference(sides[0], sides[1])
    if different is not None:
        name, here, there = different
        raise ResultError(
            f"{shard.folder.parent} and {first.folder.parent} are shards of different runs: {name} is {here} in "
            f"the first and {there} in the second. Merge shards of one command, from machines with the same versions, "
            "number of threads and processor type."
        )


def _missing_names(merged: _MergedShards) -> str:
    """Name the missing shards; if their numbers are unknown, the missing images."""
    numbers = [name.split("/") for name in merged.info.shards]
    if len({count for *_, count in numbers}) == 1 and all(len(number) == 2 for number in numbers):
        count = int(numbers[0][1])
        absent = sorted(set(range(1, count + 1)) - {int(number) for number, _ in numbers})
        return "shard " + ", ".join(f"{number}/{count}" for number in absent)
    size = merged.info.run.config.batch_size
    return "the shard with the images " + ", ".join(
        f"{start * size} to {min(stop * size, merged.info.run.data.images) - 1}" for start, stop in merged.missing
    )


def _merge_thresholds(run: Path, merged: _MergedShards, work: WorkDir, folders: Sequence[Path]) -> MergeOutcome:
    layers = merged.info.run.layers
    statistics = [_merge_layer(merged, index, work.path / f"{index}.top") for index in range(len(layers))]
    if merged.missing:
        write_shard_result(
            run / "thresholds", merged.info, prefix_layers(export_arrays(*layer) for layer in statistics)
        )
        work.remove()
        return "thresholds"
    config = merged.info.run.config
    arrays = prefix_layers(
        vars(ThresholdResult(values.thresholds(config.quantiles, config.protocol.threshold), *images.ranked()))
        for values, images in statistics
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


def _merge_layer(merged: _MergedShards, index: int, file: Path) -> tuple[StreamingTopK, TopImages]:
    layer, shards = merged.info.run.layers[index], merged.shards
    keep, total, _seen = shards[0][f"layer{index}.counts"].tolist()
    values = StreamingTopK(layer.units, keep, total, file)
    images = TopImages(layer.units, Size(layer.height, layer.width), merged.info.run.config.top_images)
    for shard in shards:
        exported = strip_prefix(f"layer{index}", shard)
        values.merge(exported["values"], exported["filled"], int(exported["counts"][2]))
        images.merge(exported["image_index"], exported["maps"])
    return values, images


def _merge_counts(
    run: Path, merged: _MergedShards, work: WorkDir, concepts: ConceptData | str | Path | None
) -> MergeOutcome:
    summed = [name for name in merged.shards[0] if not name.startswith(f"{IMAGES}.")]
    arrays = {name: np.add.reduce([shard[name] for shard in merged.shards]) for name in summed}
    apart = {name: shard[name] for shard in merged.shards for name in shard if name not in arrays}
    files = {name: shard.folder / name for shard in merged.shards for name in shard.info.files if name.endswith(".bin")}
    if merged.missing:
        write_shard_result(run / "counting", merged.info, arrays | apart, files)
        work.remove()
        return "counting"
    thresholds = ShardResult.open(run / MERGED_THRESHOLDS)
    if thresholds_digest(thresholds) != merged.info.thresholds:
        raise ResultError(
            f"{thresholds.folder} are not the thresholds at which the shards counted. Remove the folder, merge the "
            "thresholds of these shards again, and repeat their counting passes."
        )
    info, data = merged.info.run, data_of(merged.info.run, concepts)
    threshold_results = read_thresholds(thresholds)
    concept_totals = ConceptTotals(**strip_prefix("concept-totals", arrays))
    counts = {layer.name: IoUCounts(**strip_prefix(f"layer{index}", arrays)) for index, layer in enumerate(info.layers)}
    images = _per_image_files(apart, files, [layer.name for layer in info.layers])
    layer_counts = [
        LayerCounts(
            info.config,
            data,
            threshold_results[name],
            counts[name],
            concept_totals,
            images[name],
            info.min_iou(name),
            None,
            None,
            work.file(name, "tables"),
        )
        for name in threshold_results
    ]
    write_result(run, info, *result_tables(info, layer_counts))
    work.remove()
    clear_leftovers(run, (SHARDS, MERGED_THRESHOLDS))
    return "finished"


def _per_image_files(
    offsets: Mapping[str, Array], files: Mapping[str, Path], layers: Sequence[str]
) -> dict[str, LayerImages]:
    """Open the per-image files of every shard, by ascending image index."""

    def opened(name: str) -> AppendOnlyArrayFile:
        file = AppendOnlyArrayFile(files[f"{name}.bin"])
        file.offsets = offsets[name].tolist()
        return file

    shards = sorted({name.rpartition(".")[0] for name in offsets})
    return {
        layer: LayerImages(tuple((opened(f"{shard}.labels"), opened(f"{shard}.masks{index}")) for shard in shards))
        for index, layer in enumerate(layers)
    }
