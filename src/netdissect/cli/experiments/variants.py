"""`netdissect experiment seeds`, `dropout`, `batchnorm`, `width` and `depth`: trained variants of one recipe."""

from collections.abc import Callable
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import OutOption, checked
from netdissect.training.choices import ConditionName, ScaleName

HELP: dict[ConditionName, str] = {
    "seeds": "Train one recipe from several seeds: the same counts, by other units?",
    "dropout": "Train with and without dropout.",
    "batchnorm": "Train with and without batch normalization.",
    "width": "Train with a narrower and a wider last convolution.",
    "depth": "Train with fewer and with more convolutions.",
}


def command(name: ConditionName) -> Callable[..., None]:
    """Return the command of one set of variants."""

    def run(
        out: OutOption,
        scale: Annotated[
            ScaleName, typer.Option("--scale", help="How large the world and the networks are.")
        ] = "small",
        seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Networks of each variant.")] = None,
        steps: Annotated[int | None, typer.Option("--steps", min=1, help="Of training, equal for all.")] = None,
    ) -> None:
        base = netdissect.training.SCALES[scale].model_dump()
        base["recipe"]["steps"] = steps or base["recipe"]["steps"]
        wanted = checked(netdissect.training.Scale, **(base | {"seeds": seeds or base["seeds"]}))
        carry_out(
            lambda progress: netdissect.experiments.training_conditions(
                name, netdissect.training.Workspace(out, wanted, progress)
            ),
            out / name,
        )

    run.__doc__ = HELP[name]
    return run
