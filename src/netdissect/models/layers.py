"""List the layers of a network, and resolve names and globs to layers."""

import difflib
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from netdissect.concepts import Size
from netdissect.config import Assumed, one_or_more
from netdissect.errors import LayerError, ShapeError
from netdissect.models.as_network import as_network
from netdissect.models.network import Network
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.axis_layout import Layout, LayoutSource, OutputReading, read_output
from netdissect.models.receptive_field.spatial_layout import UnknownLayout
from netdissect.models.receptive_field.trace import TRACED_IMAGES, TracedModule, trace

NOTHING_ASSUMED = Assumed()


@dataclass(frozen=True)
class Layer:
    """A module whose output is computed from the image.

    Attributes
    ----------
    name
        Dotted name of the module.
    type
        Name of its class.
    units
        Channels of its output, or columns of a (B, U) output; 0 where its layout is not known.
    grid
        Height and width of its feature map in cells; None for image-level units.
    field
        Receptive field of its cells; None for image-level units, where it is not known, and where cells are assumed to
        cover the image evenly.
    layout
        How its output is read; None: not known, and `reason` says why.
    field_source
        Whether the field was ``traced`` or ``assumed``; None: it is not known, or image-level units have none.
    reason
        Why its layout is not known.
    """

    name: str
    type: str
    units: int
    grid: Size | None
    field: ReceptiveField | None
    layout: Layout | None = None
    field_source: LayoutSource | None = None
    reason: str | None = None


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
    return tuple(_layers(trace(network), network, assumed).values())


def resolve_layers(network: Network, patterns: Sequence[str], assumed: Assumed = NOTHING_ASSUMED) -> tuple[Layer, ...]:
    """Return the layers that match names or globs, in the order of execution, each once.

    Parameters
    ----------
    network
        Runs once, on two images.
    patterns
        Exact names, or globs such as ``layer*.1``; an exact name is never read as a glob. A glob leaves out layers that
        cannot be dissected.
    assumed
        Layout and field of layers that cannot be traced to the image.

    Raises
    ------
    LayerError
        If a pattern matches no layer, or names a module whose output cannot be dissected.
    """
    traced, patterns = trace(network), one_or_more(patterns)
    # Reading a layout takes 5 ms: only layers that may match are read.
    candidates = [module for module in traced if any(_matches(name, patterns) for name in _names(module, network))]
    layers = {name: layer for name, layer in _layers(candidates, network, assumed).items() if layer.layout is not None}
    resolved: set[str] = set()
    for pattern in patterns:
        matches = [pattern] if pattern in layers else fnmatch.filter(layers, pattern)
        if not matches:
            raise LayerError(_no_match(pattern, network, traced, _layers(traced, network, assumed)))
        resolved.update(matches)
    return tuple(layer for name, layer in layers.items() if name in resolved)


def _names(traced: TracedModule, network: Network) -> list[str]:
    """Return the names of a layer and of its virtual layers."""
    return [traced.name, *(name for name, (source, _) in network.bases.items() if source == traced.name)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _layers(traced: Sequence[TracedModule], network: Network, assumed: Assumed) -> dict[str, Layer]:
    """Return layers by name, each followed by its virtual layers."""
    layers: dict[str, Layer] = {}
    for module in traced:
        if module.layout is None or module.shape is None or min(module.shape, default=0) == 0:
            continue
        layer = _layer(module, assumed)
        layers[layer.name] = layer
        if layer.layout is not None:
            layers |= _virtual(layer, network)
    return layers


def _virtual(layer: Layer, network: Network) -> dict[str, Layer]:
    bases = {name: matrix for name, (source, matrix) in network.bases.items() if source == layer.name}
    for name, matrix in bases.items():
        if matrix.ndim != 2 or matrix.shape[1] != layer.units or matrix.dtype != torch.float32:
            raise ShapeError(
                f"The basis {name!r} is {matrix.dtype} {tuple(matrix.shape)}; layer {layer.name!r} has {layer.units} "
                f"units. Expected a float32 matrix of {layer.units} columns."
            )
    described = replace(layer, type=f"basis of {layer.name}")
    return {name: replace(described, name=name, units=len(matrix)) for name, matrix in bases.items()}


def _layer(traced: TracedModule, assumed: Assumed) -> Layer:
    spatial, shape = traced.layout, traced.shape or ()
    reading = read_output(spatial) if spatial is not None else "it was not computed from the image"
    if isinstance(reading, str) and isinstance(spatial, UnknownLayout):
        reading = _assumed_reading(shape, assumed) or reading
    if isinstance(reading, str):
        return Layer(traced.name, traced.type, 0, None, None, reason=reading)
    field, source = reading.field, None if reading.field is None else reading.layout.source
    if reading.grid is not None and field is None and assumed.receptive_field is not None:
        field, source = _assumed_field(assumed), "assumed"
    return Layer(traced.name, traced.type, reading.units, reading.grid, field, reading.layout, source)


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


def _unreadable(module: TracedModule, layer: Layer | None) -> str:
    """Return why the output of a module cannot be read, and what to do."""
    shape = "no tensor" if module.shape is None else f"shape {module.shape} for {TRACED_IMAGES} images"
    reason = "" if module.shape is None else ", and it was not computed from the image"
    if layer is not None and module.shape is not None:
        reason = f", and {layer.reason}"
    remedy = (
        "if you know its layout, give it by --assume-layout NCHW, NHWC, tokens or tokens:PREFIX (in Python "
        "DissectConfig(assumed=Assumed(layout=...))), or "
        if isinstance(module.layout, UnknownLayout)
        else ""
    )
    return (
        f"its output has {shape}{reason}. Expected a feature map (batch, units, height, width), tokens of a grid "
        f"(batch, tokens, units) or (batch, units); {remedy}wrap the network in a 'python:module:factory' whose "
        "modules return one of these."
    )


def _no_match(pattern: str, network: Network, traced: Sequence[TracedModule], layers: dict[str, Layer]) -> str:
    of_network = f"of network {network.name!r}"
    module = next((module for module in traced if module.name == pattern), None)
    if module is not None:
        return f"Layer {pattern!r} {of_network} cannot be dissected: {_unreadable(module, layers.get(pattern))}"
    part = dict(network.module.named_modules(remove_duplicate=False)).get(pattern)
    if isinstance(part, torch.jit.ScriptModule):
        return (
            f"Layer {pattern!r} {of_network} cannot be dissected: it runs inside TorchScript, where nothing can be "
            "recorded. Expected the Python module from which it was scripted or traced, with its weights."
        )
    if part is not None:
        return (
            f"Layer {pattern!r} {of_network} cannot be dissected: it did not run in a forward pass (lists of modules "
            "and training-only heads do not). Expected a module that runs; run 'netdissect layers' to list them."
        )
    known = [name for name, layer in layers.items() if layer.layout is not None]
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4) or known[-3:]
    return (
        f"No layer {of_network} matches {pattern!r}; similar names: {', '.join(map(repr, near)) or 'none'}. "
        "Expected the dotted name of a module or a glob such as 'layer*'; run 'netdissect layers' to list them."
    )
