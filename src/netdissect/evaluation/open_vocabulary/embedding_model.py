"""What embeds images and words in one space, by its spec.

transformers:NAME_OR_DIR          CLIP, SigLIP and others: transformers_embedding.py
python:package.module:factory     an object of the user's, with the attributes and methods of `EmbeddingModel`
FILE.safetensors                  a two-tower network of netdissect.training.two_towers
network:NETWORK#LAYER             a layer of any network, where words are not needed: layer_embedding.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from netdissect.errors import ConfigError
from netdissect.evaluation.open_vocabulary.layer_embedding import NETWORK, load_layer_embedding
from netdissect.evaluation.open_vocabulary.transformers_embedding import load_transformers
from netdissect.models import Preprocessing
from netdissect.models.factory import call_factory
from netdissect.training.two_towers.two_tower import is_two_tower, load_two_tower

PYTHON, TRANSFORMERS = "python:", "transformers:"
EXPECTED = (
    "Expected transformers:NAME_OR_DIR (CLIP, SigLIP), python:package.module:factory, a .safetensors file of a "
    "two-tower network, or embeddings in files: IMAGES.npy,WORDS.npy"
)


@runtime_checkable
class EmbeddingModel(Protocol):
    """What a factory returns: an image encoder and a text encoder with one space.

    Attributes
    ----------
    name
        In messages.
    digest
        A text that changes with its weights, by which the embeddings of images are cached; empty: they are not.
    preprocessing
        How an image becomes its input. The whole image is stretched to it, as for the network that is dissected.
    """

    @property
    def name(self) -> str:
        """See the class."""

    @property
    def digest(self) -> str:
        """See the class."""

    @property
    def preprocessing(self) -> Preprocessing:
        """See the class."""

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Return the embeddings of normalized images: float32 (B, C, H, W) to float (B, D)."""

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Return the embeddings of words: float (W, D)."""


def load_embedding_model(spec: str, device: str = "auto") -> EmbeddingModel:
    """Load what a spec names.

    Parameters
    ----------
    spec
        See the module.
    device
        Of a model of transformers.

    Raises
    ------
    ConfigError
        If it names nothing that embeds.
    NetworkError, CheckpointError
        If it cannot be loaded.
    """
    if spec.startswith(TRANSFORMERS):
        return load_transformers(spec.removeprefix(TRANSFORMERS), device)
    if spec.startswith(NETWORK):
        return load_layer_embedding(spec, device)
    if spec.startswith(PYTHON):
        return check_model(call_factory(spec, "model", "an object with embed_images and embed_words"), spec)
    if spec.endswith(".safetensors"):
        return load_two_tower(spec)
    raise ConfigError(f"the embeddings cannot be {spec!r}. {EXPECTED}.")


def check_model(model: object, origin: str) -> EmbeddingModel:
    """Return a model of the user's if it has what an `EmbeddingModel` has.

    Raises
    ------
    ConfigError
        If it lacks something.
    """
    if not isinstance(model, EmbeddingModel):
        parts = ("name", "digest", "preprocessing", "embed_images", "embed_words")
        lacking = [part for part in parts if not hasattr(model, part)]
        raise ConfigError(
            f"{origin} gave a {type(model).__name__} without {', '.join(lacking)}. Expected an object with "
            f"{', '.join(parts)}: see netdissect.evaluation.open_vocabulary.embedding_model.EmbeddingModel."
        )
    if not isinstance(model.preprocessing, Preprocessing):
        raise ConfigError(
            f"the preprocessing of {origin} is a {type(model.preprocessing).__name__}. Expected a "
            "netdissect.Preprocessing(size, mean, std)."
        )
    return model


def embedding_files(spec: str) -> tuple[Path, ...] | None:
    """Return the files of embeddings that a spec names; None: it names a model.

    Raises
    ------
    ConfigError
        If it names one file of embeddings of images or words alone, or more than two.
    """
    if spec.startswith((PYTHON, TRANSFORMERS, NETWORK)):
        return None
    parts = [part for part in spec.split(",") if part]
    if len(parts) == 1 and spec.endswith(".safetensors"):
        return None if is_two_tower(spec) else (Path(spec),)
    if len(parts) == 2 and all(part.endswith((".npy", ".safetensors")) for part in parts):
        return Path(parts[0]), Path(parts[1])
    if parts and all(part.endswith(".npy") for part in parts):
        raise ConfigError(
            f"the embeddings {spec} are {len(parts)} file{'s' * (len(parts) > 1)}. Expected two, those of the images "
            "and those of the words: IMAGES.npy,WORDS.npy."
        )
    return None
