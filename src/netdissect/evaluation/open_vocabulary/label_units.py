"""`netdissect.label`: a word of any list for each unit of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import Execution
from netdissect.evaluation.open_vocabulary.embedding_source import Embeddings, EmbeddingSource
from netdissect.evaluation.open_vocabulary.label_config import LabelConfig
from netdissect.evaluation.open_vocabulary.label_options import LabelOptions
from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS
from netdissect.evaluation.open_vocabulary.word_list import read_words
from netdissect.evaluation.open_vocabulary.word_statistics import WORD_LABELS, WordTest, word_labels
from netdissect.keywords import read_fields, takes_fields
from netdissect.progress import ShowProgress, shown
from netdissect.result import Result, image_means
from netdissect.result.result import check_is_run


@takes_fields(LabelConfig, LabelOptions)
def label(
    result: Result,
    words: Sequence[str] | str | Path,
    embeddings: Embeddings,
    *,
    config: LabelConfig | None = None,
    data_root: ConceptData | str | Path | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
    **options: Unpack[LabelOptions],
) -> pl.DataFrame:
    """Give each unit of a run the word of a list that describes its images best, as CLIP-Dissect does.

    Parameters
    ----------
    result
        A run that kept the mean activation of each unit on each image: `netdissect.dissect` with ``moments=True``.
    words
        A sequence of words or phrases, or a text file with one a line.
    embeddings
        What embeds images and words: ``transformers:NAME_OR_DIR``, ``python:package.module:factory``, the
        ``.safetensors`` file of a two-tower network, an
        `netdissect.evaluation.open_vocabulary.embedding_model.EmbeddingModel`; or their embeddings:
        ``IMAGES.npy,WORDS.npy``, a ``.safetensors`` file with the tensors images and words, or a pair of arrays float
        (N, D), a row for each row of ``index.csv`` or for each image of the run, and (W, D) in the order of the words.
    config
        Options as an object; single options below override its fields.
    data_root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.
    execution
        Its ``cache_folder`` keeps the embeddings of images; None: they are computed each time.
    progress
        As for `netdissect.dissect`.

    Returns
    -------
    DataFrame
        layer, unit, label, score, next_label and next_score, stability, p_value and q_value, selection_label,
        heldout_score and heldout_rank: see ``docs/howto/label-units-with-any-words.md``. A unit of the same mean
        activation on all images has no row.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = read_fields(label, LabelConfig, config, options)
    check_is_run(result)
    listed = read_words(words)
    names = list(dict.fromkeys(result.layer(name).info.name for name in config.layers or result.layers))
    means = {name: image_means(result, name) for name in names}
    test = WordTest(
        FUNCTIONS[config.function],
        config.holdout,
        config.bootstrap,
        config.permutations,
        result.info.config.statistics.stats_seed if config.stats_seed is None else config.stats_seed,
    )
    cache = (execution or Execution()).cache_folder
    source = EmbeddingSource(embeddings, config.embedding_batch, config.device, cache)
    with shown(progress) as display:
        space = source.space(result, listed, data_root, display)
        frames = []
        for name in names:
            frame = word_labels(means[name].astype(np.float64), space, listed, test, display)
            frames.append(frame.select(pl.lit(name).alias("layer"), pl.all()))
    return pl.concat(frames).select(list(WORD_LABELS))
