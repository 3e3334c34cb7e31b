"""`netdissect experiment rotate`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    ConceptsOption,
    DeviceOption,
    LayerOption,
    LimitOption,
    MinIouOption,
    NetworkArgument,
    OutOption,
    QuantileOption,
    RuleOption,
    SeedOption,
    checked,
    measured,
    open_network,
)


def rotate(
    network: NetworkArgument,
    concepts: ConceptsOption,
    layer: LayerOption,
    out: OutOption,
    rotations: Annotated[int, typer.Option("--rotations", min=0, help="Random rotations, seeds 0, 1, ...")] = 5,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps from alpha 0 to 1.")] = 5,
    basis: Annotated[
        list[str] | None, typer.Option("--basis", help="pca, ica or permutation, beside the rotations; repeats.")
    ] = None,
    matrix: Annotated[
        list[Path] | None,
        typer.Option("--matrix", help="A basis: .npy or .safetensors, a row for each new unit; repeats."),
    ] = None,
    quantile: QuantileOption = None,
    min_iou: MinIouOption = 0.04,
    rule: RuleOption = "per-category",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = "cpu",
) -> None:
    """Rotate the units of one layer, step by step, and dissect each step.

    All bases come from one forward pass. Rotated activations are dense: the plan printed first says how many bytes
    they take on disk meanwhile; where there is no room, the network runs twice instead.
    """
    loaded = open_network(network, seed)
    config = checked(
        netdissect.experiments.RotateConfig,
        dissect=measured(
            [layer], quantile, min_iou=min_iou, limit=limit, seed=seed, batch_size=batch_size, device=device
        ),
        seeds=tuple(range(rotations)),
        steps=steps,
        bases=tuple(basis or ()),
        matrices=tuple(matrix or ()),
        rule=rule,
    )
    carry_out(lambda progress: netdissect.experiments.rotate(loaded, concepts, config, out=out, progress=progress), out)
