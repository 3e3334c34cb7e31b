"""What a unit is: loading a network, its layers, their geometry, and recording their activations."""

from netdissect.models.checkpoints import load_checkpoint
from netdissect.models.geometry import Axis, ReceptiveField
from netdissect.models.layers import Layer, list_layers, resolve_layers, survey_layers
from netdissect.models.layout import Layout
from netdissect.models.load import load_network, reload_network
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.record import Recorder
from netdissect.models.tracing import Traced, trace

__all__ = [
    "Axis",
    "Layer",
    "Layout",
    "Network",
    "Preprocessing",
    "ReceptiveField",
    "Recorder",
    "Traced",
    "list_layers",
    "load_checkpoint",
    "load_network",
    "reload_network",
    "resolve_layers",
    "survey_layers",
    "trace",
]
