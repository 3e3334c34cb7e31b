"""`netdissect run`, the main job, and `netdissect estimate`, which says beforehand what it will take."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from platformdirs import user_cache_path
from pydantic import ValidationError
from rich import filesize

import netdissect
from netdissect.cli import collector
from netdissect.cli.console import console
from netdissect.cli.networks import (
    FieldOption,
    InterpolationOption,
    LayoutOption,
    MeanOption,
    NetworkArgument,
    SizeOption,
    StateDictOption,
    StdOption,
    TrustOption,
    WeightsOption,
    WeightsSeedOption,
    assumed,
)
from netdissect.cli.options import with_options_of
from netdissect.cli.parse import split_names, split_numbers
from netdissect.cli.progress import progress_bars
from netdissect.cli.repeat import ConfigOption
from netdissect.config import (
    PROTOCOLS,
    REPORTED_QUANTILES,
    SENSITIVITY_QUANTILES,
    SMALL_DATA,
    DissectConfig,
    Execution,
    Protocol,
    ProtocolName,
    StatisticsConfig,
)
from netdissect.errors import ConfigError

Model = TypeVar("Model", Protocol, StatisticsConfig, DissectConfig, Execution)

PROTOCOL_PANEL = "Single choices of the protocol"
STATISTICS_PANEL = "Statistics"


@dataclass(frozen=True)
class RunRequest:
    """What `run` and `plan` were asked for."""

    network: "netdissect.Network"
    concepts: Path
    config: DissectConfig
    execution: Execution


def job(
    network: NetworkArgument,
    concepts: Annotated[Path, typer.Option("--concepts", help="Data set in Broden's layout.")],
    layer: Annotated[list[str], typer.Option("--layer", help="Layer name or glob; repeats.")],
    weights: WeightsOption = None,
    state_dict: StateDictOption = None,
    weights_seed: WeightsSeedOption = 0,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    assume_layout: LayoutOption = None,
    receptive_field: FieldOption = None,
    protocol: Annotated[ProtocolName, typer.Option(help="Whose definition of the numbers.")] = "paper",
    quantile: Annotated[
        list[float] | None, typer.Option("--quantile", help="Fraction of activations above the threshold; repeats.")
    ] = None,
    min_iou: Annotated[
        str, typer.Option("--min-iou", help="IoU from which on a unit is a detector; fdr: 5 % false discoveries.")
    ] = "0.04",
    categories: Annotated[list[str] | None, typer.Option("--categories", help="Read only these; repeats.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="train or val; default: both.")] = None,
    max_images: Annotated[int | None, typer.Option("--max-images", help="Draw this many images at random.")] = None,
    sample_seed: Annotated[int, typer.Option("--sample-seed", min=0, help="Seed of the draw of --max-images.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 16,
    device: Annotated[str, typer.Option("--device")] = "cpu",
    precision: Annotated[str, typer.Option("--precision", help="float32 or bfloat16.")] = "float32",
    backend: Annotated[str, typer.Option("--backend", help="eager, or compile: torch.compile.")] = "eager",
    layout_check: Annotated[
        bool,
        typer.Option(
            "--layout-check/--no-layout-check",
            help="See from spots on two images that cells lie where they are said to.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Dissect layers that this check refuses.")] = False,
    allow_nondeterministic: Annotated[
        bool,
        typer.Option(
            "--allow-nondeterministic", help="Accept a network that gives something else each time or in another batch."
        ),
    ] = False,
    top_images: Annotated[int, typer.Option("--top-images", help="Images kept for each unit.")] = 25,
    activation_cache: Annotated[
        str, typer.Option("--activation-cache", help="auto, dense, sparse or none (a second pass).")
    ] = "auto",
    workers: Annotated[int, typer.Option("--workers", help="Decoding threads.")] = 2,
    label_cache: Annotated[
        str | None,
        typer.Option(
            "--label-cache",
            help="Folder of packed label maps and of the data's digest, or none. Default: the user's cache folder.",
        ),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", help="Replicates for 95 % intervals; 0: none.", rich_help_panel=STATISTICS_PANEL),
    ] = StatisticsConfig().bootstrap,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="Score on this share of the images, such as 0.5, the labels chosen on the others.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Count detectors at the quantiles " + ", ".join(map(str, SENSITIVITY_QUANTILES)) + ", too.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = False,
    extra_metrics: Annotated[
        bool,
        typer.Option(
            "--extra-metrics",
            help="Measure AUROC, average precision and more of leading concepts: as costly as the run, or half of it.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = False,
    permutations: Annotated[
        str,
        typer.Option(
            "--permutations",
            help="Repetitions of the permutation test, or auto: as many as fit into 20 ms an image.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = "0",
    null: Annotated[
        str,
        typer.Option(
            "--null",
            help="images: masks are paired with labels of other images. locations: labels are shifted.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = StatisticsConfig().null,
    stats_seed: Annotated[
        int,
        typer.Option(
            "--stats-seed",
            help="Of replicates and halves: runs of one seed on the same images are paired.",
            rich_help_panel=STATISTICS_PANEL,
        ),
    ] = 0,
    threshold: Annotated[str | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
    threshold_grid: Annotated[int | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
    anchor: Annotated[str | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
    restriction: Annotated[str | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
    duplicates: Annotated[str | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
    segmentation_size: Annotated[int | None, typer.Option(rich_help_panel=PROTOCOL_PANEL)] = None,
) -> RunRequest:
    """Check the options, and load the network."""
    changes = {
        "quantiles": tuple(quantile) if quantile else None,
        "threshold": threshold,
        "threshold_grid": threshold_grid,
        "anchor": anchor,
        "restriction": restriction,
        "duplicates": duplicates,
        "segmentation_size": segmentation_size,
    }
    statistics = _checked(
        StatisticsConfig,
        bootstrap=bootstrap,
        holdout=holdout,
        sensitivity=SENSITIVITY_QUANTILES if sensitivity else (),
        extra_metrics=extra_metrics,
        permutations=_number_or_word(permutations),
        null=null,
        stats_seed=stats_seed,
    )
    config = _checked(
        DissectConfig,
        layers=tuple(layer),
        protocol=_protocol(protocol, changes),
        min_iou=_number_or_word(min_iou),
        categories=split_names(categories),
        split=split,
        max_images=max_images,
        sample_seed=sample_seed,
        batch_size=batch_size,
        device=device,
        precision=precision,
        backend=backend,
        layout_check=layout_check,
        force=force,
        allow_nondeterministic=allow_nondeterministic,
        top_images=top_images,
        statistics=statistics,
        assumed=assumed(assume_layout, receptive_field),
    )
    folder = None if label_cache == "none" else label_cache or user_cache_path("netdissect")
    execution = _checked(Execution, activation_cache=activation_cache, workers=workers, label_cache=folder)
    means, deviations = split_numbers("--mean", mean), split_numbers("--std", std)
    with collector.left_alone():
        loaded = netdissect.load_network(
            network, weights=weights, state_dict=state_dict, weights_seed=weights_seed, size=size, mean=means,
            std=deviations, interpolation=interpolation,
        )  # fmt: skip
        import_module("netdissect.dissect.run_dissection")  # with compiled loops and tables, which are libraries, too
    return RunRequest(loaded, concepts, config, execution)


@with_options_of(job)
def run(
    asked: RunRequest,
    out: Annotated[Path, typer.Option("--out", help="Run folder; an interrupted run there goes on.")],
    config: ConfigOption = None,
    trust_network: TrustOption = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Look at one of N shards only; see 'netdissect merge-shards'."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="local|ADDRESS", help="Run on a Ray cluster, or one on this machine."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of torch; default: as it is.")
    ] = None,
) -> None:
    """Dissect layers of a network on a data set: label their units and count the detectors."""
    del config, trust_network  # the callback of the first has made defaults of it, and asked for the second
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if shard is not None:
        if ray is not None:
            raise ConfigError("--ray makes shards of its own, and --shard names one. Leave one of them out.")
        _look_at_shard(asked, shard, out)
        return
    with progress_bars() as progress:
        options: dict[str, Any] = {"out": out, "execution": asked.execution, "progress": progress}
        if ray is None:
            result = netdissect.dissect(asked.network, asked.concepts, asked.config, **options)
        else:
            result = netdissect.dissect_on_ray(asked.network, asked.concepts, asked.config, address=ray, **options)
    _show_result(asked, result, out)


def _look_at_shard(asked: RunRequest, shard: str, out: Path) -> None:
    one = netdissect.Shard.parse(shard)
    with progress_bars() as progress:
        stage = netdissect.dissect_shard(
            asked.network, asked.concepts, asked.config, one, out=out, execution=asked.execution, progress=progress
        )
    said = {
        "first": f"Shard {one} has looked once. When all {one.count} have: netdissect merge-shards {out}; then give "
        "this command once more.",
        "second": f"Shard {one} is finished. When all {one.count} are: netdissect merge-shards {out}",
    }
    console().print(said[stage], soft_wrap=True)


def _show_result(asked: RunRequest, result: "netdissect.Result", out: Path) -> None:
    from netdissect.result.schema import ATTAINABLE_BESIDE

    screen = console()
    screen.print(netdissect.console_tables.summary(result))
    first, beside = REPORTED_QUANTILES
    if result.info.data.images < SMALL_DATA and max(asked.config.protocol.quantiles) <= first:
        limit = min(result.info.min_iou(layer) for layer in result.layers)
        below = [(result.concepts[name] < limit).sum() for name in ("max_attainable_iou", ATTAINABLE_BESIDE)]
        screen.print(
            f"On {result.info.data.images:,} images {below[0]} of {len(result.concepts)} concepts cannot reach the "
            f"limit whatever the unit ('attainable' in the tables), and {below[1]} at the quantile {beside:g}: measure "
            f"both with --quantile {first:g} --quantile {beside:g}."
        )
    screen.print(
        f"The run is in {out}. See it: netdissect show {out}, or as a page: netdissect report {out}", soft_wrap=True
    )


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@with_options_of(job)
def estimate(
    asked: RunRequest,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Images that are dissected and timed.")] = 64,
) -> None:
    """Predict passes, time, memory and disk of a run with the same options, from a few of its images."""
    logging.getLogger("netdissect").setLevel(logging.WARNING)  # the plans of the small dissections would confuse
    found = netdissect.estimate(asked.network, asked.concepts, asked.config, execution=asked.execution, sample=sample)
    stages = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in found.seconds.items())
    screen = console()
    for line in (
        f"Measured on {found.sample} dissected images, expected of all {found.images:,}:",
        f"  passes  {found.plan.passes} (activation cache: {found.plan.store})",
        f"  time    {_duration(found.total_seconds)} ({stages})",
        f"  memory  {filesize.decimal(found.memory_bytes)}, network and libraries included",
        f"  disk    {filesize.decimal(found.disk_bytes)} at most, in the run folder",
    ):
        screen.print(line, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


def _protocol(name: ProtocolName, changes: dict[str, Any]) -> Protocol:
    """Return a named protocol, its name marked with every choice that was set alone."""
    changed = {
        key: value for key, value in changes.items() if value is not None and value != getattr(PROTOCOLS[name], key)
    }
    label = "+".join([name, *changed])
    return _checked(Protocol, **(PROTOCOLS[name].model_dump() | changed | {"name": label}))


def _checked(model: type[Model], **values: Any) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ConfigError(
            f"{option} cannot be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}. "
            "See 'netdissect run --help' for what it takes."
        ) from error
