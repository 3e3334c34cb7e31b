"""A two-tower network: an image encoder and a word encoder with one space, and its file.

The image tower is a scene network whose linear layer gives the embedding. The word tower is the mean of the vectors of
the tokens of a text, and a linear layer. Only tokens of the captions of the training have a vector.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from netdissect.close_matches import did_you_mean
from netdissect.errors import ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.training.scene_net import TrainConfig, preprocessing, scene_network
from netdissect.training.weights_file import as_checkpoint_error, fact_names, read_weights, write_weights

KIND, VOCABULARY = "two_tower", "vocabulary"
"""Facts of the file: the configuration of the training, and the tokens."""
DIMENSIONS = 64


class WordTower(nn.Module):
    """The embedding of a text: the mean of the vectors of its tokens, and a linear layer.

    Parameters
    ----------
    tokens
        Number of tokens.
    dimensions
        Of the embedding.
    """

    def __init__(self, tokens: int, dimensions: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, dimensions)
        self.linear = nn.Linear(dimensions, dimensions)

    def forward(self, shares: Tensor) -> Tensor:
        """Embed texts, given the share of each token in each: float32 (W, tokens) to (W, D)."""
        embedded: Tensor = self.linear(shares @ self.tokens.weight)
        return embedded


class Towers(nn.Module):
    """Both towers.

    Parameters
    ----------
    train_config
        Convolutions and seed.
    tokens, dimensions
        See `WordTower`.
    """

    def __init__(self, train_config: TrainConfig, tokens: int, dimensions: int = DIMENSIONS) -> None:
        super().__init__()
        self.images = scene_network(
            train_config.units, seed=train_config.seed, classes=dimensions, batch_norm=train_config.batch_norm
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(train_config.seed)
            self.words = WordTower(tokens, dimensions)


@dataclass(frozen=True)
class TwoTower:
    """A trained two-tower network, as `netdissect.label` takes it.

    Attributes
    ----------
    towers
        In evaluation mode.
    train_config
        What made it.
    vocabulary
        Its tokens.
    name
        In messages.
    """

    towers: Towers
    train_config: TrainConfig
    vocabulary: tuple[str, ...]
    name: str = "two-tower network"

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes its input."""
        return preprocessing(self.train_config.size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of structure and weights."""
        return Network(self.name, self.towers, self.preprocessing).digest

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        """Embed normalized images, float32 (B, 3, H, W) to (B, D)."""
        embedded: Tensor = self.towers.images(pixels)
        return embedded

    @torch.no_grad()
    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed words or captions, float32 (W, D).

        Raises
        ------
        ConfigError
            If one holds a token that no caption of the training had.
        """
        embedded: Tensor = self.towers.words(token_shares(words, self.vocabulary, self.name))
        return embedded


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a text.

    >>> tokens_of("Street lamp, dog")
    ['street', 'lamp', 'dog']
    """
    return re.findall(r"\w+", text.lower())


def token_shares(texts: Sequence[str], vocabulary: Sequence[str], name: str) -> Tensor:
    """Return the share of each token of the vocabulary in each text, float32 (W, tokens).

    Raises
    ------
    ConfigError
        If a text has none, or one that the vocabulary has not; `name` is that of the network.
    """
    index = {token: number for number, token in enumerate(vocabulary)}
    shares = torch.zeros(len(texts), len(vocabulary))
    without = [text for text in texts if not tokens_of(text) or not index.keys() >= set(tokens_of(text))]
    if without:
        known = next((token for token in tokens_of(without[0]) if token not in index), "")
        raise ConfigError(
            f"{name} has no embedding for {len(without)} of {len(texts)} words: {', '.join(map(repr, without[:5]))}"
            f"{', ...' if len(without) > 5 else ''}. Expected words made of the {len(vocabulary)} tokens of its "
            "captions."
            f"{did_you_mean(known, vocabulary)} Leave these words out, or take a model that reads any text."
        )
    for row, text in zip(shares, texts, strict=True):
        for token in tokens_of(text):
            row[index[token]] += 1 / len(tokens_of(text))
    return shares


def is_two_tower(path: str | Path) -> bool:
    """Tell whether a file holds a two-tower network; False also where it cannot be read."""
    try:
        return KIND in fact_names(path)
    except (OSError, safetensors.SafetensorError):
        return False


def save_two_tower(model: TwoTower, path: str | Path) -> Path:
    """Write weights, configuration and vocabulary as one ``.safetensors`` file."""
    facts = {KIND: model.train_config.model_dump(mode="json"), VOCABULARY: model.vocabulary}
    return write_weights(path, model.towers, facts)


def load_two_tower(path: str | Path) -> TwoTower:
    """Read what `save_two_tower` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or was not written by `save_two_tower`.
    """
    with as_checkpoint_error(
        path,
        "a two-tower network that save_two_tower wrote",
        missing="Train one with netdissect.training.train_two_tower.",
        damaged="Expected such a file, or embeddings as tensors named images and words; train it again.",
    ):
        weights, (config, tokens) = read_weights(path, KIND, VOCABULARY)
        train_config, vocabulary = TrainConfig.model_validate(config), tuple(map(str, tokens))
        towers = Towers(train_config, *weights["words.tokens.weight"].shape).eval()
        towers.load_state_dict(weights)
        return TwoTower(towers, train_config, vocabulary, Path(path).name)
