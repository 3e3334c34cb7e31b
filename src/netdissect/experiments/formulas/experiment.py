"""How much formulas explain over the depth of a network, and of a control such as random weights.

Source: Mu and Andreas 2020: formulas of concepts have larger IoUs than single concepts. They measured both on the
images on which the formulas were chosen; here they are measured on others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress
from netdissect.config_fields import Config, Option
from netdissect.dissect import dissect
from netdissect.dissect.compose.compose import compose
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.experiments.effect_sizes import Interval, decide, difference_of_means, mean_interval
from netdissect.experiments.inputs import (
    CONVOLUTIONS,
    DATA,
    Data,
    NetworkInputs,
    caching,
    convolutions,
    named_layers,
    with_layers,
)
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment, run_folder
from netdissect.models import Network
from netdissect.result.formulas.formula_result import Formulas
from netdissect.training.scene_net import preprocessing, random_network
from netdissect.training.workspace import Workspace

QUESTION = (
    "Do formulas of concepts say more about units than single concepts, on images that had no part in the choice?"
)
PAPER = (
    "Does not ask this. Mu and Andreas (2020): the IoU of the best formula rises with its length, on the images that "
    "chose it."
)
UNITS = "units"
NO_OPTIONS = (
    "layers", "units", "quantile", "holdout", "restriction", "bootstrap", "stats_seed", "permutations", "workers",
)  # fmt: skip
"""Fields of `ComposeConfig` whose options would have the names of those of the dissection."""


class FormulasConfig(Config):
    """What is measured of the formulas of one network or two."""

    dissect: Annotated[DissectConfig, Option(panel="Dissection")] = Field(
        description="The dissection, which keeps its masks; the order in which its layers run is the depth."
    )
    compose: Annotated[ComposeConfig, Option(panel="Formulas", without=NO_OPTIONS)] = Field(
        default_factory=ComposeConfig, description="Which formulas are searched."
    )
    null_permutations: int = Field(
        20, ge=0, description="Permutations of the images in which the search is repeated for 32 units of each layer."
    )


class FormulasInputs(NetworkInputs):
    """Inputs of the command."""

    data: Data = Field(description=DATA)
    control: Annotated[Any, Option(metavar="NETWORK")] = Field(
        None, description="A network with the same layers to compare with, such as NETWORK@none, with random weights."
    )
    config: FormulasConfig


def formulas(
    networks: Sequence[Network],
    concepts: ConceptData | str | Path,
    config: FormulasConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Find the formulas of all units of one network or two, and conclude what they gain on held-out images.

    Parameters
    ----------
    networks
        One, and a control if it is to be compared.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Layers and formulas.
    out
        Runs and formulas are kept in ``OUT/runs``.
    progress
        Receives every stage.

    Returns
    -------
    ExperimentResult
        `table`: network, layer (null: all), units, iou, concept_iou (means over units on all images), gain, gain_low
        and gain_high (mean over units on held-out images, and its interval), established (units whose gain is),
        null_gain.

        `extra_tables["units"]`: network, layer, unit, formula, iou, concept, concept_iou, selected_length, gain,
        q_value, gain_established.
    """
    data, dissect_config = sample_images(concepts, named_layers(networks[0], config.dissect))
    statistics = dissect_config.statistics.model_copy(update={"keep_masks": True})
    dissect_config = dissect_config.model_copy(update={"statistics": statistics})
    config = config.model_copy(update={"dissect": dissect_config})
    search = config.compose.model_copy(update={"permutations": config.null_permutations})
    found, seconds = dict[str, Formulas](), dict[str, float]()
    for index, network in enumerate(networks):
        with timed("dissect", seconds):
            folder = run_folder(Path(out), index, network)
            run = dissect(network, data, config=dissect_config, execution=caching(out), out=folder, progress=progress)
        with timed("compose", seconds):
            name = network.name if network.name not in found else f"{network.name}, control"
            found[name] = compose(run, config=search, data_root=data, execution=caching(out), progress=progress)
    table = pl.concat([_layer_rows(name, each) for name, each in found.items()])
    units = pl.concat([_unit_rows(name, each) for name, each in found.items()])
    context = {"networks": list(found), "concepts": str(data.root)}
    return concluded("formulas", config, table, conclude, context=context, extra_tables={UNITS: units}, seconds=seconds)


