"""Options of words for type checkers and editors. Written by ``docs/generate.py``: do not edit."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class LabelOptions(TypedDict, total=False):
    """Keywords of `netdissect.label`."""

    layer: str | Sequence[str] | None
    """Only these layers of the run; None: all."""

    function: Literal["soft-wpmi", "wpmi", "rank-reorder", "cos-cubed"]
    """Similarity of a unit and a word, as in CLIP-Dissect. soft-wpmi, wpmi: pointwise mutual information over the 100
    or 28 images of highest activation. rank-reorder: the order of the highest 5 %. cos-cubed: all images."""

    holdout: float | None
    """Choose words on the other images, too, and score them on this share of the images: the one that the run's own
    hold-out draws. None: not."""

    bootstrap: int
    """Replicates of the bootstrap over images, for the stability; 0: none."""

    permutations: int
    """Permutations of the images' embeddings against the activations, for p-values; 0: none."""

    stats_seed: int | None
    """Seed of held-out images, replicates and permutations; None: the run's."""

    embedding_batch: int
    """Images or words that are embedded at a time."""

    device: str
    """Torch device of a model of transformers, such as cpu or cuda:1; auto: a GPU if there is one."""
