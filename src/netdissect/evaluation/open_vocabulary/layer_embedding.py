"""Embeddings of images by a layer of any network: the mean of its units over the cells of an image.

network:NETWORK#LAYER    of this layer
network:NETWORK          of the last layer of the last stage

NETWORK is as for `netdissect.training.open_network`, also with weights: NAME@FILE, or NAME@FILE#KEY before #LAYER.

They measure how alike images are to another network. Words have none.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from netdissect.dissect.devices import choose_device, torch_device
from netdissect.errors import ConfigError
from netdissect.models import ActivationRecorder, Layer, Network, Preprocessing, resolve_layers
from netdissect.models.as_network import refuse_without_images
from netdissect.training.load_trained import open_network

NETWORK = "network:"


class LayerEmbedding:
    """A layer as an `EmbeddingModel` of images alone.

    Parameters
    ----------
    network, layer
        The layer.
    device
        On which the network runs.

    Attributes
    ----------
    name, digest, preprocessing
        See `netdissect.evaluation.open_vocabulary.embedding_model.EmbeddingModel`.
    """

    def __init__(self, network: Network, layer: Layer, device: torch.device) -> None:
        self._network, self._layer, self._device = network, layer, device
        self.name = f"layer {layer.name} of {network.name}"
        self.digest = f"{network.digest}#{layer.name}"
        self.preprocessing: Preprocessing = network.preprocessing

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Return the means over cells of normalized images: float32 (B, C, H, W) to float32 (B, U)."""
        with self._network.prepared(self._device), ActivationRecorder(self._network, [self._layer]) as record:
            maps: Tensor = record(pixels.to(self._device))[self._layer.name]
        return maps.float().flatten(2).mean(dim=2).cpu()

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Refuse words, of which the layer of a network has no embeddings.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError(
            f"{self.name} embeds images, and no words such as {words[0]!r}. Expected a model of images and words, such "
            "as transformers:NAME_OR_DIR."
        )


def load_layer_embedding(spec: str, device: str = "auto") -> LayerEmbedding:
    """Load what ``network:NETWORK#LAYER`` names.

    Raises
    ------
    ConfigError
        If it names no layer or several.
    NetworkError, LayerError
        If there is no such network or layer, or the network takes no images.
    """
    text = spec.removeprefix(NETWORK)
    named, _, layer = text.rpartition("#") if "#" in text else (text, "", "")
    network = open_network(named)
    refuse_without_images(network, "Embedding images")
    found = resolve_layers(network, [layer or "auto"], all_matching=True)
    if layer and len(found) > 1:
        raise ConfigError(f"{layer!r} names {len(found)} layers of {named}. Expected one: network:NETWORK#LAYER.")
    return LayerEmbedding(network, found[-1], torch_device(choose_device(device, network)))