def _layer_rows(name: str, found: Formulas) -> pl.DataFrame:
    """Return one row for each layer, and one for all."""
    gains = found.gains().filter(pl.col("length").is_null()).drop("length")
    layers = found.by_layer().select("layer", "iou", "concept_iou", "null_gain")
    rows = gains.join(layers, on="layer", how="left", maintain_order="left")
    known = found.units.filter(pl.col("gain").is_not_null())
    whole = mean_interval(known["gain"].to_list())
    null = found.permuted.select((pl.col("iou") - pl.col("concept_iou")).mean()).item()
    total = {
        "layer": None, "units": known.height, "gain": whole.mean, "gain_low": whole.low, "gain_high": whole.high,
        "established": int(known["gain_established"].sum() or 0), "iou": known["iou"].mean(),
        "concept_iou": known["concept_iou"].mean(), "null_gain": null,
    }  # fmt: skip
    return pl.concat([rows, pl.DataFrame([total], schema=rows.schema)]).insert_column(0, pl.lit(name).alias("network"))


def _unit_rows(name: str, found: Formulas) -> pl.DataFrame:
    columns = (
        "layer", "unit", "formula", "iou", "concept", "concept_iou", "selected_length", "gain", "q_value",
        "gain_established",
    )  # fmt: skip
    return found.units.select(pl.lit(name).alias("network"), *columns).filter(pl.col("gain").is_not_null())


def conclude(
    table: pl.DataFrame,
    config: FormulasConfig,  # noqa: ARG001 - all experiments conclude alike
    *,
    extra: Mapping[str, pl.DataFrame] = NO_TABLES,
) -> Conclusion:
    """Conclude whether formulas gain on held-out images in the first network, and how that differs from the control.

    Parameters
    ----------
    table
        Of `formulas`.
    config
        Of the experiment.
    extra
        ``units``: for the difference of two networks.
    """
    totals = table.filter(pl.col("layer").is_null())
    own = totals.row(0, named=True)
    interval = Interval(own["gain"], own["gain_low"], own["gain_high"], own["units"])
    texts = [_sentence(row) for row in totals.iter_rows(named=True)]
    if totals.height > 1 and UNITS in extra:
        gains = [extra[UNITS].filter(network=name)["gain"].to_list() for name in totals["network"]]
        texts.append(f"Mean gain less that of the control: {difference_of_means(gains[1], gains[0])}, over units.")
    return Conclusion(question=QUESTION, paper=PAPER, finding=join_sentences(*texts), outcome=decide(interval, "more"))


def _sentence(row: Mapping[str, Any]) -> str:
    interval = Interval(row["gain"], row["gain_low"], row["gain_high"], row["units"])
    null = "" if row["null_gain"] is None else f" ({row['null_gain']:.3g} under the null)"
    return (
        f"{row['network']}: on the images that chose them formulas have a mean IoU of {row['iou']:.3g}, single "
        f"concepts {row['concept_iou']:.3g}, a difference of {row['iou'] - row['concept_iou']:.3g}{null}; on held-out "
        f"images they gain {interval}, established for {row['established']} of {row['units']} units."
    )


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Compare the workspace's network with random weights."""
    base, trained = workspace.scale.train_config, workspace.train_longer()
    networks = [trained.network("trained"), Network("random weights", random_network(base), preprocessing(base.size))]
    config = FormulasConfig(dissect=workspace.dissect_config(base.layers, replicates=0), null_permutations=5)
    out, progress = workspace.folder("formulas"), workspace.progress
    return formulas(networks, workspace.data, config, out=out, progress=progress)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Find the formulas of all convolutions of the first network."""
    names, out = convolutions(job.first), job.out / "formulas"
    config = FormulasConfig(dissect=job.config.dissect_config(names))
    return ScheduledExperiment(
        (job.dissection(job.first, names),),
        lambda: formulas([job.first], job.concepts, config, out=out, progress=job.progress),
    )


def _run(inputs: FormulasInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    networks = [inputs.load(), *([] if inputs.control is None else [inputs.open(inputs.control)])]
    return formulas(networks, inputs.data, inputs.config, out=out, progress=progress)


FORMULAS = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=FormulasConfig,
    inputs=FormulasInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=(UNITS,),
    defaults=with_layers(CONVOLUTIONS),
)
