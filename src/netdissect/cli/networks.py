"""Options that name a network, and `netdissect layers`."""

from typing import Annotated

import typer
from rich.table import Table

import netdissect
from netdissect.cli.console import console

NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="torchvision:NAME, timm:NAME, efficientnet_lite0|1|2, or python:package.module:factory.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", help="A checkpoint (.pth, .pt, .safetensors), or 'none': random under --seed. Default: its own."
    ),
]
StateDictOption = Annotated[
    str | None,
    typer.Option(
        "--state-dict",
        metavar="KEY",
        help="Which weights of a checkpoint that holds several sets, such as teacher, state_dict_ema or encoder_q.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of random weights and of the images of --limit.")]
SizeOption = Annotated[int | None, typer.Option("--input-size", min=1, help="Input size in pixels.")]
MeanOption = Annotated[str | None, typer.Option("--mean", help="One number a channel on the 0..1 scale: 0.5,0.5,0.5.")]
StdOption = Annotated[str | None, typer.Option("--std", help="One number a channel on the 0..1 scale.")]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        is_eager=True,
        help="Import the Python factory that a run or its config.json names: it may run any code.",
    ),
]


def layers(
    network: NetworkArgument,
    weights: WeightsOption = None,
    state_dict: StateDictOption = None,
    seed: SeedOption = 0,
    size: SizeOption = None,
) -> None:
    """List the layers that can be dissected: units, map size and receptive field (size, step, offset)."""
    if weights is None and not network.startswith("python:"):
        weights = "none"  # a factory's network is taken as it is made; others need no weights to be listed
    loaded = netdissect.load_network(network, weights=weights, state_dict=state_dict, seed=seed, size=size)
    height, width = loaded.preprocessing.size
    table = Table(title=f"{network}, input {height} x {width}")
    for name in ("layer", "type"):
        table.add_column(name, overflow="fold")
    for name in ("units", "map", "field", "step", "offset"):
        table.add_column(name, justify="right")
    for layer in netdissect.list_layers(loaded):
        cells = "whole image" if layer.grid is None else f"{layer.grid.height} x {layer.grid.width}"
        table.add_row(layer.name, layer.kind, str(layer.units), cells, *_field(layer))
    console().print(table)


def _field(layer: "netdissect.models.Layer") -> tuple[str, str, str]:
    if layer.field is None:
        return ("", "", "") if layer.grid is None else ("unknown", "", "")
    vertical, horizontal = layer.field.vertical, layer.field.horizontal
    pairs = zip(
        (vertical.size, vertical.step, vertical.offset),
        (horizontal.size, horizontal.step, horizontal.offset),
        strict=True,
    )
    size, step, offset = (f"{v:g}" if v == h else f"{v:g} x {h:g}" for v, h in pairs)
    return size, step, offset
