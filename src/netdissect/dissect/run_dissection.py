"""One dissection, from a network and a data set to a result.

    threshold pass   forward -> Collector of each layer -> thresholds, top images, stored activations
    counting pass    stored activations (or forward again) -> IoUCounter of each layer
    tables           -> Result

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

import polars as pl
import torch

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.counted import size_text
from netdissect.dissect.bases.layer_bases import with_bases
from netdissect.dissect.choices.backend_choice import backend_text, with_backend
from netdissect.dissect.choices.batch_size import explained_out_of_memory, find_batch_size
from netdissect.dissect.choices.count_memory import check_counts, count_text
from netdissect.dissect.cost_plan import CostPlan, make_plan
from netdissect.dissect.determinism_check import with_determinism_check
from netdissect.dissect.devices import choose_device, counts_on_device, torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.generators.sample_check import check_samples
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.layer_state import Maps
from netdissect.dissect.layout_checks import with_layout_checks
from netdissect.dissect.passes import TwoPass
from netdissect.dissect.statistics.activation_tables import activation_tables
from netdissect.dissect.statistics.assemble import layer_statistics
from netdissect.dissect.statistics.extra_metrics import ExtraMetrics, measure_extra_metrics
from netdissect.dissect.statistics.iqr_pass import STAGE, count_between_levels, iqr_levels
from netdissect.dissect.statistics.layer_counts import LayerCounts
from netdissect.dissect.statistics.per_image_tables import KEPT_RUN_BYTES
from netdissect.dissect.statistics.permutation_cost import MEGABYTE, PermutationCost
from netdissect.dissect.statistics.permutation_pass import NullTables, PermutationNull, PermutationTest, fdr_limit
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint, describe, run_identity
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.saved_config import with_earlier_choices, write_config
from netdissect.dissect.work_dir.work_dir import WorkDir, clear_leftovers, refuse_other, run_folder
from netdissect.dissect_options import DissectOptions
from netdissect.errors import LayerError
from netdissect.keywords import ConfigObjects, read_options, takes_options
from netdissect.models import Layer, Network, as_network, exact_patterns, resolve_layers
from netdissect.models.dictionaries.basis_spec import absolute_bases
from netdissect.process.freed_memory import return_freed_memory
from netdissect.process.interruption import locks_spared
from netdissect.progress import Display, ShowProgress, show_line, shown
from netdissect.result import LayerInfo, LayerResult, Result, RunInfo, load_result
from netdissect.result.files import RUN_FILE, open_written, write_result
from netdissect.result.summary import count_sentence, measured_count
from netdissect.result.tables import (
    activity_tables,
    concept_table,
    score_table,
    threshold_table,
    top_table,
    unit_table,
)
from netdissect.scoring import IoUCounts
from netdissect.scoring.iqr.level_histograms import LevelHistograms


@takes_options
def dissect(
    model: Network | torch.nn.Module | str,
    data: ConceptData | str | Path,
    *,
    layers: Sequence[str] | str | None = None,
    preprocessing: object = None,
    config: DissectConfig | None = None,
    execution: Execution | None = None,
    out: str | Path | None = None,
    progress: ShowProgress = None,
    **options: Unpack[DissectOptions],
) -> Result:
    """Score every unit of the chosen layers against every concept.

    Parameters
    ----------
    model
        A `Network`, a ``torch.nn.Module``, or a name, as `netdissect.load_network` takes it.
    data
        A data set in Broden's layout, or its folder. One that is open is restricted further as the options say.
    layers
        Names or globs of the layers, or ``auto``, ``blocks`` or ``mlp``: see `netdissect.models.find_structure`. They
        replace those of `config`.
    preprocessing
        Of a module: how its input is made from an image, as `netdissect.Preprocessing.read` takes it. None: its own.
    config
        Options as an object; single options below override its fields. None: the protocol of the paper, on all images.
    execution
        Caches, stores and threads as an object; single options override its fields. They do not change the counts.
    out
        Run folder. A finished run of the same inputs is returned unchanged, an interrupted one is resumed,
        and one of other inputs is refused. None: nothing is kept.
    progress
        None or True: plan, progress bars and counts on standard error, if it is a terminal or a notebook. False: none.
        A function: it is called with the stage and the number of images done and in all.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config, execution = read_options(dissect, options, ConfigObjects(layers, config, execution))
    network = as_network(model, preprocessing)
    run = None if out is None else run_folder(out)
    with locks_spared(), shown(progress) as display:
        source = open_inputs(network, data, config, execution, run, display)
        return _dissect(source, run, display, show_counts=display is not progress)


