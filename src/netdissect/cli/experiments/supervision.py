"""`netdissect experiment supervision`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import MEASURED, ConceptsOption, OutOption
from netdissect.cli_options import Typed, with_options
from netdissect.config import Progress
from netdissect.experiments import SupervisionConfig, supervision
from netdissect.training import TrainConfig, folder_images, synthetic_images

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult


@with_options(
    SupervisionConfig, MEASURED,
    only=("tasks", "recipe.size", "recipe.pictures", "recipe.steps", "seeds", "dissect", "rule"),
)  # fmt: skip
def run(
    asked: Typed[SupervisionConfig],
    concepts: ConceptsOption,
    out: OutOption,
    train_images: Annotated[
        Path | None,
        typer.Option(
            "--train-images", help="Train on images at any depth below this folder. Default: a synthetic data set."
        ),
    ] = None,
) -> None:
    """Defaults: all tasks that the images allow, and the last layer."""
    recipe = asked.part("recipe", TrainConfig)

    def carried_out(progress: Progress) -> "ExperimentResult":
        shown = (
            synthetic_images(recipe, folder=out, progress=progress)
            if train_images is None
            else folder_images(train_images, recipe.size, limit=recipe.pictures)
        )
        defaults: dict[str, Any] = {
            "recipe": {}, "tasks": shown.tasks(), "dissect": MEASURED["dissect"] | {"layers": recipe.layers[-1:]},
        }  # fmt: skip
        return supervision(shown, concepts, asked.model(defaults), out=out, progress=progress)

    carry_out(carried_out, out)
