"""Options that name a network, and `netdissect layers`."""

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

import netdissect
from netdissect.cli.console import console
from netdissect.config import Assumed, Interpolation
from netdissect.errors import ConfigError

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
        "--weights",
        help="A checkpoint (.pth, .pt, .safetensors), or 'none': random under --weights-seed. Default: its own.",
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
WeightsSeedOption = Annotated[int, typer.Option("--weights-seed", min=0, help="Seed of random weights.")]
SizeOption = Annotated[int | None, typer.Option("--input-size", min=1, help="Input size in pixels.")]
MeanOption = Annotated[str | None, typer.Option("--mean", help="One number a channel on the 0..1 scale: 0.5,0.5,0.5.")]
InterpolationOption = Annotated[
    Interpolation | None,
    typer.Option("--interpolation", help="Filter with which pictures are squashed. Default: the network's own."),
]
StdOption = Annotated[str | None, typer.Option("--std", help="One number a channel on the 0..1 scale.")]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        is_eager=True,
        help="Import the Python factory that a run or its config.json names: it may run any code.",
    ),
]

LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--assume-layout",
        metavar="NCHW|NHWC|tokens[:PREFIX]",
        help="How to read layers whose layout could not be traced; tokens lie on a square behind PREFIX others.",
    ),
]
FieldOption = Annotated[
    str | None,
    typer.Option(
        "--receptive-field",
        metavar="OFFSET,SIZE,STEP|half-pixel",
        help="Receptive field, in input pixels, of layers where it could not be traced.",
    ),
]
_EXPECTED = {
    "--assume-layout": "NCHW, NHWC, tokens, or tokens:PREFIX with the number of tokens before the map",
    "--receptive-field": "OFFSET,SIZE,STEP in input pixels, size and step above 0, or half-pixel",
}


def layers(
    network: NetworkArgument,
    weights: WeightsOption = None,
    state_dict: StateDictOption = None,
    weights_seed: WeightsSeedOption = 0,
    size: SizeOption = None,
    assume_layout: LayoutOption = None,
    receptive_field: FieldOption = None,
) -> None:
    """List the layers: layout, units, map size and receptive field (size, step, offset), or why there are none."""
    if weights is None and not network.startswith("python:"):
        weights = "none"  # a factory's network is taken as it is made; others need no weights to be listed
    from netdissect.models import survey_layers

    loaded = netdissect.load_network(
        network, weights=weights, state_dict=state_dict, weights_seed=weights_seed, size=size
    )
    height, width = loaded.preprocessing.size
    table = Table(title=f"{network}, input {height} x {width}")
    for name in ("layer", "type"):
        table.add_column(name, overflow="fold")
    table.add_column("layout", overflow="fold")
    for name in ("units", "map", "field", "step", "offset"):
        table.add_column(name, justify="right")
    refused: dict[str, list[str]] = {}
    for layer in survey_layers(loaded, assumed(assume_layout, receptive_field)):
        if layer.layout is None:
            refused.setdefault(layer.reason or "", []).append(layer.name)
            table.add_row(layer.name, layer.kind, "unknown", "", "", "", "", "", style="dim")
            continue
        cells = "whole image" if layer.grid is None else f"{layer.grid.height} x {layer.grid.width}"
        mark = " (assumed)" if layer.layout.source == "assumed" else ""
        table.add_row(layer.name, layer.kind, layer.layout.name + mark, str(layer.units), cells, *_field(layer))
    screen = console()
    screen.print(table)
    for reason, names in refused.items():
        screen.print(f"Cannot be dissected, because {reason}: {', '.join(names)}.", soft_wrap=True, highlight=False)
    if any("lost" in reason for reason in refused):
        screen.print("If you know the layout of those that were lost, say it with --assume-layout.", soft_wrap=True)


def assumed(layout: str | None, receptive_field: str | None) -> Assumed:
    """Read what the options take for granted.

    Raises
    ------
    ConfigError
        If they cannot be read.
    """
    try:
        return Assumed.model_validate({"layout": layout, "receptive_field": receptive_field})
    except ValidationError as error:
        first = error.errors()[0]
        option, given = (
            ("--assume-layout", layout) if first["loc"][0] == "layout" else ("--receptive-field", receptive_field)
        )
        raise ConfigError(
            f"{option} cannot be {given!r}. Expected {_EXPECTED[option]}; see 'netdissect layers' for what was traced."
        ) from error


def _field(layer: "netdissect.models.Layer") -> tuple[str, str, str]:
    if layer.field is None:
        known = "half-pixel" if layer.field_source == "assumed" else "unknown"
        return ("", "", "") if layer.grid is None else (known, "", "")
    vertical, horizontal = layer.field.vertical, layer.field.horizontal
    pairs = zip(
        (vertical.size, vertical.step, vertical.offset),
        (horizontal.size, horizontal.step, horizontal.offset),
        strict=True,
    )
    size, step, offset = (f"{v:g}" if v == h else f"{v:g} x {h:g}" for v, h in pairs)
    return size, step, offset