def _dissect(source: DissectionInputs, run: Path | None, display: Display, *, show_counts: bool) -> Result:
    """Dissect opened inputs, and show the counts of each layer as soon as they are known."""
    info = describe(source, display)
    finished = None if run is None else finished_run(run, info)
    if finished is not None:
        return finished
    with source.network.prepared(torch_device(source.config.device)):
        info = with_determinism_check(source, info)
        with WorkDir(run, bitwise_fingerprint(info), source.execution.checkpoint_seconds, log=RunLog(run)) as work:
            if run is not None:
                write_config(run, source)
            info, table, parts = _carry_out(source, info, work, display)
            parts = _shown_counts(info, table, parts, display) if show_counts else parts
            if run is None:
                return Result(info, table, {layer.info.name: _in_memory(layer) for layer in parts})
            # Layer by layer: the tables of ten wide layers would not fit into memory together.
            write_result(run, info, table, parts)
            work.remove()
    clear_leftovers(run)
    return open_written(run)


def open_inputs(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    execution: Execution,
    run: Path | None = None,
    progress: Progress | None = None,
) -> DissectionInputs:
    """Open the data set, resolve the layers, fit their bases and choose device, batch size and backend.

    The returned configuration describes the choice of images, also if the data set was opened before, and names each
    layer, the device, the batch size and the backend, which is PyTorch where another one cannot take the network. Those
    that are ``auto`` are the ones with which a run in the folder `run`
    began, if there is one. Bases that were fitted for a run in this folder are used again.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = with_earlier_choices(run, config)
    device, assumed = choose_device(config.device, network), network.assumed(config.assumed)
    config = config.model_copy(update={"device": device, "assumed": assumed, "bases": absolute_bases(config.bases)})
    counts_on_device(config, execution.engine)
    data, config = sample_images(concepts, config, execution.cache_folder)
    layers = asked_layers(network, config)
    _check_fields(layers, config)
    names = exact_patterns(layer.name for layer in layers)
    config = config.model_copy(update={"layers": names, "all_matching": False})
    source = DissectionInputs.of(network, data, layers, config, execution)
    if config.batch_size == "auto":
        source = source.with_config(batch_size=find_batch_size(source))
    check_samples(source)
    source = with_bases(source, run, progress)
    check_counts(source.layers, source.data, source.config, execution.memory_mb)
    return with_backend(source)


def asked_layers(network: Network, config: DissectConfig) -> tuple[Layer, ...]:
    """Return the layers of a network that a configuration asks for, without bases of them.

    Raises
    ------
    LayerError
        If there are no such layers; see `netdissect.models.resolve_layers`.
    """
    return resolve_layers(network, config.layers, network.assumed(config.assumed), all_matching=config.all_matching)


def finished_run(run: Path, info: RunInfo) -> Result | None:
    """Return the finished run in a folder; None if there is none.

    Raises
    ------
    ResultError
        If it is a run of other inputs, or damaged.
    """
    if not (run / RUN_FILE).exists():
        return None
    finished = load_result(run)
    refuse_other(run, run_identity(finished.info), run_identity(info))
    clear_leftovers(run)
    return finished


def _carry_out(
    source: DissectionInputs, info: RunInfo, work: WorkDir, progress: Progress
) -> tuple[RunInfo, pl.DataFrame, Iterator[LayerResult]]:
    starts = batch_starts(len(source.data), source.config.images_per_batch)
    two_pass = TwoPass(source, make_run_plan(source, work, progress), work, progress, starts, source.data.stamp())
    with work.timed("layout check"):
        info = with_layout_checks(source, info, work.path, work.log)
    with explained_out_of_memory(source), work.timed("thresholds"):
        collectors = two_pass.threshold_pass()
    threshold_results = {name: collector.threshold_result() for name, collector in collectors.items()}
    levels = iqr_levels(collectors) if source.config.statistics.iqr else {}
    for collector in collectors.values():
        collector.release()
    with explained_out_of_memory(source), work.timed("counting"):
        counted = two_pass.count_pass(collectors, threshold_results)
    permutation_nulls: dict[str, PermutationNull] = {}
    if source.config.permutations:
        with work.timed("permutations"):
            permutation_nulls = PermutationTest.of(two_pass, counted).run()
    extra_metrics: dict[str, ExtraMetrics] = {}
    if source.config.statistics.extra_metrics:
        with work.timed("extra metrics"):
            extra_metrics = measure_extra_metrics(two_pass, collectors, threshold_results, counted)
    between_levels: dict[str, LevelHistograms] = {}
    if levels:
        with work.timed(STAGE):
            between_levels = count_between_levels(two_pass, collectors, levels, counted.concept_totals)
    two_pass.refuse_changed(info.data.digest)
    info = info.model_copy(update={"seconds": work.seconds} | fdr_limits(permutation_nulls))
    null_tables = {name: NullTables.of(null, info.min_iou(name)) for name, null in permutation_nulls.items()}
    layer_counts = [
        LayerCounts(
            source.config, source.data, counted.with_top_maps(name, threshold_results[name]), counts,
            counted.concept_totals,
            counted.per_image.of_layer(name), counted.masks.of_layer(name), counted.range_maps[name],
            info.min_iou(name),
            null_tables.get(name), extra_metrics.get(name), between_levels.get(name), collectors[name].moments,
            work.file(name, "tables"),
        )
        for name, counts in counted.counts.items()
    ]  # fmt: skip
    return info, *result_tables(info, layer_counts)


def fdr_limits(permutation_nulls: Mapping[str, PermutationNull]) -> dict[str, Any]:
    """Return the FDR limits of the run and of each layer, because null distributions differ between layers."""
    if not permutation_nulls:
        return {}
    of_layers = {name: fdr_limit([null]) for name, null in permutation_nulls.items()}
    return {"fdr_limit": fdr_limit(list(permutation_nulls.values())), "fdr_limits": of_layers}


def make_run_plan(source: DissectionInputs, work: WorkDir, progress: Progress | None = None) -> CostPlan:
    """Return the plan of a dissection; a resumed run keeps the choices with which it began."""
    network, data, layers, config, execution = source[:5]
    plan = make_plan(layers, network.preprocessing.size, len(data), config, execution, work.path)
    plan = work.resume_plan(plan)
    kept = f"{_masks_text(source, plan)}{_images_text(source)}"
    counts = count_text(layers, data, config, execution.memory_mb)
    text = f"{plan}{counts}{_backend_text(source)}{_permutations_text(source, plan)}{kept}"
    show_line(progress, text)
    work.log.event("planned", plan=text, network=network.name, concepts=str(data.root), threads=torch.get_num_threads())
    if source.backend_check is not None:
        work.log.event("checked backend", backend=config.backend, **source.backend_check.model_dump())
    return plan


def _backend_text(source: DissectionInputs) -> str:
    """Return what runs the forward pass, as a part of the plan's line; empty for PyTorch in float32."""
    text = backend_text(source.config.backend, source.config.precision, source.backend_check)
    return f"; forward pass by {text}" if text else ""


