"""`netdissect layers`, and the option that trusts a network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, Field
from rich.console import Console

import netdissect
from netdissect.cli.console import console
from netdissect.cli_options import Typed, with_options
from netdissect.config import Assumed, NetworkSource
from netdissect.counted import counted
from netdissect.report.text_table import Column, TextTable

if TYPE_CHECKING:
    from netdissect.models import Layer, Structure

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        help="Import the Python factory that a run or its config.json names; it can run any code.",
    ),
]


STRUCTURE_COLUMNS = [
    Column("stage", "text", key=True),
    Column("auto", "text", key=True),
    Column("layer", "text", key=True),
    Column("type", "text"),
    *(Column(name) for name in ("units", "map", "field", "step")),
]
ALL_COLUMNS = [
    Column("layer", "text", key=True),
    *(Column(name, "text") for name in ("type", "layout")),
    *(Column(name) for name in ("units", "map", "field", "step", "offset")),
]


class LayersRequest(BaseModel):
    """Options of `netdissect layers`."""

    network: NetworkSource
    assumed: Assumed = Field(default_factory=Assumed)


@with_options(LayersRequest)
def layers(
    typed: Typed[LayersRequest],
    everything: Annotated[
        bool, typer.Option("--all", help="List every module whose output is computed from the image.")
    ] = False,
) -> None:
    """List stages and blocks with units, map size and receptive field, and say which layers to dissect."""
    from netdissect.models import find_structure, survey_layers

    request = typed.model()
    source = request.network
    if source.weights is None and not source.spec.startswith(("python:", "onnx:", "activations:")):
        # These have their own weights, or none; other networks need none for a list of layers.
        source = source.model_copy(update={"weights": "none"})
    loaded = netdissect.load_network(**source.model_dump())
    height, width = loaded.preprocessing.size
    title, screen = f"{source.spec}, input {height} x {width}", console()
    structure = None if everything else find_structure(loaded, request.assumed)
    if structure is not None and structure.stages:
        screen.print(TextTable(STRUCTURE_COLUMNS, list(_structure_rows(structure)), title), soft_wrap=True)
        for line in _advice(_typed(source), structure):
            screen.print(line, soft_wrap=True, highlight=False)
        return
    if structure is not None:
        screen.print("Neither blocks that repeat nor convolutions were found: here are all layers.", highlight=False)
    _show_all(screen, title, survey_layers(loaded, request.assumed))


def _typed(source: NetworkSource) -> str:
    """Return a network as it is typed, with the preprocessing without which it cannot be loaded."""
    given = {"--mean": source.mean, "--std": source.std} if source.spec.startswith("onnx:") else {}
    words = [f"{name} {','.join(map(str, values))}" for name, values in given.items() if values is not None]
    return " ".join([source.spec, *words])


def _structure_rows(structure: "Structure") -> Iterator[list[str]]:
    """Yield the blocks of each stage, after the module around them if there is one."""
    for number, stage in enumerate(structure.stages, start=1):
        around = () if stage.end in stage.blocks else (stage.end,)
        for layer in (*around, *stage.blocks):
            mark = "*" if layer == stage.end else ""
            cells = [str(layer.units), _cells(layer), *_field(layer)[:2]]
            yield [str(number), mark, layer.name, layer.type, *cells]


def _advice(spec: str, structure: "Structure") -> Iterator[str]:
    ends, blocks, hidden = (structure.layers(name) for name in ("auto", "blocks", "mlp"))
    one_size = len({layer.grid for layer in blocks}) == 1
    why = "four depths, because all maps have one size" if one_size else "the size of the map changes after it"
    yield f"\nRecommended: the layers marked *, the last of each stage ({why}):"
    yield f"  --layer {','.join(layer.name for layer in ends)}"
    yield f"  or --layer auto. The last one alone: --layer {ends[-1].name}"
    yield f"Every block: --layer blocks ({_count(blocks)})."
    if hidden:
        yield f"Hidden neurons of the perceptrons: --layer mlp ({_count(hidden)}, {hidden[0].name} and so on)."
    yield f"All layers, also those inside of blocks: netdissect layers {spec} --all"


def _count(layers: "tuple[Layer, ...]") -> str:
    units = sum(layer.units for layer in layers)
    return f"{counted(len(layers), 'layers')}, {counted(units, 'units')}"


def _show_all(screen: Console, title: str, surveyed: "tuple[Layer, ...]") -> None:
    rows = []
    refused: dict[str, list[str]] = {}
    for layer in surveyed:
        if layer.layout is None:
            refused.setdefault(layer.reason or "", []).append(layer.name)
            rows.append([layer.name, layer.type, "unknown", *[""] * 5])
            continue
        mark = " (assumed)" if layer.layout.source == "assumed" else ""
        kind = f"{layer.type} (= its input)" if layer.passes_through else layer.type
        rows.append([layer.name, kind, layer.layout.name + mark, str(layer.units), _cells(layer), *_field(layer)])
    screen.print(TextTable(ALL_COLUMNS, rows, title), soft_wrap=True)
    if any(layer.passes_through for layer in surveyed):
        screen.print("Modules marked (= its input) change nothing: dissect the layer before them.", soft_wrap=True)
    for reason, names in refused.items():
        screen.print(f"Cannot be dissected because {reason}: {', '.join(names)}.", soft_wrap=True, highlight=False)
    if any("cannot be traced" in reason for reason in refused):
        screen.print(
            "If you know the layout of a layer that cannot be traced, set it with --assume-layout.", soft_wrap=True
        )


def _cells(layer: "Layer") -> str:
    return "whole image" if layer.grid is None else f"{layer.grid.height} x {layer.grid.width}"


def _field(layer: "Layer") -> tuple[str, str, str]:
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


def load_named(spec: str | None, info: "netdissect.result.RunInfo") -> "netdissect.Network | None":
    """Load the network that the user named, with the weights that the run recorded."""
    if spec is None:
        return None
    source = info.network.source
    options = {} if source is None else source.model_dump(exclude={"spec"})
    return netdissect.load_network(spec, **options)
