"""`netdissect run`, and `netdissect estimate`, which predicts the cost of a run."""

import logging
import shlex
import shutil
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from platformdirs import user_cache_path
from rich import filesize

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.generators.segmenter_options import (
    LabelsOption,
    MinScoreOption,
    TypedSegmenter,
    WordsOption,
    typed_segmenter,
)
from netdissect.cli.networks import TrustOption
from netdissect.cli.process_tuning import freeze_gc
from netdissect.cli_options import Typed, with_options
from netdissect.config import REPORTED_QUANTILES, SMALL_DATA, RunRequest
from netdissect.config_fields import Values
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.models import Generator
    from netdissect.segmenters.sample_dataset import SampleOptions

DEFAULTS = {"execution": {"cache_folder": user_cache_path("netdissect")}}
"""The default that the command line adds: the library reads no environment."""

DEVICE_FILES, GPUS = Path("/dev"), ("nvidia[0-9]*", "kfd")
"""Where Linux shows GPUs of NVIDIA and AMD."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE_OR_RUN",
        help="Repeat the run of this config.json or run folder; other options override it.",
    ),
]
OutOption = typer.Option("--out", help="Run folder; an interrupted run there resumes.")
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Dissect one of N shards only; see 'netdissect merge-shards'."),
]
SamplesOption = Annotated[
    int | None,
    typer.Option("--samples", min=1, help="Of a generator: dissect it on this many of its samples, of --sample-seed."),
]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        "--segmenter", metavar="SPEC", help="Of a generator: labels the pixels of its samples; see concepts segment."
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="local|ADDRESS", help="Run on a Ray cluster, or one on this machine."),
]


@with_options(RunRequest, DEFAULTS)
def run(
    typed: Typed[RunRequest],
    out: Annotated[Path, OutOption],
    config: ConfigOption = None,
    trust_network: TrustOption = False,
    shard: ShardOption = None,
    ray: RayOption = None,
    samples: SamplesOption = None,
    segmenter: SegmenterOption = None,
    labels: LabelsOption = None,
    words: WordsOption = None,
    min_score: MinScoreOption = None,
) -> None:
    """Dissect layers of a network on a data set: label their units and count the detectors."""
    one = _one_shard(shard, ray)
    named = typed_segmenter(segmenter, labels, words, min_score)
    _check_samples(samples, segmenter)
    if samples is not None:
        typed = _with_samples(typed, out)
    request = _request(typed, config, trust_network=trust_network)
    _compile_early(request)
    network = _load(request)
    if samples is not None and named is not None:
        _write_samples(network, request, samples, named)
    options: dict[str, Any] = {"out": out, "execution": request.execution}
    if one is not None:
        _dissect_shard(one, network, request, options)
        return
    with progress_bars() as progress:
        options["progress"] = progress
        if ray is None:
            result = netdissect.dissect(network, str(request.concepts), config=request.config, **options)
        else:
            result = netdissect.dissect_on_ray(
                network, str(request.concepts), config=request.config, address=ray, **options
            )
    _show_result(request, result, out)


@with_options(RunRequest, DEFAULTS)
def estimate(
    typed: Typed[RunRequest],
    out: Annotated[Path | None, OutOption] = None,
    config: ConfigOption = None,
    trust_network: TrustOption = False,
    shard: ShardOption = None,
    ray: RayOption = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Images that are dissected and timed.")] = 64,
    samples: SamplesOption = None,
    segmenter: SegmenterOption = None,
    labels: LabelsOption = None,
    words: WordsOption = None,
    min_score: MinScoreOption = None,
) -> None:
    """Predict passes, time, memory and disk of the run with the same options, from a few of its images."""
    from netdissect.dissect.choices.backend_choice import backend_text  # loads torch

    one = _one_shard(shard, ray)
    named = typed_segmenter(segmenter, labels, words, min_score)
    _check_samples(samples, segmenter)
    if samples is not None:
        typed = _with_samples(typed, out or Path())
    logging.getLogger("netdissect").setLevel(logging.WARNING)  # hides the logs of the small dissections
    request = _request(typed, config, trust_network=trust_network)
    cost = _cost(request, sample, samples, named)
    stages = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in cost.seconds.items())
    screen, shares, cached = console(), [], []
    backend = backend_text(cost.backend, request.config.precision, cost.backend_check)
    forward = [f"  forward {backend}"] if backend else []
    if request.execution.image_cache:
        folder = request.execution.cache_folder
        cached = [f"  images  {filesize.decimal(cost.cache_bytes)} more, packed in {_where(folder)}"]
    if one is not None:
        shares = [f"  shard   {_duration(cost.total_seconds / one.count)} each, if {one.count} run at once"]
    if ray is not None:
        shares = ["  ray     the time is shared by the workers of the cluster, each with this memory"]
    sparse = [f"  sparse  {cost.plan.sparse_text}"] if cost.plan.sparse_text else []
    for line in (
        f"Measured in small runs of {cost.sample} images together, predicted for all {cost.images:,}:",
        f"  passes  {cost.plan.passes} (activation cache: {cost.plan.store})",
        *sparse,
        *forward,
        f"  time    {_duration(cost.total_seconds)} ({stages})",
        f"  memory  {filesize.decimal(cost.memory_bytes)}, network and libraries included",
        f"  disk    {filesize.decimal(cost.disk_bytes)} at most, in {_where(out)}",
        *cached,
        *shares,
    ):
        screen.print(line, highlight=False, soft_wrap=True)


def _cost(
    request: RunRequest, sample: int, samples: int | None, named: TypedSegmenter | None
) -> "netdissect.CostEstimate":
    network = _load(request)
    if samples is None or named is None:
        return netdissect.estimate(
            network, str(request.concepts), config=request.config, execution=request.execution, sample=sample
        )
    from netdissect.segmenters.sample_cost import estimate_on_samples

    options = _sample_options(request, samples)
    return estimate_on_samples(_generator(network), named.load(), options, request.config, request.execution, sample)


def _one_shard(shard: str | None, ray: str | None) -> "netdissect.Shard | None":
    """Return the shard that was typed.

    Raises
    ------
    ConfigError
        If it is none, or Ray was asked for as well.
    """
    if shard is not None and ray is not None:
        raise ConfigError("--ray makes its own shards. Use either --ray or --shard.")
    return None if shard is None else netdissect.Shard.parse(shard)


def _check_samples(samples: int | None, segmenter: str | None) -> None:
    if (samples is None) != (segmenter is None):
        given, missing = ("--samples", "--segmenter SPEC") if segmenter is None else ("--segmenter", "--samples N")
        raise ConfigError(f"{given} was given without {missing}. Expected both, for a generator, or neither.")


def _with_samples(typed: Typed[RunRequest], out: Path) -> Typed[RunRequest]:
    """Name the data set of the samples, by default in the run folder."""
    return replace(typed, given={"concepts": str(out / "samples"), **typed.given})


def _write_samples(network: "netdissect.Network", request: RunRequest, samples: int, named: TypedSegmenter) -> None:
    """Draw the samples of a generator and label them, unless the data set is there already."""
    from netdissect.dissect.run_dissection import asked_layers
    from netdissect.segmenters.sample_dataset import segment_samples

    generator, options = _generator(network), _sample_options(request, samples)
    asked_layers(generator, request.config)  # refused before anything is drawn
    with progress_bars() as progress:
        segment_samples(generator, named.load(), str(request.concepts), options, progress=progress)


def _generator(network: "netdissect.Network") -> "Generator":
    """Return a network that is a generator.

    Raises
    ------
    ConfigError
        If it is none.
    """
    from netdissect.models import Generator

    if not isinstance(network, Generator):
        raise ConfigError(
            f"--samples was given, but {network.name} is no generator: it takes images. Expected --concepts DATA, or a "
            "generator: python:package.module:factory, whose factory returns (module, latent sampler)."
        )
    return network


def _sample_options(request: RunRequest, samples: int) -> "SampleOptions":
    from netdissect.segmenters.sample_dataset import SampleOptions

    return SampleOptions(samples=samples, sample_seed=request.config.sample_seed, device=request.config.device)


def _where(out: Path | None) -> str:
    """Return a folder, by default the run folder, with the space that is free there."""
    if out is None:
        return "the run folder"
    existing = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.is_dir())
    return f"{out}, where {filesize.decimal(shutil.disk_usage(existing).free)} are free"


def _request(typed: Typed[RunRequest], config: Path | None, *, trust_network: bool) -> RunRequest:
    """Return the typed options, over those of a file that is repeated."""
    return typed.model(None if config is None else _repeated(typed, config, trust_network=trust_network))


def _repeated(typed: Typed[RunRequest], path: Path, *, trust_network: bool) -> Values:
    from netdissect.dissect.reload import why_not_loaded
    from netdissect.result.run_config import read_config

    saved = read_config(path)
    if "network" not in typed.given or "spec" not in typed.given["network"]:
        if saved.network is None:
            raise ConfigError(
                f"the network of {path} was made in Python and cannot be loaded. Expected one that "
                "'netdissect run' loaded; repeat this run from Python."
            )
        reason = why_not_loaded(saved.network, trust_network=trust_network)
        if reason is not None:
            raise ConfigError(
                f"{path}: {reason}. If you trust whoever made it, name the network yourself (netdissect run "
                f"{saved.network.spec} --config ...), or use --trust-network."
            )
    if saved.concepts is None and "concepts" not in typed.given:
        raise ConfigError(
            f"the images of {path} were chosen in Python and cannot be chosen again. Repeat this run "
            "from Python with the same ConceptData."
        )
    return saved.model_dump(exclude={"schema_version", "digest"})


def _compile_early(request: RunRequest) -> None:
    """Compile the loops of the run, if it is the first, while the network and the data are loaded."""
    with freeze_gc():
        from netdissect.dissect.default_loops import default_loops
        from netdissect.process.early_compiler import compile_early

        statistics, permutes = request.config.statistics, bool(request.config.permutations)
        compile_early(default_loops(statistics, permutes=permutes, on_device=_counts_on_device(request)))


def _counts_on_device(request: RunRequest) -> bool:
    """Tell whether thresholds and counts will be taken in tensor code, as far as is known before torch is loaded."""
    device = request.config.device
    if device == "auto":
        device = "gpu" if any(any(DEVICE_FILES.glob(pattern)) for pattern in GPUS) else "cpu"
    return request.execution.engine == "tensor" or (request.execution.engine == "auto" and device != "cpu")


def _load(request: RunRequest) -> "netdissect.Network":
    if request.threads is not None:
        import torch

        torch.set_num_threads(request.threads)
    with freeze_gc():
        loaded = netdissect.load_network(**({} if request.network is None else request.network.model_dump()))
        import_module("netdissect.dissect.run_dissection")  # loads numba and polars, too
    return loaded


def _dissect_shard(
    one: "netdissect.Shard", network: "netdissect.Network", request: RunRequest, options: dict[str, Any]
) -> None:
    out = options["out"]
    with progress_bars() as progress:
        stage = netdissect.dissect_shard(
            network, str(request.concepts), config=request.config, shard=one, progress=progress, **options
        )
    messages = {
        "thresholds": f"Shard {one} has finished its threshold pass. When all {one.count} have: netdissect "
        f"merge-shards {out}; then repeat this command.",
        "counting": f"Shard {one} is finished. When all {one.count} are: netdissect merge-shards {out}",
    }
    console().print(messages[stage], soft_wrap=True)


def _show_result(request: RunRequest, result: "netdissect.Result", out: Path) -> None:
    from netdissect.result.schema import SMALL_DATA_ATTAINABLE

    screen = console()
    screen.print(netdissect.console_tables.summary(result), soft_wrap=True)
    first, second = REPORTED_QUANTILES
    if result.info.data.images < SMALL_DATA and max(request.config.protocol.quantiles) <= first:
        limit = min(result.info.min_iou(layer) for layer in result.layers)
        below = [(result.concepts[name] < limit).sum() for name in ("max_attainable_iou", SMALL_DATA_ATTAINABLE)]
        screen.print(
            f"{below[0]} of {len(result.concepts)} concepts cannot reach this IoU with any unit; with --quantile "
            f"{second:g}, {below[1]}.",
            highlight=False,
            soft_wrap=True,
        )
    screen.print(finished(out), soft_wrap=True, highlight=False)


def finished(run: Path) -> str:
    """Return where a finished run is, and what shows it."""
    name = shlex.quote(str(run))
    return f"More: netdissect show {name} --units; as a page: netdissect report {name}"


def _duration(seconds: float) -> str:
    """Return a time in seconds, or as h:mm:ss."""
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