def _permutations_text(source: DissectionInputs, plan: CostPlan) -> str:
    """Return what the permutation test of the plan takes, as the rest of its line."""
    asked = source.config.permutations
    if not asked:
        return ""
    cost = PermutationCost.expected(plan.layers, source.data, source.config)
    permutations = cost.auto_permutations if asked == "auto" else asked
    return f"; then {cost.text(permutations, source.execution.memory_mb * MEGABYTE)}"


def _masks_text(source: DissectionInputs, plan: CostPlan) -> str:
    """Return the size of the masks that the run keeps, as the end of the plan's line."""
    if not source.config.statistics.keep_masks:
        return ""
    runs = PermutationCost.expected(plan.layers, source.data, source.config).runs
    return f"; keeps its masks, about {size_text(KEPT_RUN_BYTES * runs)}"


def _images_text(source: DissectionInputs) -> str:
    """Return what the image cache holds and will take, as the end of the plan's line."""
    if source.images.packed is None or source.images.packed.refused:
        return ""
    size = source.images.bytes_to_pack
    return f"; packs its images, about {size_text(size)}" if size else "; reads packed images"


def _shown_counts(
    info: RunInfo, concepts: pl.DataFrame, layers: Iterable[LayerResult], display: Display
) -> Iterator[LayerResult]:
    for layer in layers:
        name = layer.info.name
        result = Result(info, concepts, {name: layer})
        sentence = count_sentence(measured_count(result, name, info.config.protocol.quantiles[0]))
        display.line(f"{name}: {sentence}")
        yield layer


