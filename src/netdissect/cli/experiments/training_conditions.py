"""`netdissect experiment seeds`, `dropout`, `batchnorm`, `width` and `depth`: trained variants of one recipe."""

from typing import Annotated, cast

import typer

from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import OutOption
from netdissect.cli_options import Typed, with_options
from netdissect.experiments import training_conditions
from netdissect.training import SCALES, Scale, Workspace
from netdissect.training.choices import ConditionName, ScaleName


@with_options(Scale, only=("seeds", "recipe.steps"))
def run(
    asked: Typed[Scale],
    context: typer.Context,
    out: OutOption,
    scale: Annotated[ScaleName, typer.Option("--scale", help="How large the data and the networks are.")] = "small",
) -> None:
    """Train, dissect and compare the networks of one condition, at a scale or with the options that are typed."""
    name, chosen = cast(ConditionName, context.info_name), asked.model(SCALES[scale].model_dump())
    carry_out(lambda progress: training_conditions(name, Workspace(out, chosen, progress)), out / name)
