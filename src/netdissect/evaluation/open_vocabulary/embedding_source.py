"""Where the embeddings of a run's images and of words come from: a model, its spec, files or arrays."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, ShapeError
from netdissect.evaluation.open_vocabulary.embed import embed_images, embed_words
from netdissect.evaluation.open_vocabulary.embedding_files import (
    Floats,
    read_embeddings,
    read_image_embeddings,
    unit_vectors,
)
from netdissect.evaluation.open_vocabulary.embedding_model import (
    EmbeddingModel,
    check_model,
    embedding_files,
    load_embedding_model,
)
from netdissect.evaluation.open_vocabulary.embedding_rows import rows_of_data, rows_of_run
from netdissect.evaluation.open_vocabulary.similarity import WordSpace
from netdissect.models import Network
from netdissect.result import Result

Embeddings = EmbeddingModel | str | Path | tuple[npt.ArrayLike, npt.ArrayLike] | npt.NDArray[Any]
"""A model, a spec, or embeddings of images and of words; where words are not needed, also those of images alone."""


@dataclass(frozen=True, eq=False)
class EmbeddingSource:
    """Embeddings as a user gave them.

    Attributes
    ----------
    given
        A model, a spec of `netdissect.evaluation.open_vocabulary.embedding_model`, the spec of files of
        `netdissect.evaluation.open_vocabulary.embedding_files`, or a pair of arrays: images and words. For `images`
        also one ``.npy`` file, or one array.
    batch_size
        Images or words that a model embeds at a time.
    device
        Of a model of transformers.
    cache_folder
        Where a model's embeddings of images stay; None: they are computed each time.
    """

    given: Embeddings
    batch_size: int = 32
    device: str = "auto"
    cache_folder: Path | None = None

    @cached_property
    def model(self) -> EmbeddingModel | None:
        """What embeds; None: the embeddings themselves were given.

        Raises
        ------
        NetdissectError
            If it cannot be loaded.
        """
        if isinstance(self.given, tuple) or self._files is not None:
            return None
        if isinstance(self.given, str | Path):
            return load_embedding_model(str(self.given), self.device)
        return check_model(self.given, "embeddings")

    def space(
        self,
        result: Result,
        words: tuple[str, ...],
        data_root: ConceptData | str | Path | None = None,
        progress: Progress | None = None,
    ) -> WordSpace:
        """Return the embeddings of a run's images and of words, of length 1.

        Parameters
        ----------
        result, data_root
            The run and its data set.
        words
            The words, in the order of embeddings that were given.
        progress
            Receives images and words that are embedded.

        Raises
        ------
        NetdissectError
            If they cannot be had, are of another count or width, or hold NaN or zero vectors.
        """
        if self.model is not None:
            of_words = self.embed(words, progress)  # first: it takes less, and a word may have no embedding
            of_images = embed_images(
                self.model, data_of(result.info, data_root), self.batch_size, self.cache_folder, progress
            )
        else:
            given, of_words = self._arrays
            of_images = rows_of_run(given, result.info, data_root)
        return word_space(of_images, of_words, result.info.data.images, len(words))

    def images(
        self, result: Result, data_root: ConceptData | str | Path | None = None, progress: Progress | None = None
    ) -> Floats:
        """Return the embeddings of a run's images alone, of length 1.

        Raises
        ------
        NetdissectError
            As `space` does.
        """
        embedded = self._given_images
        if embedded is None:
            data = data_of(result.info, data_root)
            embedded = embed_images(self._known_model, data, self.batch_size, self.cache_folder, progress)
        chosen = rows_of_run(embedded, result.info, data_root)
        return unit_vectors(chosen, result.info.data.images, "the embeddings of images", "image")

    def check_images(self, network: Network, data: ConceptData) -> None:
        """Load what embeds images, or check their embeddings, so that a mistake is found before anything long runs.

        Parameters
        ----------
        network
            The dissected network.
        data
            The dissected images.

        Raises
        ------
        NetdissectError
            If it cannot be loaded or read, is the dissected network itself, or the embeddings are those of another
            number of images or hold NaN or zero vectors.
        """
        given = self._given_images
        if given is not None:
            unit_vectors(rows_of_data(np.asarray(given), data), len(data), "the embeddings of images", "image")
        else:
            self._refuse_own(self._known_model, network)

    @property
    def _given_images(self) -> npt.ArrayLike | None:
        """The embeddings of images; None: a model embeds them."""
        if isinstance(self.given, np.ndarray):
            return self.given
        if self._image_files is not None:
            return read_image_embeddings(self._image_files)
        return self._arrays[0] if self.model is None else None

    @property
    def _image_files(self) -> Path | None:
        """The file of the embeddings of images, if a file was given."""
        if not isinstance(self.given, str | Path):
            return None
        spec = str(self.given)
        if spec.endswith(".npy") and "," not in spec:
            return Path(spec)
        return None if self._files is None else self._files[0]

    def _refuse_own(self, model: EmbeddingModel, network: Network) -> None:
        spec = None if network.source is None else network.source.spec
        digest = str(model.digest).partition("#")[0]  # that of a layer begins with that of its network
        own = (network.digest, replace(network, bases={}).digest)
        if (spec is not None and str(self.given) == spec) or digest in own:
            raise ConfigError(
                f"the embeddings would be those of {network.name!r}, the dissected network: its units would agree "
                "with them by construction. Expected another model."
            )

    def embed(self, words: tuple[str, ...], progress: Progress | None = None) -> Floats:
        """Embed words by the model.

        Raises
        ------
        ConfigError
            If there is none, or a word has no embedding.
        """
        return embed_words(self._known_model, words, self.batch_size, progress)

    @property
    def _known_model(self) -> EmbeddingModel:
        """What embeds."""
        if self.model is None:
            raise ConfigError(
                "these embeddings are fixed: no other word can be embedded. Expected a model, such as "
                "transformers:NAME, in place of its embeddings."
            )
        return self.model

    @cached_property
    def _files(self) -> tuple[Path, ...] | None:
        return embedding_files(str(self.given)) if isinstance(self.given, str | Path) else None

    @property
    def _arrays(self) -> tuple[Floats, Floats]:
        if self._files is not None:
            return read_embeddings(self._files)
        if not isinstance(self.given, tuple) or len(self.given) != 2:
            raise ConfigError("embeddings are no pair of arrays. Expected those of the images and those of the words.")
        images, words = self.given
        return np.asarray(images), np.asarray(words)


def word_space(images: npt.ArrayLike, words: npt.ArrayLike, num_images: int, num_words: int) -> WordSpace:
    """Check embeddings and divide them by their lengths.

    Raises
    ------
    ShapeError
        If they are of another count, of two widths, or hold NaN or zero vectors.
    """
    of_images = unit_vectors(images, num_images, "the embeddings of images", "image")
    of_words = unit_vectors(words, num_words, "the embeddings of words", "word")
    if of_images.shape[1] != of_words.shape[1]:
        raise ShapeError(
            f"the embeddings of images have {of_images.shape[1]} numbers each and those of words {of_words.shape[1]}. "
            "Expected both from one model, which embeds them in one space."
        )
    kind = np.result_type(of_images, of_words)
    return WordSpace(of_images.astype(kind), of_words.astype(kind))
