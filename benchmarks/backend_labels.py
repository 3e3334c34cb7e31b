"""What each backend and precision changes in the labels of a network, against PyTorch in float32.

    python -m benchmarks.backend_labels DATA [--network NAME] [--max-images N]

DATA is a data set in Broden's layout. Two layers of the network are dissected with each backend; units are compared
one by one, unique detectors as sets of concepts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from benchmarks.networks import NETWORKS
from benchmarks.series import markdown
from netdissect import Result, dissect, load_network
from netdissect.config import BackendName, DissectConfig, Precision, StatisticsConfig
from netdissect.result.queries import layer_units, run_min_iou, run_quantile

WAYS: tuple[tuple[BackendName, Precision], ...] = (
    ("eager", "float32"), ("onnxruntime", "float32"), ("openvino", "float32"), ("eager", "bfloat16"),
    ("openvino", "bfloat16"),
)  # fmt: skip
LAYERS = (5, -1)
COLUMNS = (
    "", "largest difference", "labels changed", "detectors gained, lost", "unique detectors gained, lost",
    "largest change of an IoU",
)  # fmt: skip


def units_of(result: Result) -> pl.DataFrame:
    """Return label, IoU and whether it is a detector of each unit of all layers."""
    quantile = run_quantile(result, None)
    tables = [
        layer_units(result, name, quantile, run_min_iou(result, name)).with_columns(layer=pl.lit(name))
        for name in result.layers
    ]
    return pl.concat(tables).select("layer", "unit", "label", "iou", "detector").sort("layer", "unit")


def unique_of(units: pl.DataFrame) -> set[tuple[str, str]]:
    """Return the concepts that a layer detects, with the layer."""
    return set(units.filter("detector").select("layer", "label").rows())


def row(name: str, result: Result, eager: Result) -> tuple[str, ...]:
    """Return the row of one backend."""
    ours, theirs = units_of(result), units_of(eager)
    here, there = ours["detector"], theirs["detector"]
    unique, before = unique_of(ours), unique_of(theirs)
    check = result.info.backend_check
    return (
        name,
        "0" if check is None else f"{check.difference:.2g}",
        f"{(ours['label'].ne_missing(theirs['label'])).sum()} of {len(ours)}",
        f"{(here & ~there).sum()}, {(there & ~here).sum()}",
        f"{len(unique - before)}, {len(before - unique)}",
        f"{(ours['iou'] - theirs['iou']).abs().max():.2g}",
    )


def rows(data: Path, network: str, max_images: int | None) -> Iterator[tuple[str, ...]]:
    """Dissect with each backend and yield its row."""
    measured = NETWORKS[network]
    layers = tuple(measured.layers[index] for index in LAYERS)
    eager: Result | None = None
    for backend, precision in WAYS:
        config = DissectConfig(
            layers=layers, backend=backend, precision=precision, max_images=max_images, layout_check=False,
            statistics=StatisticsConfig(bootstrap=0, permutations=0),
        )  # fmt: skip
        result = dissect(load_network(measured.spec, weights=measured.weights), data, config=config)
        assert result.info.config.backend == backend, result.info.backend_check
        eager = eager or result
        yield row(f"{result.info.environment.backend}, {precision}", result, eager)


def main(
    data: Path,
    network: Annotated[str, typer.Option()] = "efficientnet_lite0",
    max_images: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Print the table."""
    print("\n".join(markdown(COLUMNS, rows(data, network, max_images))))


if __name__ == "__main__":
    typer.run(main)
