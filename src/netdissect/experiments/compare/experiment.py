"""Compare networks or finished runs by what they detect: architectures, training sets, tasks.

Source: Bau et al. 2017 :cite:p:`bau2017network`, sections 3.4 and 3.5.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, OneOrMore, Progress, Rule, one_or_more
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import (
    OVER_IMAGES,
    TOTAL,
    count_rows,
    difference_over_images,
    interval_over_images,
    over_images_table,
)
from netdissect.experiments.effect_sizes import Interval, decide
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.models import Network
from netdissect.result import Result, load_result
from netdissect.result.published_counts import read_counts
from netdissect.training.scene_net import preprocessing, random_network
from netdissect.training.workspace import Workspace

QUESTION = "Which networks detect more concepts, and of which kinds?"
PAPER = (
    "ResNet has more unique detectors than VGG, GoogLeNet and AlexNet, in this order; training on Places gives more "
    "than on ImageNet, supervision more than self-supervision, and random weights next to none."
)


class CompareConfig(BaseModel):
    """What of several runs is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dissect: DissectConfig | None = Field(None, description="For networks that are still to be dissected.")
    layers: Annotated[tuple[str, ...], OneOrMore, Option(hidden=True)] = Field(
        (), description="One for all, or one for each; empty: the last of each."
    )
    quantile: Annotated[float | None, Option(hidden=True)] = Field(
        None, gt=0, lt=1, description="None: the first of the first run."
    )
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")
    published: Path | None = Field(None, description="CSV of published counts to compare with.")
    expected: Annotated[tuple[str, ...], OneOrMore] = Field(
        (), description="Names in the order in which the paper found them, most detectors first; empty: not compared."
    )


