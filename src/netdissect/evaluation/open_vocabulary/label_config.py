"""What `netdissect label` computes, as data: options, keywords and files are made from these fields."""

from typing import Annotated, Literal

from pydantic import Field

from netdissect.config import DeviceName, Fraction, OneOrMore
from netdissect.config_fields import Config, Option

FunctionName = Literal["soft-wpmi", "wpmi", "rank-reorder", "cos-cubed"]


class LabelConfig(Config):
    """Which units get a word, by which function, and what is measured of the choice."""

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer")] = Field(
        None, description="Only these layers of the run; None: all."
    )
    function: FunctionName = Field(
        "soft-wpmi",
        description=(
            "Similarity of a unit and a word, as in CLIP-Dissect. soft-wpmi, wpmi: pointwise mutual information over "
            "the 100 or 28 images of highest activation. rank-reorder: the order of the highest 5 %. cos-cubed: all "
            "images."
        ),
    )
    holdout: Fraction | None = Field(
        0.5,
        description=(
            "Choose words on the other images, too, and score them on this share of the images: the one that the run's "
            "own hold-out draws. None: not."
        ),
    )
    bootstrap: int = Field(
        200, ge=0, le=100_000, description="Replicates of the bootstrap over images, for the stability; 0: none."
    )
    permutations: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Permutations of the images' embeddings against the activations, for p-values; 0: none.",
    )
    stats_seed: int | None = Field(
        None, ge=0, description="Seed of held-out images, replicates and permutations; None: the run's."
    )
    embedding_batch: int = Field(32, gt=0, description="Images or words that are embedded at a time.")
    device: DeviceName = Field(
        "auto",
        description="Torch device of a model of transformers, such as cpu or cuda:1; auto: a GPU if there is one.",
    )
