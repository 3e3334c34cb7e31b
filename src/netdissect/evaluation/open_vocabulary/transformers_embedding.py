"""Text-image models of transformers: CLIP, SigLIP and whatever has features of images and of texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from netdissect.dissect.devices import choose_device
from netdissect.errors import ConfigError, NetworkError
from netdissect.extras import need
from netdissect.models import Network, Preprocessing
from netdissect.models.model_zoos import hub_model

PADDED = "siglip"
"""Models whose type begins so were trained on texts that are padded to their full length, without a mask."""


@dataclass(eq=False)
class TransformersEmbedding:
    """A model of transformers with `get_image_features` and `get_text_features`.

    Attributes
    ----------
    name
        As it was named.
    network
        The whole model with its preprocessing.
    tokenizer
        Of transformers.
    device
        Where it runs.
    """

    name: str
    network: Network
    tokenizer: Any
    device: torch.device

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its image processor; the whole image is stretched."""
        return self.network.preprocessing

    @cached_property
    def digest(self) -> str:
        """SHA-256 of structure and weights, and of what the tokenizer makes of a text."""
        tokens = self.tokenizer("a zebra").input_ids
        return hashlib.sha256(f"{self.network.digest} {tokens}".encode()).hexdigest()

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Embed normalized images, float32 (B, C, H, W)."""
        model: Any = self.network.module
        pixels = pixels.to(self.device, self.network.dtype)
        return self._pooled(model.get_image_features(pixel_values=pixels), "image")

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed words as they are, without a prompt around them."""
        model: Any = self.network.module
        longest, padded = self._longest(model), model.config.model_type.startswith(PADDED)
        long = next((word for word in words if len(self.tokenizer(word).input_ids) > longest), None)
        if long is not None:
            raise ConfigError(
                f"{self.name} reads at most {longest} tokens, and {long[:60]!r} has "
                f"{len(self.tokenizer(long).input_ids)}. Expected shorter words or phrases: shorten it or leave it out."
            )
        padding = {"padding": "max_length", "max_length": longest} if padded else {"padding": True}
        tokens = self.tokenizer(list(words), **padding, return_tensors="pt")
        read = ("input_ids",) if padded else ("input_ids", "attention_mask")
        known = {key: tokens[key].to(self.device) for key in read}
        return self._pooled(model.get_text_features(**known), "text")

    def _longest(self, model: Any) -> int:
        text = getattr(model.config, "text_config", model.config)
        limits = [getattr(text, "max_position_embeddings", None), self.tokenizer.model_max_length]
        return int(min(limit for limit in limits if limit))

    def _pooled(self, features: Any, which: str) -> Tensor:
        pooled = getattr(features, "pooler_output", features)
        if not isinstance(pooled, Tensor) or pooled.ndim != 2:
            shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
            raise NetworkError(
                f"{self.name} gives {shape} as {which} features. Expected one vector for each (batch, D), as CLIP and "
                "SigLIP do; compute the embeddings yourself and give them as files."
            )
        return pooled.detach()


def load_transformers(name: str, device: str) -> TransformersEmbedding:
    """Load a model by its name on the hub, or from the folder where ``save_pretrained`` put model and processor.

    Raises
    ------
    NetworkError
        If it cannot be loaded, or has no features of both images and texts.
    MissingExtraError
        If transformers is not installed.
    """
    library = need("transformers", "transformers", f"--embeddings transformers:{name}")
    what, files = f"{name!r} as a model of images and texts", "model.safetensors, a tokenizer"
    with hub_model(name, what, files=files) as where:
        model, tokenizer, processor = _load(library, name, where)
    network = Network(f"transformers:{name}", model, Preprocessing.read(processor))
    chosen = torch.device(choose_device(device, network))
    model.to(chosen)
    return TransformersEmbedding(network.name, network, tokenizer, chosen)


def _load(library: ModuleType, name: str, where: dict[str, Any]) -> tuple[Any, Any, Any]:
    config = library.AutoConfig.from_pretrained(name, **where)
    model = library.AutoModel.from_pretrained(name, config=config, use_safetensors=True, **where).eval()
    lacking = [part for part in ("get_image_features", "get_text_features") if not hasattr(model, part)]
    if lacking:
        raise NetworkError(
            f"{type(model).__name__} of transformers:{name} has no {' and no '.join(lacking)}. Expected a model that "
            "embeds images and texts in one space, such as CLIP or SigLIP."
        )
    tokenizer = library.AutoTokenizer.from_pretrained(name, **where)
    processor = library.AutoImageProcessor.from_pretrained(name, **where)
    return model, tokenizer, processor
