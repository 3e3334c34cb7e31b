"""The permutation test of a run in shards: some permutations at a time, of all layers and images.

    RUN/shards/*/counting      masks and annotation strata of the images of each shard
    RUN/permutations/25-50     best concepts in the permutations 25 to 49
    RUN/run.json ...           p-values and null counts, from the best concepts of all permutations

A permutation is drawn from its number, so that it does not matter which process counts it. A merge that was
interrupted keeps the parts that are finished.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from netdissect.concepts import ConceptData
from netdissect.config import Execution, Progress
from netdissect.dissect.distributed.merged_shards import MergedCounts
from netdissect.dissect.distributed.shard_result import (
    FULL,
    Array,
    ShardResult,
    ShardResultInfo,
    exists,
    write_shard_result,
)
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.layer_state import prefix_layers, strip_prefix
from netdissect.dissect.statistics.permutation_pass import PermutationNull, PermutationTest
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.run_log import RunLog, timed
from netdissect.dissect.work_dir.work_dir import refuse_other
from netdissect.errors import ResultError
from netdissect.paths import writing
from netdissect.progress import show_line
from netdissect.result.folder_lock import lock_folder
from netdissect.scoring.statistics.permutation import BestConcepts

PERMUTATIONS = "permutations"
PART_SECONDS = 60  # computing time of a part in a merge: what an interruption costs
MIN_STEP = 10  # permutations of a part: the labels of all images are read for each


@dataclass(frozen=True)
class PermutationParts:
    """The permutation test of a run in shards, and the folder of its finished parts.

    Attributes
    ----------
    run
        Run folder.
    info
        Of the merged counting passes.
    test
        The test of all layers.
    """

    run: Path
    info: ShardResultInfo
    test: PermutationTest

    @classmethod
    def of(
        cls,
        run: Path,
        counts: MergedCounts,
        data: ConceptData,
        execution: Execution,
        progress: Progress | None = None,
    ) -> Self:
        """Return the test of merged shards.

        Parameters
        ----------
        run
            Run folder.
        counts
            Counts of all shards.
        data
            Data set of the run.
        execution
            Its threads, memory and label cache are used.
        progress
            Called with the stage and the number of permutations done and in all.
        """
        config = counts.info.run.config
        labels = LabelReader(
            data, config.protocol, execution.cache_folder, config.images_per_batch, data.stamp(), RunLog(run)
        )
        of_protocol = {name: each.first(len(config.protocol.quantiles)) for name, each in counts.counts.items()}
        test = PermutationTest(
            config, execution, labels, progress, counts.mask_files(), of_protocol, counts.concept_totals
        )
        return cls(run, counts.info, test)

    def folder(self, permutations: range) -> Path:
        """Return the folder of a part."""
        return self.run / PERMUTATIONS / f"{permutations.start}-{permutations.stop}"

    def missing(self, step: int) -> list[range]:
        """Return the permutations that no finished part holds, at most `step` of them together."""
        finished = [edge for part in self._finished() for edge in (part.start, part.stop)]
        edges = [0, *finished, len(self.test.permutations)]
        gaps = [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        return [gap[first : first + step] for gap in gaps for first in range(0, len(gap), step)]

    @property
    def step(self) -> int:
        """Number of permutations of a part in a merge."""
        return max(MIN_STEP, PART_SECONDS * 10**9 // self.test.cost.nanoseconds)

    def measure_missing(self) -> None:
        """Count all permutations that no finished part holds; see `measure`."""
        parts = self.missing(self.step)
        if parts:
            show_line(self.test.progress, self.test.announcement(sum(map(len, parts))))
        for permutations in parts:
            self.measure(permutations)

    def measure(self, permutations: range, wait: float = 0) -> None:
        """Count some permutations of all layers, and write their best concepts.

        Parameters
        ----------
        permutations
            Their numbers.
        wait
            Seconds to wait for another process that counts the same ones.

        Raises
        ------
        ConceptsError
            If the data set changed meanwhile.
        ResultError
            If another process counts them, a mask file is damaged or the folder cannot be written.
        """
        folder, seconds = self.folder(permutations), dict[str, float]()
        with writing(folder, FULL):
            folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder, wait)
        try:
            if exists(folder):
                return
            with timed("permutations", seconds, self.test.labels.log):
                best = self.test.best_concepts(permutations)
            self.test.labels.refuse_changed(self.info.run.data.digest)
            arrays = prefix_layers(map(_stacked, best.values()))
            run = self.info.run.model_copy(update={"seconds": seconds})
            update = {"stage": PERMUTATIONS, "batches": ((permutations.start, permutations.stop),), "run": run}
            write_shard_result(folder, self.info.model_copy(update=update), arrays)
        finally:
            lock.release()

    def nulls(self) -> tuple[dict[str, PermutationNull], float]:
        """Return the null distribution of every layer from the finished parts, and the seconds that they took.

        Raises
        ------
        ResultError
            If a part is missing, damaged or of another run.
        """
        parts = [ShardResult.open(self.folder(part)) for part in self._finished()]
        held = [permutation for part in parts for batches in part.info.batches for permutation in range(*batches)]
        if held != list(self.test.permutations):
            raise ResultError(
                f"{self.run / PERMUTATIONS} holds other permutations than those of the run, 0 to "
                f"{len(self.test.permutations) - 1}. Remove this folder and merge again: only the permutation test is "
                "computed again."
            )
        for part in parts:
            refuse_other(part.folder, _identity(part.info), _identity(self.info))
        nulls = {}
        for index, layer in enumerate(self.test.counts):
            best: list[BestConcepts] = []
            for part in parts:
                arrays = strip_prefix(f"layer{index}", part)
                best += map(BestConcepts, arrays["label_ids"], arrays["scores"])
            nulls[layer] = self.test.null_of(layer, best)
        return nulls, sum(part.info.run.seconds[PERMUTATIONS] for part in parts)

    def _finished(self) -> list[range]:
        """Return the permutations of each finished part, in order."""
        names = [re.fullmatch(r"(\d{1,9})-(\d{1,9})", path.name) for path in (self.run / PERMUTATIONS).glob("*-*")]
        parts = [range(*map(int, name.groups())) for name in names if name is not None]
        return sorted((part for part in parts if exists(self.folder(part))), key=lambda part: part.start)


def _stacked(best: Sequence[BestConcepts]) -> dict[str, Array]:
    return {name: np.stack([getattr(each, name) for each in best]) for name in BestConcepts._fields}


def _identity(info: ShardResultInfo) -> dict[str, Any]:
    return bitwise_fingerprint(info.run) | {"thresholds": info.thresholds}
