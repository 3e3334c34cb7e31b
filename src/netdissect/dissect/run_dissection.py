"""One dissection, from a network and a data set to a result.

    first look    forward -> Collector of each layer -> thresholds, top images, activations that can matter
    second look   these activations (or forward again) -> Tallier of each layer
    tables        -> Result

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from torch import get_num_threads

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress, one_or_more
from netdissect.dissect.cost_plan import CostPlan, make_plan
from netdissect.dissect.determinism_check import with_repeatability
from netdissect.dissect.forward import DissectionInputs, torch_device
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.layout_checks import with_layout_checks
from netdissect.dissect.passes import TwoPass
from netdissect.dissect.statistics.assemble import LayerCounts, layer_statistics
from netdissect.dissect.statistics.extra_metrics import ExtraMetrics, extra_metrics_of
from netdissect.dissect.statistics.permutation_pass import PermutationNull, fdr_limit, keep_masks, permutation_nulls_of
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe, identity_of_run
from netdissect.dissect.work_dir.run_log import RunLog, timed
from netdissect.dissect.work_dir.saved_config import write_config
from netdissect.dissect.work_dir.work_dir import WorkDir, clear_leftovers, refuse_other
from netdissect.errors import ConfigError, LayerError
from netdissect.models import Layer, Network, resolve_layers
from netdissect.result import LayerResult, Result, RunInfo, load_result
from netdissect.result.files import RUN_FILE, write_result
from netdissect.result.tables import activity_tables, concept_table, score_table, threshold_table, top_table, unit_table

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
        A data set in Broden's layout, or its folder. One that is open is restricted further as `config` says.
    config
        What to measure, and on which images. None: the paper's protocol, on all.
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
    source = opened(network, concepts, _with_layers(config, layers), execution)
    run = Path(out) if out is not None else None
    info = describe(source, progress)
    done = None if run is None else finished_run(run, info)
    if done is not None:
        return done
    with network.prepared(torch_device(source.config.device)):
        info = with_repeatability(source, info)
        with WorkDir(run, bitwise_fingerprint(info), source.execution.checkpoint_seconds, log=RunLog(run)) as work:
            if run is not None:
                write_config(run, source)
            info, table, parts = _carry_out(source, info, work, progress)
            if run is None:
                return Result(info, table, {layer.info.name: _in_memory(layer) for layer in parts})
            # Layer by layer: the tables of ten wide layers would not fit into memory together.
            write_result(run, info, table, parts)
            work.remove()
    clear_leftovers(run)
    return load_result(run)


def opened(
    network: Network, concepts: ConceptData | str | Path, config: DissectConfig, execution: Execution | None
) -> DissectionInputs:
    """Open the data set and resolve the layers: everything a forward pass needs.

    The configuration of what is returned says which images take part, also where the data set was opened before.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    torch_device(config.device)
    execution = execution or Execution()
    data, config = sample_images(concepts, config, execution.label_cache)
    layers = resolve_layers(network, config.layers, config.assumed)
    _check_fields(layers, config)
    return DissectionInputs(network, data, layers, config, execution)


def finished_run(run: Path, info: RunInfo) -> Result | None:
    """Return the finished run of a folder; None: there is none.

    Raises
    ------
    ResultError
        If it is a run of something else, or damaged.
    """
    if not (run / RUN_FILE).exists():
        return None
    finished = load_result(run)
    refuse_other(run, identity_of_run(finished.info), identity_of_run(info))
    clear_leftovers(run)
    return finished


def _with_layers(config: DissectConfig | None, layers: Sequence[str] | None) -> DissectConfig:
    if not layers and config is None:
        raise ConfigError(
            "no layer was named. Pass layers=['layer4'] (names or globs), or a DissectConfig; "
            "netdissect.list_layers(network) lists them."
        )
    if config is None:
        return DissectConfig(layers=one_or_more(layers or ()))
    return config.model_copy(update={"layers": one_or_more(layers)}) if layers else config


