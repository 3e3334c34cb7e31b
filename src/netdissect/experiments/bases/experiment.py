"""Ask whether the units of layers are special, or another basis shows more concepts.

    dissection of layers in several bases -> evaluation of the bases -> one table, differences -> conclude

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.2.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress, Rule
from netdissect.config_fields import Config, Option, Values
from netdissect.counted import counted
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.evaluation.dictionaries.evaluate_bases import evaluate_bases
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.evaluation.open_vocabulary.embedding_source import Embeddings, EmbeddingSource
from netdissect.experiments.bases.basis_tables import (
    CONCEPTS,
    ROTATIONS,
    BasisDifference,
    Sign,
    basis_differences,
    basis_table,
    concept_scores,
    differences_over_images,
    standings,
    wider_than,
)
from netdissect.experiments.counts import OVER_IMAGES, measured_text, null_note
from netdissect.experiments.inputs import DATA, Data, NetworkInputs, caching
from netdissect.experiments.outcome import (
    NO_TABLES,
    Conclusion,
    ConclusionOutcome,
    ExperimentResult,
    concluded,
    join_sentences,
)
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.models import Network
from netdissect.models.dictionaries.basis_spec import NEURONS
from netdissect.models.surgery.rotations import rotated_name, with_rotations
from netdissect.training.sparse_autoencoders.sae_config import SaeConfig
from netdissect.training.sparse_autoencoders.train_sae import train_sae
from netdissect.training.workspace import Workspace

QUESTION = "Are the units of a layer special, or does another basis of it show more concepts?"
PAPER = (
    "The units of AlexNet's conv5 have more unique detectors than its rotations: the axes are special. Other bases "
    "were not measured."
)
LATENTS_OF_UNITS = 4
"""Latents for each unit of a layer, at synthetic scale."""
BASES = (NEURONS, "pca", "ica", "kmeans", "rotation:0")
DEFAULTS: Values = {"config": {"dissect": {"batch_size": 32, "bases": BASES}}}


class BasesConfig(Config):
    """Which layers are dissected in which bases, and how these are measured."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="The dissection; its hold-out, without one half of the images, chooses labels and probes."
    )
    rule: Rule = Field("per-category", description="Published rule by which unique detectors are counted.")
    cells: int = Field(200_000, gt=0, description="Cells of each layer at most, an equal number of each image.")


