"""Shards of one run, checked and put into the order of their images, and the sums of their counts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.activation_range import RANGE_IMAGES
from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.activations.image_values import ImageValues
from netdissect.activations.sparse.unit_maps import UnitMaps
from netdissect.dissect.distributed.shard_result import ShardResult, ShardResultInfo, merge_ranges
from netdissect.dissect.distributed.shards import IMAGES, PERMUTATION_TEST
from netdissect.dissect.layer_state import ThresholdResult, strip_prefix
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.mask_files import LayerMasks, MaskFile, MaskFiles
from netdissect.dissect.work_dir.per_image_files import LayerImages
from netdissect.dissect.work_dir.work_dir import difference
from netdissect.errors import ResultError
from netdissect.scoring import ConceptTotals, IoUCounts
from netdissect.scoring.cell_moments import CellMoments

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MergedShards:
    """Shards of one run in the order of their batches, and the ranges of batches that are missing."""

    shards: tuple[ShardResult, ...]
    info: ShardResultInfo
    missing: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, shards: Sequence[ShardResult]) -> Self:
        """Sort shards by their batches.

        Raises
        ------
        ResultError
            If there is none, or they belong to different runs or overlap.
        """
        if not shards:
            raise ResultError("no shard is finished yet: there is nothing to merge. Run the shards to their end.")
        by_range = sorted(
            ((batches, shard) for shard in shards for batches in shard.info.batches), key=lambda pair: pair[0]
        )
        first = by_range[0][1]
        for shard in shards:
            _refuse_foreign(shard, first)
        for left, right in pairwise(by_range):
            _refuse_overlap(left, right)
        ranges = merge_ranges([batches for batches, _ in by_range])
        edges = [0, *(edge for batches in ranges for edge in batches), first.info.total]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        ordered = tuple({shard.folder: shard for _, shard in by_range}.values())
        seconds: Counter[str] = Counter()
        for shard in shards:
            seconds.update(shard.info.run.seconds)
        run = first.info.run.model_copy(update={"seconds": {name: round(value, 3) for name, value in seconds.items()}})
        names = tuple(name for shard in ordered for name in shard.info.shards)
        info = first.info.model_copy(update={"batches": ranges, "shards": names, "run": run, "files": {}})
        return cls(ordered, info, tuple((a, b) for a, b in gaps if a < b))

    @property
    def of_images(self) -> tuple[dict[str, Array], dict[str, Path]]:
        """Arrays and files that belong to the images of one shard, by name; they are not summed."""
        names = [(shard, name) for shard in self.shards for name in shard if name.startswith(f"{IMAGES}.")]
        files = {
            name: shard.folder / name for shard in self.shards for name in shard.info.files if name.endswith(".bin")
        }
        return {name: shard[name] for shard, name in names}, files

    def maxima(self, index: int) -> list[ImageValues]:
        """Open the maxima of every image of a layer, by ascending image index."""
        return image_values(self.info.run.layers[index].units, *self.of_images, f"maxima{index}")

    def missing_names(self) -> str:
        """Name the missing shards; if their numbers are unknown, the missing images."""
        numbers = [name.split("/") for name in self.info.shards]
        if len({count for *_, count in numbers}) == 1 and all(len(number) == 2 for number in numbers):
            count = int(numbers[0][1])
            absent = sorted(set(range(1, count + 1)) - {int(number) for number, _ in numbers})
            return "shard " + ", ".join(f"{number}/{count}" for number in absent)
        size = self.info.run.config.images_per_batch
        return "the shard with the images " + ", ".join(
            f"{start * size} to {min(stop * size, self.info.run.data.images) - 1}" for start, stop in self.missing
        )


def image_values(units: int, offsets: Mapping[str, Array], files: Mapping[str, Path], name: str) -> list[ImageValues]:
    """Open a value for each image and unit of each shard, by ascending image index.

    Parameters
    ----------
    units
        Units of the layer.
    offsets, files
        As `MergedShards.of_images`.
    name
        Such as ``maxima0``, which ends with the index of the layer.
    """
    found = sorted(each for each in offsets if each.endswith(f".{name}"))
    return [ImageValues(files[f"{each}.bin"], units, offsets[each].tolist()) for each in found]


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


def _refuse_overlap(left: tuple[tuple[int, int], ShardResult], right: tuple[tuple[int, int], ShardResult]) -> None:
    (batches, shard), (following, other) = left, right
    if following[0] < batches[1]:
        kind = "the same images" if batches == following else "some of the same images"
        raise ResultError(
            f"{shard.folder.parent} and {other.folder.parent} hold {kind} (shards "
            f"{', '.join(shard.info.shards)} and {', '.join(other.info.shards)}), which would be counted twice. "
            "Name only one of them."
        )


def _sum(arrays: Iterator[Array]) -> Array:
    """Add one array after the other: the counts of all shards together may not fit into memory."""
    total = np.array(next(arrays))
    for array in arrays:
        total += array
    return total


@dataclass(frozen=True)
class MergedCounts:
    """The counting passes of some shards, merged.

    Attributes
    ----------
    info
        Of the merged shards.
    arrays
        Sums of the arrays of all shards.
    per_image
        Arrays that belong to the images of one shard, which begin with ``images.``: they are not summed.
    files
        Files of the images of one shard, by the same names and ``.bin``.
    """

    info: ShardResultInfo
    arrays: Mapping[str, Array]
    per_image: Mapping[str, Array]
    files: Mapping[str, Path]

    @classmethod
    def of(cls, merged: MergedShards) -> Self:
        """Add the counts of shards."""
        shards = merged.shards
        summed = [name for name in shards[0] if not name.startswith(f"{IMAGES}.")]
        arrays = {name: _sum(shard[name] for shard in shards) for name in summed}
        return cls(merged.info, arrays, *merged.of_images)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer.name for layer in self.info.run.layers)

    @cached_property
    def concept_totals(self) -> ConceptTotals:
        """Pixels and images of each label."""
        return ConceptTotals(**strip_prefix("concept-totals", self.arrays))

    @cached_property
    def counts(self) -> dict[str, IoUCounts]:
        """Counts of each layer."""
        return {
            layer: IoUCounts(**strip_prefix(f"layer{index}", self.arrays)) for index, layer in enumerate(self.layers)
        }

    def range_maps(self, layer: str) -> Array | UnitMaps:
        """Return the maps of the images over the range of each unit."""
        index = self.layers.index(layer)
        dense = self.arrays.get(f"range{index}.maps")
        return self._unit_maps(index, "range", RANGE_IMAGES) if dense is None else dense

    def with_top_maps(self, layer: str, result: ThresholdResult) -> ThresholdResult:
        """Return the merged thresholds of a layer with the maps of its top images, which a sparse layer lacked."""
        index = self.layers.index(layer)
        if f"range{index}.maps" in self.arrays:
            return result
        return replace(result, maps=self._unit_maps(index, "top", self.info.run.config.top_images))

    def _unit_maps(self, index: int, name: str, slots: int) -> UnitMaps:
        """Join the maps of chosen images of a sparse layer; each image is in one shard."""
        layer, prefixes = self.info.run.layers[index], self._parts(f"{name}{index}.lengths")
        parts = [strip_prefix(f"{prefix}.{name}{index}", self.per_image) for prefix in prefixes]
        return UnitMaps.join((layer.units, slots, layer.height, layer.width), parts)

    def layer_images(self, layer: str) -> LayerImages:
        """Open the per-image labels and masks of every shard, by ascending image index."""
        index = self.layers.index(layer)
        return LayerImages(
            tuple(
                (
                    AppendOnlyArrayFile(*self._file(f"{images}.labels")),
                    AppendOnlyArrayFile(*self._file(f"{images}.masks{index}")),
                )
                for images in self._parts("labels")
            )
        )

    def layer_masks(self, layer: str) -> LayerMasks:
        """Open the masks of every shard, by ascending image index; none if they were not kept."""
        index, parts = self.layers.index(layer), self._parts("strata")
        return LayerMasks(tuple(MaskFile(*self._file(f"{own}.pixels{index}")) for own in parts))

    def layer_moments(self, layer: str) -> LayerMoments | None:
        """Open the moments of every shard; None if the run has none."""
        if not self.info.run.config.statistics.moments:
            return None
        index = self.layers.index(layer)
        means = image_values(self.info.run.layers[index].units, self.per_image, self.files, f"means{index}")
        return LayerMoments(tuple(means), CellMoments(**strip_prefix(f"moments{index}", self.arrays)).carried())

    def mask_files(self) -> MaskFiles:
        """Open the masks of every layer, with what the permutation test needs to know of their images."""
        parts = self._parts("strata")
        files = {layer: self.layer_masks(layer).files for layer in self.layers}
        of_test = strip_prefix(PERMUTATION_TEST, self.arrays)
        strata = np.concatenate([self.per_image[f"{own}.strata"] for own in parts])
        images = self.info.run.data.images
        if {len(strata)} | {sum(file.records for file in of_layer) for of_layer in files.values()} != {images}:
            raise ResultError(
                f"the shards hold the masks of other images than the {images} of the run: one of them is damaged. "
                "Remove its folder, and run this shard again."
            )
        return MaskFiles(files, of_test["num_runs"], strata, of_test["image_level"] > 0)

    def _parts(self, name: str) -> list[str]:
        """Return the prefixes of the images of each shard that has an array of this name."""
        return sorted(array.removesuffix(f".{name}") for array in self.per_image if array.endswith(f".{name}"))

    def _file(self, name: str) -> tuple[Path, list[int]]:
        """Return the path of a file and the offsets of its records."""
        return self.files[f"{name}.bin"], self.per_image[name].tolist()
