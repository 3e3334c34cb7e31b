"""One dissection, from a network and a data set to a result.

    first look    forward -> Collector of each layer -> thresholds, top images, activations that can matter
    second look   these activations (or forward again) -> Tallier of each layer
    tables        -> Result

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.evidence import Looked, evidence_of
from netdissect.dissect.folder import WorkFolder, refuse_other
from netdissect.dissect.forward import Source, torch_device
from netdissect.dissect.identity import data_info, environment, identity, identity_of_run, layer_info, network_info
from netdissect.dissect.looks import Looks
from netdissect.dissect.plan import make_plan
from netdissect.errors import ConfigError
from netdissect.models import Layer, Network, resolve_layers
from netdissect.result import LayerResult, Result, RunInfo, load_result
from netdissect.result.files import RUN_FILE, write_result
from netdissect.result.tables import concept_table, score_table, threshold_table, top_table, unit_table
from netdissect.sweep import batch_starts

logger = logging.getLogger(__name__)


def dissect(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig | None = None,
    *,
    layers: Sequence[str] | None = None,
    out: str | Path | None = None,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Result:
    """Score every unit of the chosen layers against every concept.

    Parameters
    ----------
    network
        Any module with its preprocessing.
    concepts
        A data set in Broden's layout, or its folder.
    config
        What to measure. None: the paper's protocol.
    layers
        Names or globs of the layers, in place of those of `config`.
    out
        Run folder. A finished run of the same inputs there is returned as it is, an interrupted one goes on;
        one of other inputs is refused. None: nothing is kept.
    execution
        How to carry it out: nothing of it changes a count.
    progress
        Called with the stage and the number of images done and in all.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = _with_layers(config, layers)
    torch_device(config.device)
    if not isinstance(concepts, ConceptData):
        concepts = ConceptData.open(
            concepts, categories=config.categories, split=config.split, limit=config.limit, seed=config.seed
        )
    resolved = resolve_layers(network, config.layers)
    run = Path(out) if out is not None else None
    wanted = identity(network, concepts, resolved, config)
    if run is not None and (run / RUN_FILE).exists():
        finished = load_result(run)
        refuse_other(run, identity_of_run(finished.info), wanted)
        return finished
    _warn_of_missing_fields(resolved, config.protocol.anchor)
    execution = execution or Execution()
    versions = environment(config.device).model_dump(mode="json")
    work = WorkFolder(run, wanted | {"environment": versions}, execution.checkpoint_seconds)
    with work.cleared(always=run is None):
        info, table, parts = _carry_out(Source(network, concepts, resolved, config, execution), work, progress)
        if run is None:
            return Result(info, table, {layer.info.name: layer for layer in parts})
        # Layer by layer: the tables of ten wide layers would not fit into memory together.
        return load_result(write_result(run, info, table, parts))


def _with_layers(config: DissectConfig | None, layers: Sequence[str] | None) -> DissectConfig:
    if not layers and config is None:
        raise ConfigError(
            "no layer was named. Pass layers=['layer4'] (names or globs), or a DissectConfig; "
            "netdissect.list_layers(network) lists them."
        )
    if config is None:
        return DissectConfig(layers=tuple(layers or ()))
    return config.model_copy(update={"layers": tuple(layers)}) if layers else config


def _carry_out(
    source: Source, work: WorkFolder, progress: Progress | None
) -> tuple[RunInfo, pl.DataFrame, Iterator[LayerResult]]:
    network, data, layers, config, execution = source
    plan = make_plan(layers, network.preprocessing.size, len(data), config, execution, work.path)
    plan = work.settled(plan)
    logger.info("%s", plan)
    looks = Looks(source, plan, work, progress, batch_starts(len(data), config.batch_size))
    seconds: dict[str, float] = {}
    with _timed("first look", seconds):
        collectors = looks.first()
    found = {name: collector.found() for name, collector in collectors.items()}
    with _timed("second look", seconds):
        counted = looks.second(collectors, found)
    info = RunInfo(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config,
        network=network_info(network),
        data=data_info(data),
        layers=tuple(layer_info(layer) for layer in layers),
        environment=environment(config.device),
        seconds=seconds,
    )
    concepts = concept_table(data, counted.truth, config.protocol.quantiles[0])
    looked = (
        Looked(source, collectors[name], found[name], counted.tallies[name], counted.truth, counted.images.of(name))
        for name in found
    )
    return info, concepts, _layer_results(info, looked)


def _layer_results(info: RunInfo, layers: Iterable[Looked]) -> Iterator[LayerResult]:
    quantiles = info.config.protocol.quantiles
    for layer, looked in zip(info.layers, layers, strict=True):
        data, truth, tally = looked.source.data, looked.truth, looked.tally.first(len(quantiles))
        found = looked.found
        thresholds = threshold_table(found.thresholds[: len(quantiles)], found.maxima[:, 0], quantiles)
        yield LayerResult(
            info=layer,
            thresholds=thresholds,
            units=unit_table(data, truth, tally, thresholds),
            lazy_scores=score_table(data, truth, tally, quantiles).lazy(),
            top=top_table(found.rows, found.maxima, data),
            top_maps=found.maps,
            evidence=evidence_of(looked),
        )


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - start, 3)


def _warn_of_missing_fields(layers: Sequence[Layer], anchor: str) -> None:
    missing = [layer.name for layer in layers if layer.field is None and layer.grid is not None]
    if missing and anchor.startswith("receptive-field"):
        warnings.warn(
            f"no receptive field could be traced for {', '.join(missing)}: half-pixel centers are used there, as if "
            "the map covered the image evenly.",
            stacklevel=3,
        )
