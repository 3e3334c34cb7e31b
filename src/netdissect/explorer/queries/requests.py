"""Models of requests: query parameters of the addresses that take several, and bodies."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from netdissect.config import Rule
from netdissect.explorer.schemas import State
from netdissect.report.pages import PAGE_UNITS

LARGEST = 2**31 - 1
MOST_IMAGES = 25

RunId = Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
LayerIndex = Annotated[int, Field(ge=0, le=10_000, description="Index of a layer in the run, from 0.")]
QuantileOrOwn = Annotated[
    float | None, Field(gt=0, lt=1, description="Share of activations above the threshold; default: the run's first.")
]
LimitOrOwn = Annotated[float | None, Field(ge=0, lt=1, description="IoU of a detector; default: the run's.")]
Rating = Literal["yes", "no", "skip"]
CellIndex = Annotated[int, Field(ge=0, lt=65_536)]
MOST_STRENGTH = 8
"""Units can be moved beyond their threshold, to this multiple of the way."""
COORDINATE = r"(0|1|0\.[0-9]{1,9})"


class RequestModel(BaseModel):
    """Base of all models of requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Order = Literal["iou", "unit", "label", "similarity", "average_precision", "monosemanticity", "clarity", "iqr"]


class UnitsQuery(RequestModel):
    """Filters, order and masks of a list of units."""

    quantile: QuantileOrOwn = None
    min_iou: LimitOrOwn = None
    q: str = Field("", max_length=100, description="Part of a label or word in any case, or a unit index.")
    category: list[str] = Field([], max_length=20, description="Only labels of these categories.")
    state: State | None = Field(None, description="Only units in this state; default: all.")
    sort: Order = Field(
        "iou",
        description=(
            "similarity: to the words of `q`, which then filter nothing, by the embeddings of the explorer. "
            "average_precision, monosemanticity, clarity: in the newest `netdissect evaluate-bases` of the run; iqr: "
            "of a run with `--iqr`; where it was not measured, by IoU."
        ),
    )
    offset: int = Field(0, ge=0, le=LARGEST)
    limit: int = Field(24, ge=1, le=200)
    images: int = Field(6, ge=0, le=MOST_IMAGES, description="Top images of each unit.")


class LayerPageQuery(UnitsQuery):
    """The same for the page of a layer."""

    limit: int = Field(PAGE_UNITS, ge=1, le=960, description="Number of units, as many as going back may need.")
    charts: bool = Field(False, description="Whether the page has the layer's charts, which no control changes.")


class SegmentationQuery(RequestModel):
    """Layer and masks of a segmented image."""

    layer: LayerIndex = 0
    quantile: QuantileOrOwn = None


class ImageQuery(SegmentationQuery):
    """Filters and masks of the list of units that are active in an image."""

    at: str | None = Field(
        None,
        pattern=f"^{COORDINATE},{COORDINATE}$",
        description="Only units active at this point: x,y as shares of width and height.",
    )
    limit: int = Field(24, ge=1, le=200)
    images: int = Field(3, ge=0, le=MOST_IMAGES, description="Top images of each unit.")

    @property
    def point(self) -> tuple[float, float] | None:
        """The point; None: anywhere."""
        if self.at is None:
            return None
        left, _, top = self.at.partition(",")
        return float(left), float(top)


class ChosenUnits(RequestModel):
    """Units of one layer: some by index, or all detectors of a concept."""

    layer: int = Field(0, ge=0, le=10_000)
    quantile: QuantileOrOwn = None
    units: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...] = Field((), max_length=10_000)
    concept: str | None = Field(None, max_length=200, description="All detectors of this concept instead.")


class AblationRequest(ChosenUnits):
    """Units of one layer that are ablated."""

    classes: int = Field(5, ge=1, le=100, description="Most probable classes that are listed.")


class EditRequest(ChosenUnits):
    """Units of one layer of a generator that are changed in a sample, everywhere or in some cells."""

    how: Literal["ablate", "insert"] = Field(
        "ablate",
        description="ablate: units are moved towards 0. insert: towards their threshold at the quantile of the run "
        "that is nearest to `quantile`.",
    )
    strengths: tuple[Annotated[float, Field(ge=0, le=MOST_STRENGTH)], ...] = Field(
        (1.0,),
        min_length=1,
        max_length=8,
        description="How far: 0 is no change, with 1 units are 0 or their threshold. One image for each.",
    )
    cells: tuple[tuple[CellIndex, CellIndex], ...] | None = Field(
        None, min_length=1, max_length=65_536, description="Rows and columns of the cells that are changed; null: all."
    )


class ComparisonQuery(RequestModel):
    """Two layers, and the definition of a detector."""

    left: RunId
    left_layer: LayerIndex = 0
    right: RunId
    right_layer: LayerIndex = 0
    quantile: QuantileOrOwn = None
    min_iou: LimitOrOwn = None
    rule: Rule = "top-label"


class MatchQuery(RequestModel):
    """Two layers whose units are matched by activation."""

    left: str = Field(max_length=64)
    left_layer: int = Field(0, ge=0, le=10_000)
    right: str = Field(max_length=64)
    right_layer: int = Field(0, ge=0, le=10_000)


class UndoRequest(RequestModel):
    """The rater and layer whose last rating is undone."""

    run: str = Field(max_length=64)
    layer: int = Field(ge=0, le=10_000)
    rater: str = Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")


class RatingRequest(UndoRequest):
    """One rating."""

    item: int = Field(ge=0, le=2**31 - 1)
    rating: Rating
