"""Resolve names, globs and the words auto, blocks and mlp to layers."""

import difflib
import fnmatch
import glob
from collections.abc import Iterable, Sequence

import torch

from netdissect.config import Assumed, one_or_more
from netdissect.errors import LayerError
from netdissect.models.layers import NOTHING_ASSUMED, layers_by_name
from netdissect.models.network import Network
from netdissect.models.receptive_field.spatial_layout import UnknownLayout
from netdissect.models.receptive_field.trace import TRACED_IMAGES, TracedModule, trace
from netdissect.models.structure.layer import Layer
from netdissect.models.structure.stages import Structure, structure_of

LAYER_SETS = ("auto", "blocks", "mlp")
"""Words for layers that are found by the structure of a network."""
MOST_MATCHES = 20
"""Layers that a glob may match without being asked."""


def exact_patterns(names: Iterable[str]) -> tuple[str, ...]:
    """Return patterns that match exactly these layers, also where one is called like a set of layers.

    >>> exact_patterns(["layer4", "blocks"])
    ('layer4', '[b]locks')
    """
    return tuple(f"[{name[0]}]{glob.escape(name[1:])}" if name in LAYER_SETS else name for name in names)


def resolve_layers(
    network: Network,
    patterns: Sequence[str],
    assumed: Assumed = NOTHING_ASSUMED,
    *,
    all_matching: bool = False,
) -> tuple[Layer, ...]:
    """Return the layers that match names, globs or sets of layers, in the order of execution, each once.

    Parameters
    ----------
    network
        Runs once, on two images.
    patterns
        Exact names, globs such as ``layer?.1``, or the sets ``auto`` (the end of each stage), ``blocks`` and ``mlp``
        of `find_structure`. An exact name is never read as a glob. A glob leaves out layers that cannot be dissected.
    assumed
        Layout and field of layers that cannot be traced to the image.
    all_matching
        Whether a glob may match more than 20 layers.

    Raises
    ------
    LayerError
        If a pattern matches no layer, names a module whose output cannot be dissected, is a glob that matches more than
        20 layers, or is a set of layers and the structure of the network is not known.
    """
    traced, patterns = trace(network), one_or_more(patterns)
    sets = {name: _layer_set(name, network, traced, assumed) for name in LAYER_SETS if name in patterns}
    # Reading a layout takes 5 ms: only layers that may match are read.
    wanted = (*patterns, *exact_patterns(name for names in sets.values() for name in names))
    candidates = [module for module in traced if any(_matches(name, wanted) for name in _names(module, network))]
    layers = {
        name: layer for name, layer in layers_by_name(candidates, network, assumed).items() if layer.layout is not None
    }
    resolved: set[str] = set()
    for pattern in patterns:
        matches = sets.get(pattern) or ([pattern] if pattern in layers else fnmatch.filter(layers, pattern))
        if not matches:
            raise LayerError(_no_match(pattern, network, traced, layers_by_name(traced, network, assumed)))
        if len(matches) > MOST_MATCHES and pattern not in sets and not all_matching:
            raise LayerError(_too_many(pattern, matches, structure_of(network, traced, assumed)))
        resolved.update(matches)
    return tuple(layer for name, layer in layers.items() if name in resolved)


def _layer_set(name: str, network: Network, traced: Sequence[TracedModule], assumed: Assumed) -> list[str]:
    """Return the names of the layers of ``auto``, ``blocks`` or ``mlp``."""
    structure = structure_of(network, traced, assumed)
    found = structure.layers(name)
    if found:
        return [layer.name for layer in found]
    if name == "mlp" and structure.stages:
        raise LayerError(
            f"network {network.name!r} has no hidden MLP neurons: no block of it has a layer between two linear "
            "layers. Expected a network with perceptrons in its blocks, such as a vision transformer; name layers, or "
            "use auto or blocks."
        )
    raise LayerError(
        f"the structure of network {network.name!r} is not known, so {name!r} means nothing for it: no module with a "
        "feature map is followed by another one of its kind, and no convolution has a feature map that can be "
        "dissected. Expected the names of its layers; 'netdissect layers' lists them."
    )


def _too_many(pattern: str, matches: Sequence[str], structure: Structure) -> str:
    stages = ",".join(layer.name for layer in structure.layers("auto"))
    instead = (
        f"name the layers (the end of each stage, as with --layer auto: {stages})" if stages else "name the layers"
    )
    return (
        f"{pattern!r} matches {len(matches)} layers, from {matches[0]!r} to {matches[-1]!r}; a glob also matches the "
        f"parts of modules. Expected at most {MOST_MATCHES}: {instead}, or take them all with --all-matching (in "
        "Python all_matching=True)."
    )


def _names(traced: TracedModule, network: Network) -> list[str]:
    """Return the names of a layer and of its virtual layers."""
    return [traced.name, *(name for name, basis in network.bases.items() if basis.source == traced.name)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _unreadable(module: TracedModule, layer: Layer | None, source: str) -> str:
    """Return why the output of a module cannot be read, and what to do."""
    shape = "no tensor" if module.shape is None else f"shape {module.shape} for {TRACED_IMAGES} images"
    reason = "" if module.shape is None else f", and it was not computed from the {source}"
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
        source = "latent: it is the same for every sample" if network.draws else "image"
        reason = _unreadable(module, layers.get(pattern), source)
        return f"Layer {pattern!r} {of_network} cannot be dissected: {reason}"
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
        "Expected the dotted name of a module, a glob, or auto, blocks or mlp; run 'netdissect layers' to list them."
    )
