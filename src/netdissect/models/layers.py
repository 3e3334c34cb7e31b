"""List the layers of a network: which modules have units, and how their outputs are read."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from netdissect.concepts import Size
from netdissect.config import BASIS_OF, Assumed
from netdissect.errors import ShapeError
from netdissect.models.as_network import as_network
from netdissect.models.network import Network
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.axis_layout import Layout, OutputReading, read_output
from netdissect.models.receptive_field.spatial_layout import UnknownLayout
from netdissect.models.receptive_field.trace import TRACED_IMAGES, TracedModule, trace
from netdissect.models.structure.layer import Layer

NOTHING_ASSUMED = Assumed()


def list_layers(
    model: Network | torch.nn.Module | str, assumed: Assumed = NOTHING_ASSUMED, *, preprocessing: object = None
) -> tuple[Layer, ...]:
    """Return every module whose output can be dissected, in the order of execution.

    Parameters
    ----------
    model
        Anything that `netdissect.as_network` takes. It runs once, on two images.
    assumed
        Layout and field of layers that cannot be traced to the image.
    preprocessing
        Of a module; see `netdissect.as_network`.

    Returns
    -------
    tuple of Layer
        Modules with a feature map such as (B, U, h, w) or (B, h, w, U), with tokens (B, T, U) or (T, B, U) of a grid
        (class and register tokens dropped), or with image-level units (B, U). A module that runs several times in a
        forward pass is listed where it last runs, with its last output.

    Raises
    ------
    NetworkError
        If the preprocessing is not known, or the network fails on its own input size.
    """
    network = as_network(model, preprocessing)
    return tuple(layer for layer in survey_layers(network, assumed) if layer.layout is not None)


def survey_layers(network: Network, assumed: Assumed = NOTHING_ASSUMED) -> tuple[Layer, ...]:
    """Return every module whose output is computed from the image, also those whose layout is not known.

    Parameters
    ----------
    network
        Runs once, on two images.
    assumed
        As in `list_layers`.

    Raises
    ------
    NetworkError
        If the network fails on its own input size.
    """
    return tuple(layers_by_name(trace(network), network, assumed).values())


def layers_by_name(traced: Sequence[TracedModule], network: Network, assumed: Assumed) -> dict[str, Layer]:
    """Return layers by name, each followed by its virtual layers."""
    assumed = network.assumed(assumed)
    layers: dict[str, Layer] = {}
    for module in traced:
        if module.layout is None or module.shape is None or min(module.shape, default=0) == 0:
            continue
        layer = read_layer(module, assumed)
        layers[layer.name] = layer
        if layer.layout is not None:
            layers |= virtual_layers(layer, network)
    return layers


def virtual_layers(layer: Layer, network: Network) -> dict[str, Layer]:
    """Return the virtual layers of a layer, by name.

    Raises
    ------
    ShapeError
        If a basis is one of another number of units.
    """
    bases = {name: basis for name, basis in network.bases.items() if basis.source == layer.name}
    for name, basis in bases.items():
        if basis.inputs != layer.units:
            raise ShapeError(
                f"The basis {name!r} is one of {basis.inputs} units; layer {layer.name!r} has {layer.units}. "
                "Expected a basis of this layer."
            )
    described = replace(layer, type=f"{BASIS_OF}{layer.name}")
    return {
        name: replace(described, name=name, units=basis.units, sparse=basis.sparse, most_active=basis.most_active)
        for name, basis in bases.items()
    }


def read_layer(traced: TracedModule, assumed: Assumed) -> Layer:
    """Describe one module, whose layout may not be known."""
    spatial, shape = traced.layout, traced.shape or ()
    reading = read_output(spatial) if spatial is not None else "it was not computed from the image"
    if isinstance(reading, str) and isinstance(spatial, UnknownLayout):
        reading = _assumed_reading(shape, assumed) or reading
    if isinstance(reading, str):
        return Layer(traced.name, traced.type, 0, None, None, reason=reading, passes_through=traced.passes_through)
    field, source = reading.field, None if reading.field is None else reading.layout.source
    if reading.grid is not None and field is None and assumed.receptive_field is not None:
        field, source = _assumed_field(assumed), "assumed"
    layer = Layer(traced.name, traced.type, reading.units, reading.grid, field, reading.layout, source)
    return replace(layer, passes_through=traced.passes_through)


def _assumed_field(assumed: Assumed) -> ReceptiveField | None:
    if assumed.receptive_field is None or assumed.receptive_field == "half-pixel":
        return None
    axis = ReceptiveFieldAxis(*assumed.receptive_field)
    return ReceptiveField(axis, axis)


def _assumed_reading(shape: Sequence[int], assumed: Assumed) -> OutputReading | None:
    """Return the assumed reading of an output; None if its shape does not allow it, or none is assumed."""
    if len(shape) == 2 and shape[0] == TRACED_IMAGES:
        return OutputReading(Layout(0, 1, name="units", source="assumed"), shape[1], None, None)
    if assumed.layout is None or not shape or shape[0] != TRACED_IMAGES:
        return None
    name, _, prefix = assumed.layout.partition(":")
    if name == "tokens" and len(shape) == 3:
        before = int(prefix or 0)
        side = math.isqrt(max(shape[1] - before, 0))
        if side == 0 or side * side != shape[1] - before:
            return None
        cells = tuple(range(before, shape[1])) if before else None
        return OutputReading(Layout(0, 2, 1, cells, assumed.layout, "assumed"), shape[2], Size(side, side), None)
    if name in ("NCHW", "NHWC") and len(shape) == 4:
        units, rows = (1, 2) if name == "NCHW" else (3, 1)
        return OutputReading(
            Layout(0, units, name=name, source="assumed"), shape[units], Size(*shape[rows : rows + 2]), None
        )
    return None
