"""The layout check of a generator's layers; see `netdissect.models.generators.cell_check`."""

from dataclasses import asdict

import torch

from netdissect.dissect.devices import number_format, torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import LayerError
from netdissect.models.generators.cell_check import check_cells
from netdissect.models.generators.generator import Generator
from netdissect.models.receptive_field.layout_check import CORRELATED
from netdissect.result import LayoutCheckInfo


def check_generator(source: DissectionInputs, generator: Generator) -> dict[str, LayoutCheckInfo]:
    """Change single cells of each layer in two samples of the data, and look where the output changes."""
    device = torch_device(source.config.device)
    samples = torch.from_numpy(source.images.read((0, len(source.data) // 2)))
    layers = [layer for layer in source.layers if layer.grid is not None and max(layer.grid) > 1]
    with generator.prepared(device), number_format(device, source.config):
        checks = {layer.name: check_cells(generator, layer, samples) for layer in layers}
    return {name: LayoutCheckInfo(**asdict(check)) for name, check in checks.items()}


def misplaced(name: str, check: LayoutCheckInfo, network: str) -> LayerError:
    """Return the error of a layer whose cells are not where they are said to be."""
    return LayerError(
        f"a change of one cell of layer {name!r} of generator {network!r} does not change the output at the cell: the "
        f"places of changed cells and of changed pixels correlate at {check.correlation[0]:.2f} (down) and "
        f"{check.correlation[1]:.2f} (right), and are {check.displacement[0]:+.1f} and {check.displacement[1]:+.1f} "
        f"cells apart. Expected at least {CORRELATED} both ways, and at most a cell: the layer's output is read as "
        "(batch, units, height, width), placed evenly over the image. Assume another layout (--assume-layout), leave "
        "the layer out, or dissect it as it is with --force."
    )
