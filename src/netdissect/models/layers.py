"""Which layers a network has, and which of them are meant."""

import difflib
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from netdissect.concepts import Size
from netdissect.config import one_or_more
from netdissect.errors import LayerError, ShapeError
from netdissect.models.geometry import ReceptiveField
from netdissect.models.network import Network
from netdissect.models.places import HORIZONTAL, VERTICAL, Dim, Place, cells
from netdissect.models.tracing import Traced, trace


@dataclass(frozen=True)
class Layer:
    """A module whose output can be dissected.

    Attributes
    ----------
    name
        Dotted name of the module.
    kind
        Name of its class.
    units
        Channels of its output, or columns of a (B, U) output.
    grid
        Height and width of its feature map in cells; None if its units speak of the whole image.
    field
        Receptive field of its cells, traced; None for whole-image units or where it cannot be told.
    """

    name: str
    kind: str
    units: int
    grid: Size | None
    field: ReceptiveField | None


def list_layers(network: Network) -> tuple[Layer, ...]:
    """Return every module whose output can be dissected, in the order of execution.

    Returns
    -------
    tuple of Layer
        Modules with a feature map (B, U, h, w) or (B, h, w, U), with tokens (B, T, U) that lie on a grid (class and
        register tokens dropped), or with whole-image units (B, U). A module that runs several times in a
        forward pass stands where it last runs, with its last output.

    Raises
    ------
    NetworkError
        If the network fails on its own input size.
    """
    return tuple(_layers(trace(network), network).values())


def resolve_layers(network: Network, patterns: Sequence[str]) -> tuple[Layer, ...]:
    """Return the layers that names or globs stand for, in the order of execution, each once.

    Parameters
    ----------
    network
        Runs once.
    patterns
        Exact names, or globs as in ``layer*.1``; an exact name is never read as a glob.

    Raises
    ------
    LayerError
        If a pattern matches no layer, or names a module whose output cannot be dissected.
    """
    traced = trace(network)
    layers = _layers(traced, network)
    chosen: set[str] = set()
    for pattern in one_or_more(patterns):
        matches = [pattern] if pattern in layers else fnmatch.filter(layers, pattern)
        if not matches:
            raise LayerError(_why_not(pattern, network, traced, list(layers)))
        chosen.update(matches)
    return tuple(layer for name, layer in layers.items() if name in chosen)


def _layers(traced: Sequence[Traced], network: Network) -> dict[str, Layer]:
    """Return layers by name, each followed by the virtual ones that are made from it."""
    layers: dict[str, Layer] = {}
    for one in traced:
        layer = _layer(one, network)
        if layer is not None:
            layers[layer.name] = layer
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
    kind = f"basis of {layer.name}"
    return {name: replace(layer, name=name, kind=kind, units=len(matrix)) for name, matrix in bases.items()}


def _why_not(pattern: str, network: Network, traced: Sequence[Traced], layers: Sequence[str]) -> str:
    of_network = f"of network {network.name!r}"
    seen = next((t for t in traced if t.name == pattern), None)
    if seen is not None:
        shape = "no tensor" if seen.shape is None else f"shape {seen.shape} for one image"
        remedy = (
            "wrap the network in a 'python:module:factory' whose modules return one of these"
            if seen.shape is None or len(seen.shape) != 3
            else "its tokens lie on no square grid behind the class and register tokens: wrap the network in a "
            "'python:module:factory' that returns them as a feature map"
        )
        return (
            f"Layer {pattern!r} {of_network} cannot be dissected: its output has {shape}. Expected a feature map "
            f"(batch, units, height, width), tokens of a square grid (batch, tokens, units) or (batch, units); "
            f"{remedy}."
        )
    if pattern in dict(network.module.named_modules()):
        return (
            f"Layer {pattern!r} {of_network} cannot be dissected: it did not run in a forward pass (lists of modules "
            "and training-only heads do not). Expected a module that runs; run 'netdissect layers' to list them."
        )
    near = difflib.get_close_matches(pattern, layers, n=3, cutoff=0.4) or list(layers[-3:])
    return (
        f"No layer {of_network} matches {pattern!r}; near it are {', '.join(map(repr, near)) or 'none'}. "
        "Expected the dotted name of a module or a glob such as 'layer*'; run 'netdissect layers' to list them."
    )


def _layer(traced: Traced, network: Network) -> Layer | None:
    shape, place = traced.shape, traced.place
    if not traced.of_image or shape is None or not 2 <= len(shape) <= 4 or shape[0] != 1 or min(shape) == 0:
        return None
    if len(shape) == 2:
        return Layer(traced.name, traced.kind, shape[1], None, None)
    if place is None:
        units, grid = (shape[1], Size(*shape[2:])) if len(shape) == 4 else (shape[2], _square(shape[1], network))
    else:
        units, grid = _placed(place, shape)
    return Layer(traced.name, traced.kind, units, grid, place.field if place else None) if grid else None


def _placed(place: Place, shape: tuple[int, ...]) -> tuple[int, Size | None]:
    """Tell units from cells by where the picture's directions lie."""
    vertical, horizontal = ([i for i, dim in enumerate(place.dims) if _has(dim, kind)] for kind in "vh")
    if len(shape) == 3:
        inner = cells(place.dims[1])
        kinds = [atom.kind for atom in inner]
        on_grid = kinds == [VERTICAL, HORIZONTAL] and vertical == horizontal == [1]
        return shape[2], Size(inner[0].length, inner[1].length) if on_grid else None
    if set(vertical) <= {2} and set(horizontal) <= {3}:
        return shape[1], Size(shape[2], shape[3])
    if set(vertical) <= {1} and set(horizontal) <= {2}:
        return shape[3], Size(shape[1], shape[2])
    return 0, None


def _has(dim: Dim, kind: str) -> bool:
    return any(atom.kind == kind for atom in cells(dim))


def _square(tokens: int, network: Network) -> Size | None:
    """Guess the grid of tokens whose way from the picture could not be followed."""
    known = getattr(network.module, "num_prefix_tokens", None)
    for prefix in (0, 1) if known is None else (known,):
        side = math.isqrt(max(tokens - prefix, 0))
        if side > 0 and side * side == tokens - prefix:
            return Size(side, side)
    return None
