"""Embeddings of the images of a data set and of words, computed by a model and cached.

Images are read as the dissected network reads them: whole, stretched to the size of the model's input.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from netdissect.activations import ImageReader
from netdissect.activations.image_batches import batch_starts
from netdissect.caches.cache_folder import EMBEDDINGS, is_readable, make_room, mark_used, new_part
from netdissect.checksums import append_checksum, check_file
from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.errors import ShapeError
from netdissect.evaluation.open_vocabulary.embedding_files import Floats
from netdissect.evaluation.open_vocabulary.embedding_model import EmbeddingModel


@torch.no_grad()
def embed_images(
    model: EmbeddingModel,
    data: ConceptData,
    batch_size: int,
    cache_folder: Path | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Embed all images of a data set in index order, float (N, D).

    Parameters
    ----------
    model
        Embeds them.
    data
        The data set.
    batch_size
        Images at a time.
    cache_folder
        Where the embeddings stay for the next time; None: they are computed each time.
    progress
        Receives images (``embedding images``).
    """

    def compute() -> Floats:
        reader, parts, done = ImageReader(data, model.preprocessing), [], 0
        for batch in reader.batches(batch_starts(len(data), batch_size)):
            pixels = model.preprocessing.normalize(torch.from_numpy(batch.pixels))
            parts.append(_checked(model.embed_images(pixels), len(batch.pixels), model.name, "image"))
            done += len(batch.pixels)
            if progress:
                progress("embedding images", done, len(data))
        return np.concatenate(parts)

    if cache_folder is None or not model.digest:
        return compute()
    path = EMBEDDINGS.path(cache_folder, (data.digest, model.digest, model.preprocessing, torch.__version__))
    kept = _read(path, len(data))
    if kept is None:
        kept = compute()
        _keep(path, kept, cache_folder)
    return kept


@torch.no_grad()
def embed_words(
    model: EmbeddingModel, words: Sequence[str], batch_size: int, progress: Progress | None = None
) -> Floats:
    """Embed words, float (W, D).

    Parameters
    ----------
    model
        Embeds them.
    words
        As they are, without a prompt.
    batch_size
        Words at a time.
    progress
        Receives words (``embedding words``).
    """
    parts = []
    for start in batch_starts(len(words), batch_size):
        some = words[start : start + batch_size]
        parts.append(_checked(model.embed_words(some), len(some), model.name, "word"))
        if progress:
            progress("embedding words", start + len(some), len(words))
    return np.concatenate(parts)


def _checked(embedded: object, count: int, name: str, what: str) -> Floats:
    """Return embeddings as float32 or float64 on this side of the device."""
    if isinstance(embedded, Tensor):
        embedded = (
            embedded.detach().to("cpu", torch.float64 if embedded.dtype == torch.float64 else torch.float32).numpy()
        )
    if not isinstance(embedded, np.ndarray) or embedded.ndim != 2 or len(embedded) != count:
        shape = embedded.shape if isinstance(embedded, np.ndarray) else type(embedded).__name__
        raise ShapeError(
            f"{name} gave {shape} as the embeddings of {count} {what}s. Expected one row for each, ({count}, D)."
        )
    return embedded


def _read(path: Path, count: int) -> Floats | None:
    if not is_readable(path, "images are embedded again"):
        return None
    try:
        with path.open("rb") as file:
            check_file(file)
            kept: Floats = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if kept.ndim != 2 or len(kept) != count or kept.dtype.kind != "f":
        return None
    mark_used(path)
    return kept


def _keep(path: Path, embedded: Floats, folder: Path) -> None:
    try:
        make_room(EMBEDDINGS, folder, embedded.nbytes)
        part = new_part(path)
        with part.open("w+b") as file:
            np.save(file, embedded)
            append_checksum(file)
        part.replace(path)
    except OSError:
        return  # a full or read-only cache changes nothing: they are computed again next time
