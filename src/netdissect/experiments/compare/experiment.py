"""Compare networks or finished runs by what they detect: architectures, training sets, tasks.

Source: Bau et al. 2017 :cite:p:`bau2017network`, sections 3.4 and 3.5.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, OneOrMore, Progress, Rule, one_or_more
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import (
    OVER_IMAGES,
    TOTAL,
    count_rows,
    decide_over_images,
    difference_over_images,
    measured_text,
    null_note,
    over_images_table,
    read_over_images,
)
from netdissect.experiments.inputs import (
    LAST_CONVOLUTION,
    Data,
    Inputs,
    at_quantile,
    caching,
    one_or_several,
    with_layers,
)
from netdissect.experiments.outcome import (
    NO_TABLES,
    Conclusion,
    ConclusionOutcome,
    ExperimentResult,
    concluded,
    join_sentences,
)
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment, run_folder
from netdissect.models import Network
from netdissect.result import PairedDifference, Result, difference_sentence, load_result
from netdissect.result.published_counts import read_counts
from netdissect.training.scene_net import preprocessing, random_network
from netdissect.training.workspace import Workspace

QUESTION = "Which networks detect more concepts, and of which kinds?"
PAPER = (
    "ResNet has more unique detectors than VGG, GoogLeNet and AlexNet, in this order; training on Places gives more "
    "than on ImageNet, supervision more than self-supervision, and random weights next to none."
)


class CompareConfig(Config):
    """What of several runs is compared."""

    dissect: Annotated[DissectConfig | None, Option(panel="Dissection", without=("layers", "quantiles"))] = Field(
        None, description="For networks that are still to be dissected."
    )
    layers: Annotated[tuple[str, ...], OneOrMore, Option("--layer")] = Field(
        (), description="One for all, or one for each, in the same order. Default: the last of each run; repeats."
    )
    quantile: float | None = Field(
        None, gt=0, lt=1, description="At which is compared; None: the first of the first run."
    )
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")
    published: Path | None = Field(None, description="CSV table of published counts.")
    expected: Annotated[tuple[str, ...], OneOrMore] = Field(
        (), description="Names in the expected order, most detectors first; without it there is no outcome. Repeats."
    )


class CompareInputs(Inputs):
    """Inputs of the command."""

    sources: Annotated[
        tuple[Any, ...], BeforeValidator(one_or_several), Option(argument=True, metavar="RUN_OR_NETWORK...")
    ] = Field((), description="Run folders, or networks to dissect.")
    data: Data = Field(None, description="Data set in Broden's layout, for networks.")
    config: CompareConfig


def compare(
    sources: Sequence[Network | Result | str | Path],
    config: CompareConfig,
    *,
    out: str | Path,
    concepts: ConceptData | str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Compare the detectors of several networks or runs.

    Parameters
    ----------
    sources
        Networks, which are dissected first; finished runs or their folders.
    config
        What is compared.
    out
        Runs of networks are kept in ``OUT/runs``.
    concepts
        Data set for networks.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: network, source (``run`` or ``published``), layer, quantile (null if it is not known), rule, category,
        units, detectors, unique_detectors; in the order of `sources`, published networks last.

        `extra_tables["over_images"]`: each expected difference by the bootstrap over images, if the runs have one.

    Raises
    ------
    ConfigError
        If networks come without a data set, there are too many layers, or runs lack the quantile.
    ResultError
        If a run or the published table cannot be read, or runs whose order is expected saw different images.
    """
    published = None if config.published is None else read_counts(config.published)
    opened = [_opened(source) for source in one_or_more(sources)]
    if not opened and config.published is None:
        raise ConfigError("There is nothing to compare. Expected networks, run folders or a table of published counts.")
    if len(config.layers) > 1 and len(config.layers) != len(opened):
        raise ConfigError(
            f"{len(config.layers)} layers were named for {len(opened)} networks. Expected one for all, or one for each."
        )
    _check_expected(opened, config)
    if config.dissect is not None and concepts is not None:
        concepts, dissect_config = sample_images(concepts, config.dissect)
        config = config.model_copy(update={"dissect": dissect_config})
    seconds: dict[str, float] = {}
    with timed("dissect", seconds):
        results = [_result(source, config, index, Path(out), concepts, progress) for index, source in enumerate(opened)]
    quantile = config.quantile or (results[0].info.config.protocol.quantiles[0] if results else None)
    chosen = _chosen(results, config, quantile)
    tables = [
        count_rows(result, [layer], network=name, source="run").filter(quantile=quantile)
        for name, (result, layer) in chosen.items()
    ]
    if published is not None:
        own = [name for counts in tables[:1] for name in counts["category"].unique(maintain_order=True)]
        tables.append(_aligned(published, own))
    table = pl.concat(tables, how="diagonal_relaxed")
    context = {
        "quantile": quantile,
        "runs": {name: result.info.network.model_dump(mode="json") for name, (result, _) in chosen.items()},
    }
    extra = {OVER_IMAGES: _over_images(chosen, config, quantile)}
    return concluded("compare", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def _opened(source: Network | Result | str | Path) -> Network | Result:
    return source if isinstance(source, Network | Result) else load_result(source)


def _check_expected(sources: Sequence[Network | Result], config: CompareConfig) -> None:
    """Refuse names and quantiles that there will not be, before a network is dissected."""
    names = [source.name if isinstance(source, Network) else source.info.network.name for source in sources]
    for expected in config.expected:
        if not any(expected == name or expected.startswith(f"{name}, ") for name in names):
            raise _no_network(expected, names)
    if config.quantile is None:
        return
    for source in sources:
        if isinstance(source, Result):
            _check_quantile(source.info.network.name, source.info.config, config.quantile)
        elif config.dissect is not None:
            _check_quantile(source.name, config.dissect, config.quantile)


def _no_network(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"There is no network {name!r} among {', '.join(known)}. Name them as they are called.")


def _check_quantile(name: str, config: DissectConfig, quantile: float | None) -> None:
    if quantile not in config.protocol.quantiles:
        known = ", ".join(map(str, config.protocol.quantiles))
        raise ConfigError(
            f"The run of {name} has no quantile {quantile}; it has {known}. Name one that all runs have, or repeat the "
            "run."
        )


def _result(
    source: Network | Result,
    config: CompareConfig,
    index: int,
    out: Path,
    concepts: ConceptData | str | Path | None,
    progress: Progress | None,
) -> Result:
    """Dissect a network, or open a run."""
    if isinstance(source, Result):
        return source
    if config.dissect is None or concepts is None:
        raise ConfigError(
            f"Network {source.name!r} is to be dissected, but there is no data set or no protocol. Expected concepts "
            "and config.dissect for networks; finished runs need neither."
        )
    layers = config.layers or config.dissect.layers
    layer = layers[index] if len(layers) > 1 else layers[0]
    return dissect(
        source, concepts, config=config.dissect, execution=caching(out), layers=[layer],
        out=run_folder(out, index, source), progress=progress,
    )  # fmt: skip


def _chosen(results: Sequence[Result], config: CompareConfig, quantile: float | None) -> dict[str, tuple[Result, str]]:
    """Name the runs, each by its network or by network and layer, and choose the layer of each."""
    picked: list[tuple[Result, str]] = []
    for index, result in enumerate(results):
        _check_quantile(result.info.network.name, result.info.config, quantile)
        named = config.layers[index if len(config.layers) > 1 else 0] if config.layers else list(result.layers)[-1]
        layer = named if named in result.layers or config.dissect is None else list(result.layers)[-1]
        picked.append((result, result.layer(layer).info.name))
    names = [result.info.network.name for result, _ in picked]
    chosen: dict[str, tuple[Result, str]] = {}
    for name, (result, layer) in zip(names, picked, strict=True):
        unique = name if names.count(name) == 1 else f"{name}, {layer}"
        while unique in chosen:
            unique += "'"
        chosen[unique] = (result, layer)
    return chosen


def _aligned(published: pl.DataFrame, own: Sequence[str]) -> pl.DataFrame:
    """Put the categories of a published table in the order of the runs, so that colors have one order."""
    order = {name: index for index, name in enumerate([*own, *published["category"].unique(maintain_order=True)])}
    positions = {name: position for position, name in enumerate(published["network"].unique(maintain_order=True))}
    ranked = published.with_columns(
        pl.lit("published").alias("source"),
        pl.lit(None, pl.Float64).alias("quantile"),
        pl.col("category").replace_strict(order, return_dtype=pl.Int64).alias("order"),
        pl.col("network").replace_strict(positions, return_dtype=pl.Int64).alias("position"),
    )
    return ranked.sort("position", "order").drop("position", "order")


def _over_images(chosen: dict[str, tuple[Result, str]], config: CompareConfig, quantile: float | None) -> pl.DataFrame:
    """Compare each network with the next that is expected to detect less, over the replicates of their images."""
    differences: dict[tuple[str, str], PairedDifference | None] = {}
    for more, fewer in pairwise(config.expected):
        for name in (more, fewer):
            if name not in chosen:
                raise _no_network(name, chosen)
        (left, before), (right, after) = chosen[fewer], chosen[more]
        differences[fewer, more] = difference_over_images(
            left, right, [(before, after)], quantile=quantile or 0.0, rule=config.rule
        )
    return over_images_table(differences)


def conclude(
    table: pl.DataFrame, config: CompareConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Conclude whether the networks have the expected order.

    Parameters
    ----------
    table
        Of `compare`.
    config
        Of the experiment.
    extra
        A difference that is not in ``over_images`` is inconclusive.
    """
    totals = table.filter(category=TOTAL, rule=config.rule)
    ranked = totals.sort("unique_detectors", descending=True, maintain_order=True)
    order = "; ".join(f"{row['network']} {measured_text(row)}" for row in ranked.iter_rows(named=True))
    finding = join_sentences(f"Unique detectors, most first: {order}.", null_note(ranked))
    if not config.expected:
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome="not compared")
    texts, outcomes = [], set[ConclusionOutcome]()
    for more, fewer in pairwise(config.expected):
        difference = read_over_images(extra, fewer, more)
        text = "the runs have no bootstrap over images." if difference is None else difference_sentence(difference)
        texts.append(f"{more} against {fewer}, over the same images: {text}")
        outcomes.add(decide_over_images(difference, "more"))
    worst: ConclusionOutcome = next(
        (kind for kind in ("disagrees", "inconclusive") if kind in outcomes),
        "agrees",
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=" ".join([finding, *texts]), outcome=worst)


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Compare the workspace's network with shorter trainings, and with random weights."""
    base = workspace.scale.train_config
    shorter = {f"{steps} steps": workspace.train_config(steps=steps) for steps in (base.steps, max(1, base.steps // 6))}
    networks = [workspace.train_longer().network("trained")]
    networks += [workspace.trained(config).network(name) for name, config in shorter.items()]
    networks.append(Network("random weights", random_network(base), preprocessing(base.size)))
    config = CompareConfig(dissect=workspace.dissect_config(base.layers[-1:]), expected=("trained", "random weights"))
    out, progress = workspace.folder("compare"), workspace.progress
    return compare(networks, config, out=out, concepts=workspace.data, progress=progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Compare the last convolutions of all networks."""
    layers = job.config.layers
    config, out = CompareConfig(dissect=job.config.dissect_config(layers), layers=layers), job.out / "compare"
    return ScheduledExperiment(
        tuple(job.dissection(network, [job.config.layer_of(index)]) for index, network in enumerate(job.networks)),
        lambda: compare(job.networks, config, out=out, concepts=job.concepts, progress=job.progress),
    )


def _is_run(source: Network | Result | str | Path) -> bool:
    return isinstance(source, Result | Path) or (isinstance(source, str) and Path(source).is_dir())


def _run(inputs: CompareInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    config, concepts = inputs.config, inputs.data
    sources = [source if _is_run(source) else inputs.open(source) for source in inputs.sources]
    if all(map(_is_run, sources)):
        config = config.model_copy(update={"dissect": None})
    elif concepts is None or not config.layers:
        raise ConfigError(
            "networks are to be dissected: name a data set with --concepts, and --layer. Runs need neither."
        )
    elif config.dissect is not None:
        dissection = at_quantile(config.dissect, config.layers, config.quantile)
        config = config.model_copy(update={"dissect": dissection})
    return compare(sources, config, out=out, concepts=concepts, progress=progress)


COMPARE = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=CompareConfig,
    inputs=CompareInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(OVER_IMAGES,),
    defaults=with_layers(LAST_CONVOLUTION),
)
