"""The commands of `netdissect experiment`; each group of them has its own module."""

import typer

from netdissect.cli.experiments import layers, rotate

app = typer.Typer(no_args_is_help=True)
app.command("rotate")(rotate.rotate)
app.command("layers")(layers.layers)
