"""Modules that rearrange the values of one map, or apply any function; tests read their layouts."""

import torch
from torch import nn

from netdissect.concepts import Size
from netdissect.models import (
    ActivationRecorder,
    Layer,
    Network,
    Preprocessing,
    resolve_layers,
    survey_layers,
)

IMAGES = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))


class Rearranges(nn.Module):
    """A map of U units on 6 x 6 cells, and a rearrangement of it."""

    def __init__(self, move, units=6):
        super().__init__()
        self.map, self.move, self.out = nn.Conv2d(3, units, 8, 8), move, nn.Identity()

    def forward(self, x):
        """Return the map and its rearrangement."""
        return self.map(x), self.out(self.move(self.map(x)))


class Function(nn.Module):
    """Any function of the images and some layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers, self.out = function, nn.ModuleList(layers), nn.Identity()

    def forward(self, x):
        """Apply the function."""
        return self.out(self.function(x, *self.layers))


def network_of(module, size=(48, 48)):
    """A network of a module on images of 3 channels."""
    return Network("net", module, Preprocessing(Size(*size), (0.5,) * 3, (0.5,) * 3))


def survey(module, size=(48, 48)) -> dict[str, Layer]:
    """Every traced layer of a module, by name."""
    return {layer.name: layer for layer in survey_layers(network_of(module, size))}


def recorded(module, images=IMAGES):
    """Activations of the map and of what it becomes."""
    network = network_of(module, tuple(images.shape[2:]))
    with ActivationRecorder(network, resolve_layers(network, ["map", "out"])) as record:
        return record(images)


def tokens(x):
    """(B, U, h, w) -> tokens (B, h * w, U)."""
    return x.flatten(2).mT