def compare(
    sources: Sequence[Network | Result | str | Path],
    config: CompareConfig,
    *,
    out: str | Path,
    concepts: ConceptData | str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Put the detectors of several networks or runs beside each other.

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
        Told of every stage.

    Returns
    -------
    Outcome
        Its table: network, source (``run`` or ``published``), layer, quantile (null where it is not known), rule,
        category, units, detectors, unique; in the order of `sources`, published networks last. Beside it
        ``over_images``: each expected difference by the bootstrap over images, where the runs have one.

    Raises
    ------
    ConfigError
        If networks come without a data set, there are too many layers, or runs lack the quantile.
    ResultError
        If a run or the published table cannot be read, or runs whose order is expected saw different images.
    """
    sources = one_or_more(sources)
    if not sources and config.published is None:
        raise ConfigError("There is nothing to compare. Expected networks, run folders or a table of published counts.")
    if len(config.layers) > 1 and len(config.layers) != len(sources):
        raise ConfigError(
            f"{len(config.layers)} layers were named for {len(sources)} networks. Expected one for all, or one for "
            "each."
        )
    if config.dissect is not None and concepts is not None:
        concepts, measured = sample_images(concepts, config.dissect)
        config = config.model_copy(update={"dissect": measured})
    seconds: dict[str, float] = {}
    with timed("dissect", seconds):
        results = [
            _result(source, config, index, Path(out), concepts, progress) for index, source in enumerate(sources)
        ]
    quantile = config.quantile or (results[0].info.config.protocol.quantiles[0] if results else None)
    chosen = _chosen(results, config, quantile)
    parts = [
        count_rows(result, [layer], network=name, source="run").filter(quantile=quantile)
        for name, (result, layer) in chosen.items()
    ]
    if config.published:
        own = [name for part in parts[:1] for name in part["category"].unique(maintain_order=True)]
        parts.append(_aligned(read_counts(config.published), own))
    table = pl.concat(parts, how="diagonal_relaxed")
    asked = config.model_dump(mode="json") | {
        "quantile": quantile,
        "runs": {name: result.info.network.model_dump(mode="json") for name, (result, _) in chosen.items()},
    }
    further = {OVER_IMAGES: _over_images(chosen, config, quantile)}
    return ExperimentResult("compare", table, conclude(table, config, extra=further), asked, seconds, further)


def compare_synthetic(bench: Workspace) -> ExperimentResult:
    """Compare the bench's network with shorter trainings of its recipe, and with random weights."""
    recipe = bench.scale.recipe
    shorter = {f"{steps} steps": bench.recipe(steps=steps) for steps in (recipe.steps, max(1, recipe.steps // 6))}
    networks = [bench.trained_longer().network("trained")]
    networks += [bench.trained(short).network(name) for name, short in shorter.items()]
    networks.append(Network("random weights", random_network(recipe), preprocessing(recipe.size)))
    config = CompareConfig(dissect=bench.measured(recipe.layers[-1:]), expected=("trained", "random weights"))
    return compare(networks, config, out=bench.folder("compare"), concepts=bench.data, progress=bench.progress)


def run_folder(out: Path, index: int, network: Network) -> Path:
    """Return where the run of a network lies, below the folder of the experiment."""
    return out / "runs" / f"{index}-{re.sub(r'[^A-Za-z0-9]+', '-', network.name).strip('-')}"


def _result(
    source: Network | Result | str | Path,
    config: CompareConfig,
    index: int,
    out: Path,
    concepts: ConceptData | str | Path | None,
    progress: Progress | None,
) -> Result:
    """Dissect a network, or open a run."""
    if isinstance(source, Result):
        return source
    if not isinstance(source, Network):
        return load_result(source)
    if config.dissect is None or concepts is None:
        raise ConfigError(
            f"Network {source.name!r} is to be dissected, but there is no data set or no protocol. Expected concepts "
            "and config.dissect beside networks; finished runs need neither."
        )
    layers = config.layers or config.dissect.layers
    layer = layers[index] if len(layers) > 1 else layers[0]
    return dissect(
        source, concepts, config.dissect, layers=[layer], out=run_folder(out, index, source), progress=progress
    )


def _chosen(results: Sequence[Result], config: CompareConfig, quantile: float | None) -> dict[str, tuple[Result, str]]:
    """Name the runs, each by its network or by network and layer, and choose the layer of each."""
    picked: list[tuple[Result, str]] = []
    for index, result in enumerate(results):
        if quantile not in result.info.config.protocol.quantiles:
            known = ", ".join(map(str, result.info.config.protocol.quantiles))
            raise ConfigError(
                f"The run of {result.info.network.name} has no quantile {quantile}; it has {known}. Name one that all "
                "runs have, or repeat the run."
            )
        named = config.layers[index if len(config.layers) > 1 else 0] if config.layers else list(result.layers)[-1]
        layer = named if named in result.layers or config.dissect is None else list(result.layers)[-1]
        picked.append((result, result.layer(layer).info.name))
    names = [result.info.network.name for result, _ in picked]
    found: dict[str, tuple[Result, str]] = {}
    for name, (result, layer) in zip(names, picked, strict=True):
        unique = name if names.count(name) == 1 else f"{name}, {layer}"
        while unique in found:
            unique += "'"
        found[unique] = (result, layer)
    return found


def _aligned(published: pl.DataFrame, own: Sequence[str]) -> pl.DataFrame:
    """Put the categories of a published table in one's own order, so that colors follow each other equally."""
    order = {name: index for index, name in enumerate([*own, *published["category"].unique(maintain_order=True)])}
    places = {name: place for place, name in enumerate(published["network"].unique(maintain_order=True))}
    ranked = published.with_columns(
        pl.lit("published").alias("source"),
        pl.lit(None, pl.Float64).alias("quantile"),
        pl.col("category").replace_strict(order, return_dtype=pl.Int64).alias("order"),
        pl.col("network").replace_strict(places, return_dtype=pl.Int64).alias("place"),
    )
    return ranked.sort("place", "order").drop("place", "order")


def _over_images(chosen: dict[str, tuple[Result, str]], config: CompareConfig, quantile: float | None) -> pl.DataFrame:
    """Compare each network with the next that is expected to detect less, over the replicates of their images."""
    found: dict[tuple[str, str], Interval | None] = {}
    for more, fewer in pairwise(config.expected):
        for name in (more, fewer):
            if name not in chosen:
                raise ConfigError(
                    f"There is no network {name!r} among {', '.join(chosen)}. Name them as they are called."
                )
        (left, before), (right, after) = chosen[fewer], chosen[more]
        found[fewer, more] = difference_over_images(
            left, right, [(before, after)], quantile=quantile or 0.0, rule=config.rule
        )
    return over_images_table(found)


def conclude(table: pl.DataFrame, config: CompareConfig, *, extra: Mapping[str, pl.DataFrame] = {}) -> Conclusion:
    """Say whether the networks follow each other as expected.

    Parameters
    ----------
    table
        Of `compare`.
    config
        Of the experiment.
    extra
        Tables beside it; a difference that is not in ``over_images`` is not established.
    """
    totals = table.filter(category=TOTAL, rule=config.rule)
    ranked = totals.sort("unique_detectors", descending=True, maintain_order=True)
    order = "; ".join(f"{row['network']} {row['unique_detectors']}" for row in ranked.iter_rows(named=True))
    finding = f"Unique detectors, most first: {order}."
    if not config.expected:
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, agreement="not compared")
    told, agreements = [], set[ConclusionOutcome]()
    for more, fewer in pairwise(config.expected):
        text, agreement = _difference(interval_over_images(extra, fewer, more))
        told.append(f"{more} against {fewer}: {text}.")
        agreements.add(agreement)
    worst: ConclusionOutcome = next(
        (kind for kind in ("disagrees", "not established") if kind in agreements),
        "agrees",
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=" ".join([finding, *told]), agreement=worst)


def _difference(interval: Interval | None) -> tuple[str, ConclusionOutcome]:
    """Say what a difference over the replicates of images decides; without these nothing is established."""
    if interval is None:
        return "the runs have no bootstrap over images", "not established"
    text = f"{interval.mean:.3g} more ({interval.low:.3g} to {interval.high:.3g} by the bootstrap over images)"
    return text, decide(interval, "more")
