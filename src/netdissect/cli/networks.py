"""`netdissect layers`, and the option that trusts a network."""

from typing import Annotated

import typer
from pydantic import BaseModel, Field

import netdissect
from netdissect.cli.console import console
from netdissect.cli_options import Typed, with_options
from netdissect.config import Assumed, NetworkSource
from netdissect.report.text_table import Column, TextTable

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        help="Import the Python factory that a run or its config.json names; it can run any code.",
    ),
]


class LayersRequest(BaseModel):
    """Options of `netdissect layers`."""

    network: NetworkSource
    assumed: Assumed = Field(default_factory=Assumed)


@with_options(LayersRequest)
def layers(typed: Typed[LayersRequest]) -> None:
    """List the layers: layout, units, map size and receptive field (size, step, offset), or why there are none."""
    from netdissect.models import survey_layers

    request = typed.model()
    source = request.network
    if source.weights is None and not source.spec.startswith("python:"):
        # A factory makes its own weights; other networks need none for a list of layers.
        source = source.model_copy(update={"weights": "none"})
    loaded = netdissect.load_network(**source.model_dump())
    height, width = loaded.preprocessing.size
    columns = [
        Column("layer", "text", key=True),
        *(Column(name, "text") for name in ("type", "layout")),
        *(Column(name) for name in ("units", "map", "field", "step", "offset")),
    ]
    rows = []
    refused: dict[str, list[str]] = {}
    for layer in survey_layers(loaded, request.assumed):
        if layer.layout is None:
            refused.setdefault(layer.reason or "", []).append(layer.name)
            rows.append([layer.name, layer.type, "unknown", *[""] * 5])
            continue
        cells = "whole image" if layer.grid is None else f"{layer.grid.height} x {layer.grid.width}"
        mark = " (assumed)" if layer.layout.source == "assumed" else ""
        rows.append([layer.name, layer.type, layer.layout.name + mark, str(layer.units), cells, *_field(layer)])
    screen = console()
    screen.print(TextTable(columns, rows, f"{source.spec}, input {height} x {width}"))
    for reason, names in refused.items():
        screen.print(f"Cannot be dissected because {reason}: {', '.join(names)}.", soft_wrap=True, highlight=False)
    if any("cannot be traced" in reason for reason in refused):
        screen.print(
            "If you know the layout of a layer that cannot be traced, set it with --assume-layout.", soft_wrap=True
        )


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
