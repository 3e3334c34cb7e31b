"""Intervene in the generator of a finished run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.activations.sample_reader import SampleReader
from netdissect.checksums import json_digest
from netdissect.concepts import ConceptData
from netdissect.concepts.machine_masks import read_machine_masks
from netdissect.dissect.reload import network_of, open_run_data
from netdissect.dissect.work_dir.fingerprint import run_identity
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConfigError
from netdissect.experiments.interventions.change_units import Intervention, change_units
from netdissect.experiments.interventions.intervene_config import InterveneConfig
from netdissect.experiments.interventions.unit_choice import number_of
from netdissect.models import Generator
from netdissect.progress import ShowProgress, shown
from netdissect.result import Result, load_result
from netdissect.segmenters import Segmenter, load_segmenter
from netdissect.segmenters.color_labels import with_colors
from netdissect.segmenters.recorded_segmenter import load_recorded

CHECKPOINT_SECONDS = 20.0


def intervene(
    run: Result | str | Path,
    config: InterveneConfig,
    *,
    generator: Generator | None = None,
    segmenter: Segmenter | str | None = None,
    data: str | Path | None = None,
    trust_network: bool = False,
    progress: ShowProgress = None,
) -> Intervention:
    """Ablate or insert units of the generator of a run and measure the area of every concept.

    Parameters
    ----------
    run
        A finished run of a generator, or its folder.
    config
        The concept, the units, and what is done with them.
    generator
        That of the run, if it cannot be loaded again. None: loaded.
    segmenter
        That of the samples, or its specification. None: the one that they record.
    data
        Folder of the samples, if it was moved.
    trust_network
        Import the Python code that the run and its samples name as their generator and segmenter.
    progress
        As for `netdissect.dissect`.

    Raises
    ------
    ConfigError
        If the run is not that of a generator, or has no such layer, concept or units; or if no sample shows a concept
        that is ablated.
    NetworkError
        If the generator cannot be loaded, or is another one.
    SegmenterError
        If the segmenter cannot be loaded, or is another one.
    """
    result = run if isinstance(run, Result) else load_result(run)
    network = network_of(result.info, generator, folder=result.folder, trust_network=trust_network)
    if not isinstance(network, Generator):
        raise ConfigError(
            f"the run is of {network.name!r}, which takes images and draws none. Expected the run of a generator; for "
            "a classifier see 'netdissect experiment ablate'."
        )
    samples = open_run_data(result.info, data)
    labels = _segmenter(samples, segmenter, trust=trust_network)
    if number_of(config.units, "ace") is None:  # colors have no scores
        labels = with_colors(labels)
    rows = range(min(config.samples, len(samples.rows)))
    if len(rows) < 2:
        raise ConfigError(
            f"the run has {len(rows)} sample, whose mean has no interval. Expected at least 2: dissect the generator "
            "on more (--samples)."
        )
    indices: npt.NDArray[np.int64] = SampleReader(samples, network.preprocessing).read(rows)
    with shown(progress) as display, _work(result, network, labels, indices, config) as work:
        return change_units(result, network, labels, indices, config, progress=display, work=work)


@contextmanager
def _work(
    result: Result, generator: Generator, segmenter: Segmenter, samples: npt.NDArray[np.int64], config: InterveneConfig
) -> Iterator[WorkDir | None]:
    """Open the folder in which unfinished work is kept, in that of the run; it is removed at the end."""
    if result.origin is None or not os.access(result.origin.folder, os.W_OK):
        yield None
        return
    facts = {
        "run": run_identity(result.info), "generator": generator.digest, "segmenter": segmenter.digest,
        "samples": samples.tolist(), "config": config.model_dump(mode="json"),
    }  # fmt: skip
    folder = result.origin.folder / "interventions" / json_digest(facts)[:16]
    with WorkDir(folder, facts | {"samples": len(samples)}, CHECKPOINT_SECONDS) as work:
        yield work
        work.remove()
    with suppress(OSError):  # another intervention is at work beside it
        folder.rmdir()
        folder.parent.rmdir()


def _segmenter(data: ConceptData, given: Segmenter | str | None, *, trust: bool) -> Segmenter:
    if isinstance(given, Segmenter):
        return given
    if isinstance(given, str):
        return load_segmenter(given)
    return load_recorded(read_machine_masks(data.root), str(data.root), trust=trust)
