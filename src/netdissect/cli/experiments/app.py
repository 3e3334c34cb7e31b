"""The commands of `netdissect experiment`; each group of them has its own module."""

import typer

from netdissect.cli.experiments import (
    ablate,
    agreement,
    compare,
    contribution,
    layers,
    rotate,
    snapshots,
    tasks,
    transfer,
    variants,
)
from netdissect.training.choices import CONDITIONS

app = typer.Typer(no_args_is_help=True)
app.command("rotate")(rotate.rotate)
app.command("layer-profile")(layers.layers)
app.command("compare")(compare.compare)
app.command("training-dynamics")(snapshots.snapshots)
for name in CONDITIONS:
    app.command(name)(variants.command(name))
app.command("supervision")(tasks.tasks)
app.command("linear-probe")(transfer.transfer)
app.command("rater-agreement")(agreement.agreement)
app.command("attribution")(contribution.contribution)
app.command("ablate")(ablate.ablate)
