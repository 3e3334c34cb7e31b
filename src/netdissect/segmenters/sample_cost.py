"""Estimate the cost of dissecting a generator on its samples, from a few of them.

a few samples, drawn and labeled twice -> seconds and bytes a sample; the dissection on them -> CostEstimate
"""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.cost_estimate import CostEstimate, estimate
from netdissect.models import Generator
from netdissect.segmenters.sample_dataset import SampleOptions, segment_samples
from netdissect.segmenters.segmenter import Segmenter

FEW = 8
STAGE = "samples"


def estimate_on_samples(
    generator: Generator,
    segmenter: Segmenter,
    options: SampleOptions,
    config: DissectConfig,
    execution: Execution,
    sample: int = 64,
) -> CostEstimate:
    """Predict time, memory and disk of drawing samples, labeling them and dissecting the generator on them.

    Parameters
    ----------
    generator, segmenter, options
        As for `netdissect.segment_samples`.
    config, execution
        As for `netdissect.dissect`.
    sample
        Number of samples that are drawn, labeled and dissected for the estimate; a few more are drawn before.

    Returns
    -------
    CostEstimate
        With the stage ``samples``.

    Raises
    ------
    NetdissectError
        As the run itself would.
    """
    counts = [min(count, options.samples) for count in (FEW, FEW + sample)]
    with TemporaryDirectory(prefix="netdissect-") as name:
        folders = [Path(name) / f"{index}-samples" for index in range(2)]
        few, many = (
            _seconds(generator, segmenter, folder, options.model_copy(update={"samples": count}))
            for folder, count in zip(folders, counts, strict=True)
        )
        data = ConceptData.open(folders[1])
        repeated = tuple(data.rows[index % len(data.rows)] for index in range(options.samples))
        cost = estimate(
            generator, replace(data, rows=repeated), config=config, execution=execution, sample=min(sample, counts[1])
        )
        drawn = sum(path.stat().st_size for path in folders[1].rglob("*") if path.is_file())
    rate = max(many - few, 0.0) / (counts[1] - counts[0]) if counts[1] > counts[0] else many / counts[1]
    seconds = max(many + rate * (options.samples - counts[1]), 0.0)
    return replace(
        cost,
        seconds={STAGE: seconds} | dict(cost.seconds),
        disk_bytes=cost.disk_bytes + drawn * options.samples // counts[1],
    )


def _seconds(generator: Generator, segmenter: Segmenter, folder: Path, options: SampleOptions) -> float:
    begin = time.monotonic()
    segment_samples(generator, segmenter, folder, options, progress=False)
    return time.monotonic() - begin
