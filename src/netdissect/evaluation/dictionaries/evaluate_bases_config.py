"""What `netdissect evaluate-bases` measures, as data: options, keywords and files are made from these fields."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from netdissect.config import DeviceName, OneOrMore
from netdissect.config_fields import Config, Option


class EvaluateBasesConfig(Config):
    """Which layers and bases are measured, and how they are compared."""

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer")] = Field(
        None, description="Only these layers of the run, bases of layers among them; None: all."
    )
    equal_units: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (),
        description=(
            "Also compare at this number of units: the directions of largest variance of a basis, and the latents of a "
            "sparse dictionary that are most often active; repeats."
        ),
    )
    equal_active: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (),
        description=(
            "Also compare at this L0: of each cell the largest absolute codes are kept. Sparse dictionaries stay as "
            "they are; repeats."
        ),
    )
    cells: int = Field(
        400_000, gt=0, description="Cells of each layer at most, an equal number of each image, drawn at random."
    )
    pool: Literal["mean", "max"] = Field(
        "mean", description="The value of a unit on an image, for scores by embeddings: mean or maximum over its cells."
    )
    replicates: int = Field(
        200, ge=20, le=10_000, description="Replicates of the bootstrap over images or units, for intervals."
    )
    embedding_batch: int = Field(32, gt=0, description="Images that are embedded at a time.")
    device: DeviceName = Field(
        "auto",
        description="Torch device of a model of transformers, such as cpu or cuda:1; auto: a GPU if there is one.",
    )
