"""Load a network, list its layers with their layouts and receptive fields, and record activations.

    as_network(module, preprocessing), load_network(name) -> Network
    list_layers (layers, receptive_field/) -> Layer: units, map size, receptive field
    find_structure (structure/) -> stages, blocks and hidden neurons; resolve_layers (layer_patterns) chooses layers
    ActivationRecorder(network, layers)(images) -> activations of each layer

`load` reads weights by `checkpoints`; `preprocessing` reads those of torchvision, timm and transformers.
`run_module` runs a user's module and restores it, `determinism` compares repeated passes, `surgery/` ablates units.
"""

from netdissect.models.activation_recorder import ActivationRecorder
from netdissect.models.as_network import as_network
from netdissect.models.checkpoints import load_checkpoint
from netdissect.models.layer_patterns import exact_patterns, resolve_layers
from netdissect.models.layers import Layer, list_layers, survey_layers
from netdissect.models.load import load_network, reload_network
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.axis_layout import Layout
from netdissect.models.receptive_field.trace import TracedModule, trace
from netdissect.models.structure.stages import Stage, Structure, find_structure

__all__ = [
    "ActivationRecorder",
    "Layer",
    "Layout",
    "Network",
    "Preprocessing",
    "ReceptiveField",
    "ReceptiveFieldAxis",
    "Stage",
    "Structure",
    "TracedModule",
    "as_network",
    "exact_patterns",
    "find_structure",
    "list_layers",
    "load_checkpoint",
    "load_network",
    "reload_network",
    "resolve_layers",
    "survey_layers",
    "trace",
]
