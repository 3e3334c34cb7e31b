"""Labels of units from embeddings of images and words: of the concepts of a run, the one whose word fits best.

The function is CLIP-Dissect's cos cubed, which takes any number of images; the word is chosen on the selection half.
"""

import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.evaluation.open_vocabulary.embedding_model import EmbeddingModel
from netdissect.evaluation.open_vocabulary.label_units import label
from netdissect.result import Result
from netdissect.training.two_towers.captions import word_of
from netdissect.training.two_towers.two_tower import TwoTower, tokens_of

EMBEDDING = "embedding label"


def embedding_labels(
    run: Result, data: ConceptData, model: EmbeddingModel, progress: Progress | None = None
) -> pl.DataFrame:
    """Label the units of a run.

    Parameters
    ----------
    run
        It has moments.
    data
        Its data set.
    model
        Embeds its images and the words of its concepts; a two-tower network those that its captions had.
    progress
        Receives images and words.

    Returns
    -------
    DataFrame
        layer, unit, label: a word.
    """
    words = tuple(dict.fromkeys(word_of(name) for name in run.concepts["concept"].cast(pl.String)))
    if isinstance(model, TwoTower):
        words = tuple(word for word in words if set(tokens_of(word)) <= set(model.vocabulary))
    found = label(
        run,
        words,
        model,
        function="cos-cubed",
        holdout=run.info.config.statistics.holdout_share,
        bootstrap=0,
        permutations=0,
        data_root=data,
        progress=progress or False,
    )
    return found.select("layer", "unit", pl.col("selection_label").alias("label"))
