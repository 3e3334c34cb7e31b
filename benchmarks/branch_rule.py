"""Which published networks' layers change their center because enlarged branches do not decide where branches meet.

    python -m benchmarks.branch_rule [--only TEXT]    # a line a network that changes, and the count of all

Each network of the layout audit is traced twice: by the rule, and with the largest branch deciding whether or not it
was enlarged. Weights are random; nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from unittest import mock

import typer

from benchmarks.layout_families import build, networks
from netdissect.models import Network, list_layers
from netdissect.models.receptive_field import branches
from netdissect.models.receptive_field.cell_grid import CellGrid
from netdissect.models.receptive_field.spatial_layout import SpatialLayout

Centers = dict[str, tuple[float, ...]]


def centers(network: Network) -> Centers:
    """Return where cell 0 of each layer lies, and the steps, in input pixels: vertical, horizontal."""
    found = {}
    for layer in list_layers(network):
        if layer.field is not None:
            axes = (layer.field.vertical, layer.field.horizontal)
            found[layer.name] = tuple(number for axis in axes for number in (axis.center(0), axis.step))
    return found


def largest_decides(met: Sequence[SpatialLayout]) -> CellGrid | None:
    """Merge the grids of branches as if none had been enlarged."""
    return RULE([replace(layout, grid=replace(layout.grid, enlarged=frozenset())) for layout in met])


RULE = branches.merge_grids


def main(only: Annotated[str, typer.Option(help="Networks whose name contains this.")] = "") -> None:
    """Print the networks whose layers change."""
    seen = 0
    for library, _, name in networks():
        if only not in f"{library} {name}":
            continue
        try:
            network = build(library, name)
            ruled = centers(network)
            with mock.patch.object(branches, "merge_grids", largest_decides):
                plain = centers(network)
        except Exception as error:
            print(f"{library} {name}: {type(error).__name__}", flush=True)
            continue
        seen += 1
        changed = [layer for layer in ruled if ruled[layer] != plain.get(layer)]
        if changed:
            first = changed[0]
            print(
                f"{library} {name}: {len(changed)} of {len(ruled)} layers, first {first}: {plain.get(first)} "
                f"by the largest, {ruled[first]} by the rule",
                flush=True,
            )
    print(f"{seen} networks", flush=True)


if __name__ == "__main__":
    typer.run(main)
