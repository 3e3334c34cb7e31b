"""What an intervention does; loads neither torch nor polars, because the command line is made from it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from netdissect.config_fields import Config, Option

UNITS = (
    "top:N (the N units of highest IoU with the concept), ace:N (the N strongest, after strengths were optimized as in "
    "GAN Dissection), each (every unit alone), or unit numbers such as 4,17,20"
)


def _point(value: Any) -> Any:
    """Read X,Y that was written as a text."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError("expected X,Y in pixels of the output, from 0,0 at the top left")
    return tuple(int(part) for part in parts)


def _no_single(value: int) -> int:
    """Refuse a single sample, whose mean has no interval."""
    if value == 1:
        raise ValueError("expected 0, or at least 2 samples, so that means have intervals")
    return value


class AceConfig(Config):
    """How strengths of units are optimized; the defaults are those of the program of GAN Dissection (2019)."""

    search_samples: int = Field(
        10_000, ge=2, description="Samples in which cells with the concept are searched, and as many for cells without."
    )
    train_cells: int = Field(1_000, ge=1, description="Cells of either kind on which strengths are trained.")
    heldout_cells: int = Field(200, ge=0, description="Further cells of either kind, on which the loss is reported.")
    epochs: int = Field(10, ge=1, description="Times that the training cells are gone through.")
    learning_rate: float = Field(0.01, gt=0, description="Of Adam; strengths are clipped to 0 to 1 after each step.")
    penalty: float = Field(0.005, ge=0, description="Factor of the sum of squared strengths in the loss.")


class InterveneConfig(Config):
    """Which units of a generator are changed, and how."""

    concept: str = Field(description="A label of the segmenter, as the data set of the samples names it, or a color.")
    units: Annotated[str, Option(metavar="top:N|ace:N|each|LIST")] = Field("top:20", description=f"Units: {UNITS}.")
    how: Literal["ablate", "insert"] = Field(
        "ablate",
        description=(
            "ablate: the units are 0 everywhere. insert: they get a value in one cell of a sample: their threshold of "
            "the run, or that of --insert-quantile."
        ),
    )
    insert_quantile: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=(
            "Inserted units get the value that this fraction of their activations on the samples exceeds; published in "
            "2020: 0.005. None: their threshold of the run."
        ),
    )
    at: Annotated[tuple[int, int] | None, BeforeValidator(_point), Option(metavar="X,Y")] = Field(
        None, description="Insert at this pixel of the output. None: in each sample at another cell, drawn at random."
    )
    layer: str | None = Field(None, description="Layer whose units are changed. None: the only one of the run.")
    samples: int = Field(200, ge=2, description="Samples, the first of the run.")
    random_sets: int = Field(10, ge=1, description="Random sets of other units, of equal size.")
    map_samples: Annotated[int, AfterValidator(_no_single)] = Field(
        0, ge=0, description="Samples in which units are inserted at each place of a map, at most 8 x 8; 0: no map."
    )
    seed: Annotated[int, Option("--stats-seed")] = Field(0, ge=0, description="Of random sets and cells.")
    batch_size: int = Field(16, gt=0, description="Samples in a forward pass.")
    ace: Annotated[AceConfig, Option(panel="Optimization of strengths (--units ace:N)")] = Field(
        AceConfig(), description="How strengths are optimized."
    )
