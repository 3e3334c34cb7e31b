"""Ask whether concepts lie in single units, or in directions of several.

    one pass over cells -> vectors of every concept, chosen on half of the images -> IoU on the other half -> conclude
    --tcav N: gradients of a classifier on the other half -> which classes depend on each concept

Sources: Fong and Vedaldi 2018 :cite:p:`fong2018net2vec`; TCAV, Kim et al. 2018 :cite:p:`kim2018tcav`.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress
from netdissect.config_fields import Config, Option
from netdissect.counted import counted
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.run_dissection import open_inputs
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.evaluation.dictionaries.labeled_cells import (
    CellFiles,
    CellRequest,
    names_made_of,
    network_layers,
    read_cells,
)
from netdissect.evaluation.dictionaries.measure import encode_cells
from netdissect.experiments.concept_vectors.class_tests import OutputClasses, tcav_table
from netdissect.experiments.concept_vectors.layer_vectors import METHODS, OF_SEVERAL_UNITS, UNIT, concept_rows
from netdissect.experiments.concept_vectors.tcav import SIGNIFICANT, TcavConfig
from netdissect.experiments.effect_sizes import Interval, decide, mean_interval
from netdissect.experiments.inputs import BATCH_SIZE, DATA, ClassifierInputs, Data, caching
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.models import Network
from netdissect.training.workspace import Workspace

QUESTION = "Does a concept lie in one unit, or in a direction of several?"
PAPER = (
    "Fong and Vedaldi (2018): combinations of units segment concepts better than the best single unit, in every layer "
    "of AlexNet that was tried."
)
CONCEPTS, TCAV = "concepts", "tcav"
BEST = "best of several"
"""The vector or mask of several units that is best on the selection half."""


class ConceptVectorsConfig(Config):
    """Which layers are read, and of how many cells."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="Layers, images and protocol; hold-out says which images are held out."
    )
    cells: int = Field(200_000, gt=0, description="Cells of each layer at most, an equal number of each image.")
    tcav: Annotated[TcavConfig, Option(panel="Classes that depend on concepts")] = Field(
        default_factory=TcavConfig, description="Which classes depend on each concept."
    )


