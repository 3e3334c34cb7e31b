"""Words of units in the explorer: those of a label file, and the similarity of any word to each unit.

The similarity is CLIP-Dissect's cos cubed, which needs no other words; see
`netdissect.evaluation.open_vocabulary.similarity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, RequestError
from netdissect.evaluation.label_files import check_units, layer_sizes, read_label_file
from netdissect.evaluation.open_vocabulary.embed import embed_images
from netdissect.evaluation.open_vocabulary.embedding_files import Floats, unit_vectors
from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource
from netdissect.evaluation.open_vocabulary.similarity import centered_cubes
from netdissect.result import Result, image_means


@dataclass(frozen=True)
class UnitWords:
    """The words of one run.

    Attributes
    ----------
    labels
        Word of each unit by layer and unit, as a label file has them; may be empty.
    search
        Finds units by any word; None: no embeddings were given.
    """

    labels: Mapping[str, Mapping[int, str]]
    search: "WordSearch | None" = None

    @classmethod
    def open(
        cls,
        result: Result,
        labels: str | Path | None,
        source: EmbeddingSource | None,
        data_root: str | Path | None,
    ) -> "UnitWords":
        """Read a label file, and embed the images of a run.

        Raises
        ------
        NetdissectError
            If the file is none, names other layers or units, or the images cannot be embedded.
        """
        read: dict[str, dict[int, str]] = {}
        if labels is not None:
            frame = check_units(layer_sizes(result), str(labels), read_label_file(labels), list(result.layers))
            for layer, unit, word in frame.select("layer", "unit", "label").iter_rows():
                read.setdefault(layer, {})[unit] = word
        return cls(read, None if source is None else WordSearch.open(result, source, data_root))

    def similarity(self, layer: str, text: str) -> Floats:
        """Return the similarity of words to each unit of a layer, float64 (U,).

        Raises
        ------
        RequestError
            If the explorer has no embeddings, or none for these words.
        """
        if self.search is None:
            raise RequestError(
                "this explorer has no embeddings to sort units by words. Start it with 'netdissect serve RUN "
                "--embeddings SPEC', of a run with --moments."
            )
        try:
            return self.search.similarity(layer, text.strip())
        except ConfigError as error:
            raise RequestError(str(error)) from error

    def of_layer(self, layer: str) -> Mapping[int, str]:
        """Return the words of the units of a layer."""
        return self.labels.get(layer, {})


NO_WORDS = UnitWords({})


@dataclass(eq=False)
class WordSearch:
    """Similarity of any word to the units of a run.

    Attributes
    ----------
    result
        The run.
    source
        Its model embeds words.
    images
        Embeddings of the run's images, of length 1.
    """

    result: Result
    source: EmbeddingSource
    images: Floats
    _cubes: dict[str, Floats] = field(default_factory=dict, init=False, repr=False)
    _found: dict[tuple[str, str], Floats] = field(default_factory=dict, init=False, repr=False)
    _lock: Any = field(default_factory=Lock, init=False, repr=False)

    @classmethod
    def open(cls, result: Result, source: EmbeddingSource, data_root: str | Path | None) -> "WordSearch":
        """Embed the images of a run.

        Raises
        ------
        ConfigError
            If the embeddings are fixed, so that no word can be embedded.
        NetdissectError
            If the run kept no means of images, or the model cannot embed them.
        """
        model = source.model
        if model is None:
            raise ConfigError(
                "the explorer embeds the words that are typed, and these embeddings are fixed. Expected a model: "
                "transformers:NAME_OR_DIR, python:package.module:factory or the file of a two-tower network."
            )
        search = cls(result, source, np.empty((0, 0)))
        for name in result.layers:
            search.cubes(name)
        embedded = embed_images(model, data_of(result.info, data_root), source.batch_size, source.cache_folder)
        search.images = unit_vectors(embedded, result.info.data.images, "the embeddings of images", "image")
        return search

    def cubes(self, layer: str) -> Floats:
        """Return the centered cubes of the image means of a layer, float32 (N, U)."""
        if layer not in self._cubes:
            means = image_means(self.result, layer).astype(np.float64)
            self._cubes[layer] = centered_cubes(means, np.ones(len(means))).astype(np.float32)
        return self._cubes[layer]

    def similarity(self, layer: str, word: str) -> Floats:
        """Return the similarity of a word and each unit of a layer, float64 (U,), from -1 to 1.

        Raises
        ------
        ConfigError
            If the word has no embedding.
        """
        with self._lock:
            if (layer, word) not in self._found:
                embedded = unit_vectors(self.source.embed((word,)), 1, "the embeddings of words", "word")
                cosines = (self.images @ embedded[0].astype(self.images.dtype))[:, None]
                of_word = centered_cubes(cosines.astype(np.float64), np.ones(len(cosines)))
                while len(self._found) >= 256:
                    del self._found[next(iter(self._found))]
                self._found[layer, word] = (self.cubes(layer).T @ of_word)[:, 0].astype(np.float64)
            return self._found[layer, word]
