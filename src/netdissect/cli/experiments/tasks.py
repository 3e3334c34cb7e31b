"""`netdissect experiment tasks`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import ConceptsOption, Measure, OutOption, RuleOption, checked, measure
from netdissect.cli.options import with_options_of
from netdissect.config import Progress
from netdissect.training.choices import TASKS


@with_options_of(measure)
def tasks(
    measured: Measure,
    concepts: ConceptsOption,
    out: OutOption,
    train_images: Annotated[
        Path | None,
        typer.Option(
            "--train-images", help="Train on pictures at any depth below this folder. Default: the synthetic world."
        ),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help=f"{', '.join(TASKS)}; repeats. Default: all that can be.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Networks of each task, seeds 0, 1, ...")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of training, the same for each task.")] = 1_800,
    num_images: Annotated[int, typer.Option("--num-images", min=1, help="To train on, at most.")] = 12_000,
    size: Annotated[int, typer.Option("--input-size", help="Pixels of the square pictures, 64 to 128.")] = 96,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="conv1 to conv5; repeats. Default: the last.")
    ] = None,
    rule: RuleOption = "per-category",
) -> None:
    """Train one network on supervised and self-supervised tasks, and compare what their units detect."""
    experiments = netdissect.experiments
    recipe = checked(netdissect.training.TrainConfig, steps=steps, pictures=num_images, size=size)

    def carried_out(progress: Progress) -> experiments.ExperimentResult:
        shown = (
            netdissect.training.synthetic_images(recipe, folder=out, progress=progress)
            if train_images is None
            else netdissect.training.folder_images(train_images, size, limit=num_images)
        )
        config = checked(
            experiments.SupervisionConfig,
            tasks=tuple(task) if task else shown.tasks(),
            recipe=recipe,
            seeds=tuple(range(seeds)),
            dissect=measured.config(layer or recipe.layers[-1:]),
            rule=rule,
        )
        return experiments.supervision(shown, concepts, config, out=out, progress=progress)

    carry_out(carried_out, out)