class ConceptVectorsInputs(ClassifierInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    config: ConceptVectorsConfig


def concept_vectors(
    network: Network,
    concepts: ConceptData | str | Path,
    config: ConceptVectorsConfig,
    *,
    out: str | Path,
    class_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Find vectors of every concept in layers and their bases, and compare them with the best single units.

    Parameters
    ----------
    network
        Any; bases of its layers, those that the configuration asks for, too, are read as layers.
    concepts
        A data set in Broden's layout, or its folder.
    config
        The layers.
    out
        An interrupted pass resumes in ``OUT/work``.
    class_names
        Of the outputs of a classifier, in order, for TCAV; None: their indices.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: layer, method, concepts, iou, iou_ci_low, iou_ci_high (mean over concepts on held-out cells, with
        Student's interval), unit_share (mean IoU of the best units over it). `extra_tables`: `concepts`, with layer,
        method, concept, category, unit, selection_iou, heldout_iou; and with TCAV `tcav`, a row for each layer of the
        network, class and concept; see `netdissect.experiments.concept_vectors.tcav`.
    """
    seconds, work, tests = dict[str, float](), Path(out) / "work", config.tcav
    tested = tests.check()
    source = open_inputs(network, concepts, config.dissect, caching(out), progress=progress)
    classes = OutputClasses.of(network, network_layers(source), tests, class_names) if tested else None
    with timed("cells", seconds):
        files = read_cells(source, CellRequest(config.cells, config.dissect.statistics.stats_seed), work, progress)
    with timed("vectors", seconds):
        extra = {CONCEPTS: _concept_table(source, files, config.dissect.protocol.quantiles[0], progress)}
    if classes is not None:
        with timed("tcav", seconds):
            extra[TCAV] = tcav_table(source, files, classes, tests, work, progress)
    shutil.rmtree(work)
    context = {"network": network.name, "concepts": str(source.data.root)}
    table = layer_table(extra[CONCEPTS])
    return concluded("concept-vectors", config, table, conclude, context=context, extra_tables=extra, seconds=seconds)


def _concept_table(
    source: DissectionInputs, files: CellFiles, quantile: float, progress: Progress | None
) -> pl.DataFrame:
    """Return the rows of all layers and bases of them."""
    frames = []
    for made_of in network_layers(source):
        cells, labels = files.cells(made_of.name), files.concepts(made_of.name)
        for name in names_made_of(source, made_of.name):
            codes = encode_cells(source.network.bases.get(name), cells)
            rows = concept_rows(codes, labels, source.data, quantile, progress)
            frames.append(rows.select(pl.lit(name).alias("layer"), pl.all()))
    found = pl.concat(frames)
    if found.is_empty():
        raise ConfigError(
            f"no concept of {source.data.root} has cells in both halves of the images. Expected a data set in which "
            "concepts cover more than half of the pixels of some cells."
        )
    return found


def with_best(found: pl.DataFrame) -> pl.DataFrame:
    """Add, for each layer and concept, the best method of several units: its choice is that of the selection half."""
    several = found.filter(pl.col("method").is_in(OF_SEVERAL_UNITS))
    best = several.sort("selection_iou", descending=True, maintain_order=True).unique(
        ["layer", "concept", "category"], keep="first", maintain_order=True
    )
    return pl.concat([found, best.with_columns(pl.lit(BEST).alias("method"))])


def layer_table(found: pl.DataFrame) -> pl.DataFrame:
    """Return the mean IoU of each layer and method; see `concept_vectors`."""
    rows, every = [], with_best(found)
    for layer in found["layer"].unique(maintain_order=True):
        of_layer = every.filter(layer=layer)
        means = {
            method: mean_interval(of_layer.filter(method=method)["heldout_iou"].to_list())
            for method in (*METHODS, BEST)
        }
        for method, interval in means.items():
            finite = interval.number > 1
            rows.append(
                {"layer": layer, "method": method, "concepts": interval.number, "iou": interval.mean}
                | {"iou_ci_low": interval.low if finite else None, "iou_ci_high": interval.high if finite else None}
                | {"unit_share": means[UNIT].mean / interval.mean if interval.mean > 0 else None}
            )
    return pl.DataFrame(
        rows, schema_overrides={"iou_ci_low": pl.Float64, "iou_ci_high": pl.Float64, "unit_share": pl.Float64}
    )


def gains(found: pl.DataFrame) -> list[float]:
    """Return, for each concept, the mean over layers of the held-out IoU of several units less that of the best one."""
    every = with_best(found).filter(pl.col("method").is_in([UNIT, BEST]))
    wide = every.pivot(on="method", index=["layer", "concept", "category"], values="heldout_iou")
    gain = (pl.col(BEST) - pl.col(UNIT)).mean()
    return wide.group_by("concept", "category", maintain_order=True).agg(gain)[BEST].to_list()


def conclude(
    table: pl.DataFrame,
    config: ConceptVectorsConfig,  # noqa: ARG001 - all experiments conclude alike
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,
) -> Conclusion:
    """Conclude whether several units segment concepts better than the best one, over all layers.

    Parameters
    ----------
    table
        Of `concept_vectors`.
    config
        Of the experiment.
    extra
        ``concepts``: without it nothing is decided. ``tcav`` adds a sentence.
    """
    shares = "; ".join(
        f"{row['layer']} {row['unit_share']:.0%}" if row["unit_share"] is not None else f"{row['layer']} no IoU"
        for row in table.filter(method=BEST).iter_rows(named=True)
    )
    if CONCEPTS not in extra:
        text = f"Share of the IoU that the best unit holds: {shares}."
        return Conclusion(question=QUESTION, paper=PAPER, finding=text, outcome="inconclusive")
    gain: Interval = mean_interval(gains(extra[CONCEPTS]))
    text = join_sentences(
        f"Of the IoU that the best combination of units has with a concept, the best unit holds: {shares} (means over "
        "concepts on held-out images).",
        f"The combination gains {gain}, the mean over concepts, each over all layers.",
        tcav_text(extra[TCAV]) if TCAV in extra else "",
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=text, outcome=decide(gain, "more"))


def tcav_text(tests: pl.DataFrame) -> str:
    """Return how many pairs of class and concept differ from random sets in each layer, and those of random images."""
    if tests.is_empty():
        return "TCAV: no concept has enough images."
    layers = tests["layer"].unique(maintain_order=True)
    parts = [f"{layer} {_tests_text(tests.filter(layer=layer))}" for layer in layers]
    null = _significant(tests, "null_adjusted_p_value")
    return join_sentences(
        "TCAV: pairs of class and concept that differ from random sets (t test, Bonferroni, p below "
        f"{SIGNIFICANT}): {'; '.join(parts)}.",
        f"Random images pass this test in {null} of {counted(len(tests), 'pairs')}: a class need not depend on a "
        "concept that passes."
        if null
        else "",
    )


def _tests_text(rows: pl.DataFrame) -> str:
    """Return how many pairs of a layer differ, and the one whose score is the most distant from random sets."""
    passed, null = (_significant(rows, name) for name in ("adjusted_p_value", "null_adjusted_p_value"))
    most = rows.sort((pl.col("tcav") - pl.col("random_tcav")).abs(), descending=True, maintain_order=True)
    pair = most.row(0, named=True)
    return (
        f"{passed} of {len(rows)}, and {null} with random images in place of the concept's; most distant: "
        f"{pair['concept']} for {pair['class']} with {pair['tcav']:.2f} (random sets {pair['random_tcav']:.2f}, random "
        f"images {pair['null_tcav']:.2f})"
    )


def _significant(tests: pl.DataFrame, p_values: str) -> int:
    return int((tests[p_values] < SIGNIFICANT).sum())


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Ask it of all convolutions of the workspace's network."""
    trained = workspace.train_longer()
    config = ConceptVectorsConfig(dissect=workspace.dissect_config(trained.train_config.layers))
    out, progress = workspace.folder("concept-vectors"), workspace.progress
    return concept_vectors(trained.network(), workspace.data, config, out=out, progress=progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Read the cells of the last convolution of the first network."""
    config = ConceptVectorsConfig(dissect=job.config.dissect_config([job.layer]))
    cost = Cost("vectors of all concepts of one layer", 0, len(job.data) * job.forward_seconds(job.first))
    return ScheduledExperiment(
        (cost,),
        lambda: concept_vectors(
            job.first, job.concepts, config, out=job.out / "concept-vectors", progress=job.progress
        ),
    )


def _run(inputs: ConceptVectorsInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    network = inputs.load()
    names = inputs.names(network) if inputs.config.tcav.check() else None
    return concept_vectors(network, inputs.data, inputs.config, out=out, class_names=names, progress=progress)


CONCEPT_VECTORS = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=ConceptVectorsConfig,
    inputs=ConceptVectorsInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(CONCEPTS, TCAV),
    defaults=BATCH_SIZE,
)
