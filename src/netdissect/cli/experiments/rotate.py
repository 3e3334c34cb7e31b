"""`netdissect experiment rotate`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    ConceptsOption,
    LayerOption,
    Measure,
    NetworkArgument,
    OutOption,
    RuleOption,
    checked,
    measure,
    open_network,
)
from netdissect.cli.options import with_options_of


@with_options_of(measure)
def rotate(
    measured: Measure,
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
    rule: RuleOption = "per-category",
) -> None:
    """Rotate the units of one layer, step by step, and dissect each step.

    All bases come from one forward pass. Rotated activations are dense: the plan printed first says how many bytes
    they take on disk meanwhile; where there is no room, the network runs twice instead.
    """
    loaded = open_network(network, measured.weights_seed)
    config = checked(
        netdissect.experiments.RotateConfig,
        dissect=measured.config([layer]),
        seeds=tuple(range(rotations)),
        steps=steps,
        bases=tuple(basis or ()),
        matrices=tuple(matrix or ()),
        rule=rule,
    )
    carry_out(lambda progress: netdissect.experiments.rotate(loaded, concepts, config, out=out, progress=progress), out)