def result_tables(info: RunInfo, layers: Sequence[LayerCounts]) -> tuple[pl.DataFrame, Iterator[LayerResult]]:
    """Make the table of concepts, and the tables of one layer after the other."""
    return concept_table(layers[0].data, layers[0].concept_totals, info.config.protocol), _layer_results(info, layers)


def _layer_results(info: RunInfo, layers: Iterable[LayerCounts]) -> Iterator[LayerResult]:
    waiting = deque(layers)
    # What only tables are made of, such as histograms and maps, is not in memory while these are written.
    del layers
    for layer in info.layers:
        return_freed_memory()
        tables = _layer_result(info, layer, waiting.popleft())
        return_freed_memory()
        yield tables


def _layer_result(info: RunInfo, layer: LayerInfo, layer_counts: LayerCounts) -> LayerResult:
    """Make the tables of a layer, of which that of all scores is made when it is read."""
    quantiles = info.config.protocol.quantiles
    data, totals, counts = layer_counts.data, layer_counts.concept_totals, layer_counts.counts.first(len(quantiles))
    result, of_concepts = layer_counts.threshold_result, IoUCounts(counts.intersection, counts.activation)
    thresholds = threshold_table(result.thresholds[: len(quantiles)], result.max_activation[:, 0], quantiles)
    return LayerResult(
        info=layer,
        thresholds=thresholds,
        units=unit_table(data, totals, counts, thresholds),
        lazy_scores=score_table(data, totals, of_concepts, layer_counts.config.protocol),
        top=top_table(result.image_index, result.max_activation, data),
        top_maps=cast(Maps, result.maps),  # to be written, those of a sparse layer need not be an array
        statistics=layer_statistics(layer_counts)
        | activity_tables(counts)
        | activation_tables(result, layer_counts.range_maps, data, layer_counts.config.protocol),
    )


def _in_memory(layer: LayerResult) -> LayerResult:
    """Read all tables into memory: their files are removed with the work folder."""
    statistics = {name: table.collect().lazy() for name, table in layer.statistics.items()}
    return replace(layer, lazy_scores=layer.scores.lazy(), statistics=statistics, top_maps=layer.top_maps[:])


def _check_fields(layers: Sequence[Layer], config: DissectConfig) -> None:
    """Refuse layers whose protocol needs a receptive field that could not be traced."""
    if not config.protocol.anchor.startswith("receptive-field") or config.assumed.receptive_field is not None:
        return
    missing = [layer.name for layer in layers if layer.field is None and layer.grid is not None]
    if missing:
        raise LayerError(
            f"no receptive field could be traced for {', '.join(missing)}, and the protocol {config.protocol.name!r} "
            "anchors cells at the centers of receptive fields. If you know it, give it: --receptive-field "
            "OFFSET,SIZE,STEP in input pixels, or half-pixel if the cells cover the image evenly (in Python "
            "DissectConfig(assumed=Assumed(receptive_field=...))); the protocols lite and pnas2020 need none."
        )