def _carry_out(
    source: DissectionInputs, info: RunInfo, work: WorkDir, progress: Progress | None
) -> tuple[RunInfo, pl.DataFrame, Iterator[LayerResult]]:
    starts = batch_starts(len(source.data), source.config.batch_size)
    looks = TwoPass(source, planned(source, work), work, progress, starts, source.data.stamp())
    seconds: dict[str, float] = {}
    with timed("layout check", seconds, work.log):
        info = with_layout_checks(source, info, work.path, work.log)
    with timed("first look", seconds, work.log):
        collectors = looks.first()
    found = {name: collector.found() for name, collector in collectors.items()}
    with timed("second look", seconds, work.log):
        counted = looks.second(collectors, found)
    chances: dict[str, PermutationNull] = {}
    if source.config.permutations:
        with timed("chance", seconds, work.log):
            chances = permutation_nulls_of(looks, keep_masks(looks, collectors, found), counted)
    besides: dict[str, ExtraMetrics] = {}
    if source.config.statistics.extra_metrics:
        with timed("beside", seconds, work.log):
            besides = extra_metrics_of(looks, collectors, found, counted)
    looks.refuse_changed(info.data.digest)
    info = info.model_copy(update={"seconds": seconds} | _limits(chances))
    looked = [
        LayerCounts(
            source.config, source.data, found[name], tally, counted.truth, counted.images.of(name),
            info.min_iou(name), chances.get(name), besides.get(name), work.file(name, "tables"),
        )
        for name, tally in counted.tallies.items()
    ]  # fmt: skip
    return info, *tables(info, looked)


def _limits(chances: Mapping[str, PermutationNull]) -> dict[str, Any]:
    """Return the limits by chance: units that differ in what chance gives them are judged layer by layer."""
    if not chances:
        return {}
    of_layers = {name: fdr_limit([chance]) for name, chance in chances.items()}
    return {"fdr_limit": fdr_limit(list(chances.values())), "fdr_limits": of_layers}


def planned(source: DissectionInputs, work: WorkDir) -> CostPlan:
    """Decide how a dissection is carried out, or go on as it began."""
    network, data, layers, config, execution = source
    plan = make_plan(layers, network.preprocessing.size, len(data), config, execution, work.path)
    plan = work.settled(plan)
    logger.info("%s", plan)
    work.log.event("planned", plan=str(plan), network=network.name, concepts=str(data.root), threads=get_num_threads())
    return plan


def tables(info: RunInfo, layers: Sequence[LayerCounts]) -> tuple[pl.DataFrame, Iterator[LayerResult]]:
    """Make the table of concepts, and the tables of one layer after the other."""
    data, truth = layers[0].data, layers[0].truth
    return concept_table(data, truth, info.config.protocol), _layer_results(info, layers)


def _layer_results(info: RunInfo, layers: Iterable[LayerCounts]) -> Iterator[LayerResult]:
    quantiles = info.config.protocol.quantiles
    for layer, looked in zip(info.layers, layers, strict=True):
        data, truth, tally = looked.data, looked.truth, looked.tally.first(len(quantiles))
        found = looked.found
        thresholds = threshold_table(found.thresholds[: len(quantiles)], found.maxima[:, 0], quantiles)
        yield LayerResult(
            info=layer,
            thresholds=thresholds,
            units=unit_table(data, truth, tally, thresholds),
            lazy_scores=score_table(data, truth, tally, info.config.protocol).lazy(),
            top=top_table(found.rows, found.maxima, data),
            top_maps=found.maps,
            evidence=layer_statistics(looked) | activity_tables(tally),
        )


def _in_memory(layer: LayerResult) -> LayerResult:
    """Read evidence whose files will be gone."""
    return replace(layer, evidence={name: table.collect().lazy() for name, table in layer.evidence.items()})


def _check_fields(layers: Sequence[Layer], config: DissectConfig) -> None:
    """Refuse layers whose cells would have to be anchored at receptive fields that nobody knows."""
    if not config.protocol.anchor.startswith("receptive-field") or config.assumed.receptive_field is not None:
        return
    missing = [layer.name for layer in layers if layer.field is None and layer.grid is not None]
    if missing:
        raise LayerError(
            f"no receptive field could be traced for {', '.join(missing)}, and the protocol {config.protocol.name!r} "
            "anchors cells at the centers of receptive fields. If you know it, say it: --receptive-field "
            "OFFSET,SIZE,STEP in input pixels, or half-pixel if the cells cover the image evenly (in Python "
            "DissectConfig(assumed=Assumed(receptive_field=...))); the protocols lite and pnas2020 need none."
        )
