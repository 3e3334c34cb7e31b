"""Activation maps of single images: the network of a finished run on an image, as in the dissection.

network_pixels(image, run.info.network)             the whole image, stretched to the input of the network
image_maps(network, layers, pixels, config)         float32 (B, U, h, w) of each layer
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from netdissect.activations.image_batches import fit_to_input
from netdissect.concepts import Size
from netdissect.config import DissectConfig
from netdissect.dissect.devices import number_format
from netdissect.models import ActivationRecorder, Layer, Network, Preprocessing, exact_patterns, resolve_layers
from netdissect.result import NetworkInfo, RunInfo

Maps = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def run_layers(network: Network, info: RunInfo) -> tuple[Layer, ...]:
    """Return the layers of a run in its network, in the order of the run."""
    names = exact_patterns([layer.name for layer in info.layers])
    return tuple(resolve_layers(network, names, info.config.assumed))


def network_pixels(image: Image.Image, network: NetworkInfo, origin: str = "the image") -> Pixels:
    """Stretch a whole image to the input size of a run's network: uint8 (C, H, W), not normalized.

    Raises
    ------
    NetworkError
        If the image does not have the number of channels that the network expects.
    """
    preprocessing = Preprocessing(Size(*network.size), network.mean, network.std, network.interpolation)
    return np.ascontiguousarray(fit_to_input(image, preprocessing, origin).transpose(2, 0, 1))


def image_maps(network: Network, layers: Sequence[Layer], pixels: Pixels, config: DissectConfig) -> dict[str, Maps]:
    """Return the activation maps of layers on images, in the number format of a run.

    Parameters
    ----------
    network
        Of the run.
    layers
        Some of its layers.
    pixels : uint8 (B, C, H, W)
        Images of the size of its input; see `network_pixels`.
    config
        Of the run.

    Returns
    -------
    dict of float32 (B, U, h, w)
        By the name of the layer.
    """
    with network.prepared():
        images = network.preprocessing.normalize(torch.from_numpy(pixels).to(network.device))
        with ActivationRecorder(network, layers) as recorder, number_format(network.device, config):
            recorded = recorder(images)
    return {name: values.float().cpu().contiguous().numpy() for name, values in recorded.items()}