class BasesInputs(NetworkInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    embeddings: Annotated[str | None, Option("--embeddings", metavar="FILE|SPEC")] = Field(
        None,
        description=(
            "Embeddings of the images by another network, for monosemanticity: IMAGES.npy, network:NETWORK#LAYER, "
            "transformers:NAME_OR_DIR, python:package.module:factory, or the .safetensors file of a two-tower network. "
            "None: it is left out."
        ),
    )
    config: BasesConfig


def compare_bases(
    network: Network,
    concepts: ConceptData | str | Path,
    config: BasesConfig,
    *,
    embeddings: Embeddings | None = None,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect layers in several bases, measure the bases by the same protocol, and compare them with the units.

    Parameters
    ----------
    network
        Any.
    concepts
        A data set in Broden's layout, or its folder.
    config
        The layers and their bases; the units are always measured.
    embeddings
        Of the images, by another network; see `netdissect.evaluate_bases`.
    out
        The run is kept in ``OUT/runs/bases``; an interrupted evaluation resumes in ``OUT/work``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: see `netdissect.experiments.bases.basis_tables.basis_table`. `extra_tables`: `over_images`, differences
        of unique detectors between bases of a layer, and `concepts`, with layer, basis, concept, category,
        average_precision.
    """
    data, asked = sample_images(concepts, config.dissect)
    if embeddings is not None:
        EmbeddingSource(embeddings).check_images(network, data)
    statistics = asked.statistics.model_copy(update={"holdout": asked.statistics.holdout_share})
    every = tuple(dict.fromkeys((NEURONS, *asked.bases)))
    asked = asked.model_copy(update={"bases": every, "statistics": statistics})
    seconds, execution, out = dict[str, float](), caching(out), Path(out)
    with timed("dissect", seconds):
        run = out / "runs" / "bases"
        result = dissect(network, data, config=asked, execution=execution, out=run, progress=progress)
    with timed("evaluate", seconds):
        found = evaluate_bases(
            result, embeddings=embeddings, work=out / "work",
            config=EvaluateBasesConfig(cells=config.cells, equal_units=wider_than(result)),
            network=network, data_root=data, execution=execution, progress=progress,
        )  # fmt: skip
    shutil.rmtree(out / "work")
    extra = {OVER_IMAGES: differences_over_images(result, config.rule), CONCEPTS: concept_scores(result, found)}
    context = {
        "network": result.info.network.model_dump(mode="json"),
        "concepts": result.info.data.root,
        "quantile": asked.protocol.quantiles[0],
    }
    table = basis_table(result, found, config.rule)
    return concluded("bases", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def conclude(
    table: pl.DataFrame,
    config: BasesConfig,  # noqa: ARG001 - all experiments conclude alike
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,
) -> Conclusion:
    """Conclude whether some basis does better than the units, in unique detectors and in average precision.

    Parameters
    ----------
    table
        Of `compare_bases`.
    config
        Of the experiment.
    extra
        ``over_images`` and ``concepts``: without them nothing is decided.
    """
    found = basis_differences(table, extra)
    layers = table["layer"].unique(maintain_order=True)
    texts = [f"{layer}, unique detectors: {_bases_text(table.filter(layer=layer))}." for layer in layers]
    more, higher = leaders(found, "detectors_sign"), leaders(found, "precision_sign")
    texts += [
        f"More unique detectors beyond the null than the units and rotations of their layer: {_listed(more)}.",
        f"A higher average precision than both, at an equal number of units: {_listed(higher)}.",
        standings_text(found),
        null_note(table),
    ]
    return Conclusion(question=QUESTION, paper=PAPER, finding=join_sentences(*texts), outcome=outcome_of(found))


def leaders(found: Iterable[BasisDifference], sign: Sign) -> list[str]:
    """Return the bases, as ``LAYER@BASIS``, that are above the units of their layer, and above its rotations if any.

    Parameters
    ----------
    found
        All differences.
    sign
        Of which measure.
    """
    signs = dict[str, list[int]]()
    for each in found:
        if each.after != ROTATIONS:
            signs.setdefault(f"{each.layer}@{each.after}", []).append(getattr(each, sign))
    return [name for name, of_basis in signs.items() if min(of_basis) > 0]


def standings_text(found: Iterable[BasisDifference]) -> str:
    """Write in how many layers each basis is above the units and below them; empty: there is no other basis.

    Parameters
    ----------
    found
        Differences of any number of layers and networks.
    """
    listed = "; ".join(
        f"{each.basis} {each.more} and {each.fewer}, {each.higher} and {each.lower} of {counted(each.layers, 'layers')}"
        for each in standings(found)
    )
    return listed and (
        "Layers in which a basis has more and fewer unique detectors than the units, a higher and a lower average "
        f"precision: {listed}."
    )


def outcome_of(found: Sequence[BasisDifference]) -> ConclusionOutcome:
    """Return ``disagrees`` if a basis is better than the units, and ``agrees`` if all are worse, by both measures.

    Parameters
    ----------
    found
        Differences of any number of layers and networks.
    """
    if set(leaders(found, "detectors_sign")) & set(leaders(found, "precision_sign")):
        return "disagrees"
    signs = [(each.detectors_sign, each.precision_sign) for each in found if each.before == NEURONS]
    return "agrees" if signs and set(signs) == {(-1, -1)} else "inconclusive"


def _bases_text(rows: pl.DataFrame) -> str:
    return "; ".join(_basis_text(row) for row in rows.iter_rows(named=True))


def _basis_text(row: Mapping[str, Any]) -> str:
    precision = "no mAP" if row["map"] is None else f"mAP {row['map']:.3f}"
    equal = row["map_equal"] is not None and row["map_equal"] != row["map"]
    of_as_many = f" ({row['map_equal']:.3f} of as many units as the layer has)" if equal else ""
    return f"{row['basis']} {measured_text(row)}, {precision}{of_as_many}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Compare bases of every other convolution of the workspace's network; its two-tower network embeds the images."""
    trained, out = workspace.train_longer(), workspace.folder("bases")
    layers, network = trained.train_config.layers[::2], trained.network()
    rotations = tuple(f"rotation:{seed}" for seed in range(workspace.scale.rotations))
    latents = tuple(
        f"{layer}@sae:{_latents(workspace, network, layer, units, out)}"
        for layer, units in zip(layers, trained.train_config.units[::2], strict=True)
    )
    bases = (*BASES[:-1], "nmf", *rotations, *latents)  # activations are those behind rectifiers
    config = BasesConfig(dissect=workspace.dissect_config(layers).model_copy(update={"bases": bases}))
    return compare_bases(
        network, workspace.data, config, embeddings=workspace.two_tower(), out=out, progress=workspace.progress
    )


def _latents(workspace: Workspace, network: Network, layer: str, units: int, out: Path) -> Path:
    """Train a sparse autoencoder on the images that are dissected; return its file, or that of an earlier call."""
    path = out / "latents" / layer / f"{LATENTS_OF_UNITS}-times.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    config = SaeConfig(latents=LATENTS_OF_UNITS * units, k=max(2, units // 8), cells=100_000)
    return train_sae(network, layer, workspace.data, path, config, progress=workspace.progress).path


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Compare bases of the last convolution of the first network."""
    dissection = job.config.dissect_config([job.layer]).model_copy(update={"bases": BASES})
    seeds = range(len(BASES) - 1)
    rotated = with_rotations(job.first, job.layer, seeds)  # as wide as the bases are
    dissected = job.dissection(rotated, (job.layer, *(rotated_name(job.layer, seed) for seed in seeds)))
    measured = Cost("bases are fitted and measured", 0, 2 * len(job.data) * job.forward_seconds(job.first))
    config, out = BasesConfig(dissect=dissection), job.out / "bases"
    return ScheduledExperiment(
        (dissected, measured),
        lambda: compare_bases(job.first, job.concepts, config, out=out, progress=job.progress),
    )


def _run(inputs: BasesInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    return compare_bases(
        inputs.load(), inputs.data, inputs.config, embeddings=inputs.embeddings, out=out, progress=progress
    )


BASES_OF_LAYERS = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=BasesConfig,
    inputs=BasesInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(OVER_IMAGES, CONCEPTS),
    defaults=DEFAULTS,
)
