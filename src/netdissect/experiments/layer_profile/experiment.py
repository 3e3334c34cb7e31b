"""Detectors by category over the depth of one network.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.3: color and texture at low layers, objects and
parts at higher ones.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Progress, Rule
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import LayerError
from netdissect.experiments.counts import TOTAL, count_rows
from netdissect.experiments.effect_sizes import Interval, decide, difference_of_means
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.models import Network, list_layers
from netdissect.training.workspace import Workspace

LOW = ("color", "texture")
HIGH = ("object", "part")
QUESTION = "Do the concepts that units detect change over the depth of the network?"
PAPER = "Color and texture concepts dominate at the lower layers, object and part concepts at the higher ones."


class LayerProfileConfig(BaseModel):
    """What is measured over the layers of one network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dissect: DissectConfig = Field(description="The dissection; its layers in the order of execution are the depth.")
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")


def convolutions(network: Network) -> tuple[str, ...]:
    """Return the names of all convolutions, in the order of execution.

    Raises
    ------
    LayerError
        If the network has none.
    """
    names = tuple(layer.name for layer in list_layers(network) if layer.type.startswith("Conv"))
    if not names:
        raise LayerError(
            f"Network {network.name!r} has no module whose class is called Conv..., so its depth cannot be told. "
            "Name its layers, in order; 'netdissect layers' lists them."
        )
    return names


def layer_profile(
    network: Network,
    concepts: ConceptData | str | Path,
    config: LayerProfileConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect the layers of a network and say how their concepts change with depth.

    Parameters
    ----------
    network
        Any.
    concepts
        A data set in Broden's layout, or its folder.
    config
        Layers and protocol; `convolutions` names all convolutions.
    out
        The run is kept in ``OUT/runs/layers``.
    progress
        Told of every stage.

    Returns
    -------
    Outcome
        Its table: layer, quantile, rule, category, units, detectors, unique.
    """
    data, measured = sample_images(concepts, config.dissect)
    config, seconds = config.model_copy(update={"dissect": measured}), dict[str, float]()
    with timed("dissect", seconds):
        result = dissect(network, data, measured, out=Path(out) / "runs" / "layer-profile", progress=progress)
    asked = config.model_dump(mode="json") | {
        "network": result.info.network.model_dump(mode="json"),
        "concepts": result.info.data.root,
        "quantile": config.dissect.protocol.quantiles[0],
    }
    table = count_rows(result)
    return ExperimentResult("layer-profile", table, conclude(table, config), asked, seconds)


def layer_profile_synthetic(bench: Workspace) -> ExperimentResult:
    """Run the experiment on the bench's network."""
    trained = bench.trained_longer()
    config = LayerProfileConfig(dissect=bench.measured(trained.recipe.layers))
    return layer_profile(
        trained.network(), bench.data, config, out=bench.folder("layer-profile"), progress=bench.progress
    )


def conclude(table: pl.DataFrame, config: LayerProfileConfig) -> Conclusion:
    """Say whether detectors of objects and parts lie deeper than those of colors and textures.

    Parameters
    ----------
    table
        Of `layer_profile`; its layers in the order of execution.
    config
        Of the experiment.
    """
    rows = table.filter(quantile=config.dissect.protocol.quantiles[0], rule=config.rule)
    low, high = _depths(rows, LOW), _depths(rows, HIGH)
    totals = ", ".join(
        f"{row['layer']} {row['unique_detectors']}" for row in rows.filter(category=TOTAL).iter_rows(named=True)
    )
    found = f"Unique detectors: {totals}."
    if len(low) < 2 or len(high) < 2:
        few = f" {len(low)} units detect colors or textures and {len(high)} objects or parts: too few to compare."
        return Conclusion(question=QUESTION, paper=PAPER, finding=found + few, agreement="not established")
    interval = difference_of_means(low, high)
    return Conclusion(
        question=QUESTION,
        paper=PAPER,
        finding=f"{found} On a scale from 0 (first layer) to 1 (last), {_mean_depths(low, high, interval)}",
        agreement=decide(interval, "more"),
    )


def _depths(rows: pl.DataFrame, categories: Sequence[str]) -> list[float]:
    """Return, for each unit that detects one of these categories, how deep its layer is: 0 the first, 1 the last."""
    names = rows["layer"].unique(maintain_order=True)
    last = max(len(names) - 1, 1)
    found: list[float] = []
    for index, layer in enumerate(names):
        here = rows.filter(pl.col("layer") == layer, pl.col("category").is_in(categories))
        found += [index / last] * int(here["detectors"].sum())
    return found


def _mean_depths(low: Sequence[float], high: Sequence[float], interval: Interval) -> str:
    return (
        f"detectors of colors and textures lie at {sum(low) / len(low):.2f} on average ({len(low)}), those of objects "
        f"and parts at {sum(high) / len(high):.2f} ({len(high)}): a difference of {interval}, bootstrap over units."
    )
