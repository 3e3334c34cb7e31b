"""Put the pieces of a run together: in any order, and as a tree.

    first pieces of all shards     -> RUN/thresholds, which the shards' second looks read
    second pieces of all shards    -> the finished run
    pieces of some shards          -> PART/first or PART/second: a larger piece, to be merged with others

Largest values and top images are kept, counts add up: the order does not matter, to the last bit.
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
from netdissect.dissect.distributed.shard_result import ShardResult, ShardResultInfo, exists, joined, write_shard_result
from netdissect.dissect.distributed.shards import IMAGES, SHARDS, THRESHOLDS, digest_of, read_found
from netdissect.dissect.layer_state import ThresholdResult, add_prefix, of_layers, part_of
from netdissect.dissect.reload import data_of
from netdissect.dissect.run_dissection import finished_run, tables
from netdissect.dissect.statistics.assemble import LayerCounts
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.per_image_files import LayerImages
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.work_dir import WorkDir, clear_leftovers, difference
from netdissect.errors import ResultError
from netdissect.result.files import RUN_FILE, load_result, write_result
from netdissect.scoring import ConceptTotals, IoUCounts

Array = npt.NDArray[Any]
Outcome = Literal["first", "thresholds", "second", "finished"]


@dataclass(frozen=True)
class _MergedShards:
    """What all pieces are pieces of, in the order of their batches."""

    pieces: tuple[ShardResult, ...]
    info: ShardResultInfo
    missing: tuple[tuple[int, int], ...]


def merge_shards(
    run: str | Path,
    parts: Sequence[str | Path] = (),
    *,
    partial: bool = False,
    concepts: ConceptData | str | Path | None = None,
) -> Outcome:
    """Merge what the parts of a run have finished.

    Parameters
    ----------
    run
        Where the result goes: a run folder, or with `partial` a larger part.
    parts
        Folders of shards or of merged parts, or run folders that hold shards. None: those below `run`.
    partial
        Some parts are missing, and the result is a part to be merged with others.
    concepts
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.

    Returns
    -------
    Outcome
        ``thresholds``: the first looks are merged, every shard may go on. ``finished``: the run is there.
        ``first`` or ``second``: with `partial`, a larger part.

    Raises
    ------
    ResultError
        If a part is missing, doubled, overlaps another, belongs to another run or is damaged.
    """
    run = Path(run)
    if (run / RUN_FILE).exists() and all(Path(part).resolve().is_relative_to(run.resolve()) for part in parts):
        # A merge that was killed here may have removed some of the shards already: they are in the result.
        load_result(run)
        clear_leftovers(run, (SHARDS, THRESHOLDS))
        return "finished"
    folders = _folders([Path(part) for part in one_or_more(parts)] or [run])
    stage = _stage(run, folders, partial=partial)
    whole = _checked([ShardResult.open(folder / stage) for folder in folders if exists(folder / stage)])
    if whole.missing and not partial:
        raise ResultError(
            f"{len(whole.pieces)} pieces do not make a whole {stage} look: {_names(whole)} is missing. Run the missing "
            "shards, name their folders too, or merge what there is into a larger part with --partial."
        )
    if finished_run(run, whole.info.run) is not None:
        clear_leftovers(run, (SHARDS, THRESHOLDS))
        return "finished"
    log = RunLog(run, merges=whole.info.shards)
    with WorkDir(run, bitwise_fingerprint(whole.info.run), every=0, log=log) as work:
        if stage == "first":
            return _merge_first(run, whole, work, folders)
        return _merge_second(run, whole, work, concepts)


def _folders(parts: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for part in parts:
        if exists(part / "first") or exists(part / "second"):
            found.append(part)
        elif (part / SHARDS).is_dir():
            found += sorted(path for path in (part / SHARDS).iterdir() if path.is_dir())
        else:
            raise ResultError(
                f"{part} holds no finished part of a run. Expected a folder that 'netdissect run --shard I/N' or "
                "'netdissect merge --partial' has written; run the shard again, to its end."
            )
    return found


def _stage(run: Path, folders: Sequence[Path], *, partial: bool) -> Literal["first", "second"]:
    behind = [folder for folder in folders if not exists(folder / "second")]
    if not behind:
        return "second"
    if not exists(run / THRESHOLDS) or (partial and len(behind) == len(folders)):
        return "first"
    if partial:
        return "second"
    raise ResultError(
        f"the thresholds are merged, but {len(behind)} of {len(folders)} parts have no second look yet: "
        f"{', '.join(map(str, behind))}. Give the command of each such shard once more, then merge again."
    )


def _checked(pieces: Sequence[ShardResult]) -> _MergedShards:
    """Put pieces in order, and refuse what does not belong together."""
    if not pieces:
        raise ResultError("no part is finished yet: there is nothing to merge. Run the shards to their end.")
    placed = sorted(((span, piece) for piece in pieces for span in piece.info.batches), key=lambda pair: pair[0])
    first = placed[0][1]
    for piece in pieces:
        _refuse_foreign(piece, first)
    for (span, piece), (following, other) in pairwise(placed):
        if following[0] < span[1]:
            kind = "the same images" if span == following else "some of the same images"
            raise ResultError(
                f"{piece.folder.parent} and {other.folder.parent} hold {kind} (shards "
                f"{', '.join(piece.info.shards)} and {', '.join(other.info.shards)}), which would count twice. "
                "Name only one of them."
            )
    spans = joined([span for span, _ in placed])
    edges = [0, *(edge for span in spans for edge in span), first.info.total]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    ordered = tuple(dict.fromkeys(piece.folder for _, piece in placed))
    by_folder = {piece.folder: piece for piece in pieces}
    seconds: Counter[str] = Counter()
    for piece in pieces:
        seconds.update(piece.info.run.seconds)
    run = first.info.run.model_copy(update={"seconds": {name: round(value, 3) for name, value in seconds.items()}})
    shards = tuple(name for folder in ordered for name in by_folder[folder].info.shards)
    info = first.info.model_copy(update={"batches": spans, "shards": shards, "run": run, "files": {}})
    return _MergedShards(tuple(by_folder[folder] for folder in ordered), info, tuple((a, b) for a, b in gaps if a < b))


def _refuse_foreign(piece: ShardResult, first: ShardResult) -> None:
    sides = [
        bitwise_fingerprint(one.info.run)
        | {"thresholds": one.info.thresholds}
        | {"layout check": {name: check.verdict for name, check in one.info.run.layout_checks.items()}}
        for one in (piece, first)
    ]
    different = difference(sides[0], sides[1])
    if different is not None:
        name, here, there = different
        raise ResultError(
            f"{piece.folder.parent} and {first.folder.parent} are parts of different runs: {name} is {here} in "
            f"the first and {there} in the second. Merge parts that one command made, on machines of the same "
            "versions, threads and kind of processor."
        )


def _names(whole: _MergedShards) -> str:
    """Say which shards, or else which images, are missing."""
    numbers = [name.split("/") for name in whole.info.shards]
    if len({count for *_, count in numbers}) == 1 and all(len(number) == 2 for number in numbers):
        count = int(numbers[0][1])
        absent = sorted(set(range(1, count + 1)) - {int(number) for number, _ in numbers})
        return "shard " + ", ".join(f"{number}/{count}" for number in absent)
    size = whole.info.run.config.batch_size
    return "what holds the images " + ", ".join(
        f"{start * size} to {min(stop * size, whole.info.run.data.images) - 1}" for start, stop in whole.missing
    )


def _merge_first(run: Path, whole: _MergedShards, work: WorkDir, folders: Sequence[Path]) -> Outcome:
    layers = whole.info.run.layers
    statistics = [_layer_first(whole, index, work.path / f"{index}.top") for index in range(len(layers))]
    if whole.missing:
        write_shard_result(run / "first", whole.info, of_layers(part_of(*one) for one in statistics))
        work.remove()
        return "first"
    config = whole.info.run.config
    arrays = of_layers(
        vars(ThresholdResult(values.thresholds(config.quantiles, config.protocol.threshold), *images.ranked()))
        for values, images in statistics
    )
    # The shards look for thresholds in their own run folder, be it this one or another machine's. This one comes last:
    # where it has them, none is written again.
    others = {folder.parent.parent for folder in folders if folder.parent.name == SHARDS} - {run}
    for folder in (*sorted(others), run):
        write_shard_result(folder / THRESHOLDS, whole.info.model_copy(update={"stage": "thresholds"}), arrays)
    work.remove()
    return "thresholds"


def _layer_first(whole: _MergedShards, index: int, file: Path) -> tuple[StreamingTopK, TopImages]:
    layer, parts = whole.info.run.layers[index], whole.pieces
    keep, total, _seen = parts[0][f"layer{index}.counts"].tolist()
    values = StreamingTopK(layer.units, keep, total, file)
    images = TopImages(layer.units, Size(layer.height, layer.width), whole.info.run.config.top_images)
    for part in parts:
        kept = add_prefix(f"layer{index}", part)
        values.merge(kept["values"], kept["filled"], int(kept["counts"][2]))
        images.merge(kept["rows"], kept["maps"])
    return values, images


def _merge_second(run: Path, whole: _MergedShards, work: WorkDir, concepts: ConceptData | str | Path | None) -> Outcome:
    summed = [name for name in whole.pieces[0] if not name.startswith(f"{IMAGES}.")]
    arrays = {name: np.add.reduce([piece[name] for piece in whole.pieces]) for name in summed}
    apart = {name: piece[name] for piece in whole.pieces for name in piece if name not in arrays}
    files = {name: piece.folder / name for piece in whole.pieces for name in piece.info.files if name.endswith(".bin")}
    if whole.missing:
        write_shard_result(run / "second", whole.info, arrays | apart, files)
        work.remove()
        return "second"
    thresholds = ShardResult.open(run / THRESHOLDS)
    if digest_of(thresholds) != whole.info.thresholds:
        raise ResultError(
            f"{thresholds.folder} are not the thresholds with which the parts counted. Remove the folder, merge the "
            "first looks of these parts again, and repeat their second looks."
        )
    info, data, found = whole.info.run, data_of(whole.info.run, concepts), read_found(thresholds)
    truth = ConceptTotals(**add_prefix("truth", arrays))
    tallies = {layer.name: IoUCounts(**add_prefix(f"layer{index}", arrays)) for index, layer in enumerate(info.layers)}
    images = _images(apart, files, [layer.name for layer in info.layers])
    looked = [
        LayerCounts(
            info.config,
            data,
            found[name],
            tallies[name],
            truth,
            images[name],
            info.min_iou(name),
            None,
            None,
            work.file(name, "tables"),
        )
        for name in found
    ]
    write_result(run, info, *tables(info, looked))
    work.remove()
    clear_leftovers(run, (SHARDS, THRESHOLDS))
    return "finished"


def _images(offsets: Mapping[str, Array], files: Mapping[str, Path], layers: Sequence[str]) -> dict[str, LayerImages]:
    """Open what every shard kept image by image, by rising rows."""

    def opened(name: str) -> AppendOnlyArrayFile:
        file = AppendOnlyArrayFile(files[f"{name}.bin"])
        file.offsets = offsets[name].tolist()
        return file

    shards = sorted({name.rpartition(".")[0] for name in offsets})
    return {
        layer: LayerImages(tuple((opened(f"{shard}.labels"), opened(f"{shard}.masks{index}")) for shard in shards))
        for index, layer in enumerate(layers)
    }
