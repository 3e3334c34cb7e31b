"""What can be asked of the explorer, as data: the query of each address that takes several values."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from netdissect.config import Rule
from netdissect.explorer.schemas import State

LARGEST = 2**31 - 1
MOST_IMAGES = 25

RunId = Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64, description="A run's id.")]
LayerIndex = Annotated[int, Field(ge=0, le=10_000, description="A layer's place in the run, from 0.")]
QuantileOrOwn = Annotated[
    float | None, Field(gt=0, lt=1, description="Share of activations above the threshold; default: the run's first.")
]
LimitOrOwn = Annotated[float | None, Field(ge=0, lt=1, description="IoU of a detector; default: the run's.")]
COORDINATE = r"(0|1|0\.[0-9]{1,9})"


class Query(BaseModel):
    """Base of all queries."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UnitsQuery(Query):
    """Which units of a layer, in which order, under which masks."""

    quantile: QuantileOrOwn = None
    min_iou: LimitOrOwn = None
    q: str = Field("", max_length=100, description="Part of a label in any case, or a unit's number.")
    category: list[str] = Field([], max_length=20, description="Only labels of these categories.")
    state: State | None = Field(None, description="Only these; default: all.")
    sort: Literal["iou", "unit", "label"] = "iou"
    offset: int = Field(0, ge=0, le=LARGEST)
    limit: int = Field(24, ge=1, le=200)
    images: int = Field(6, ge=0, le=MOST_IMAGES, description="Top images of each unit.")


class ImageQuery(Query):
    """Which units that fire in an image, or at a point of it."""

    layer: LayerIndex = 0
    quantile: QuantileOrOwn = None
    at: str | None = Field(
        None, pattern=f"^{COORDINATE},{COORDINATE}$", description="A point: shares from the left and from the top."
    )
    limit: int = Field(24, ge=1, le=200)

    @property
    def point(self) -> tuple[float, float] | None:
        """The point, or None: anywhere."""
        if self.at is None:
            return None
        left, _, top = self.at.partition(",")
        return float(left), float(top)


class ComparisonQuery(Query):
    """Which two layers, and what makes a detector."""

    left: RunId
    left_layer: LayerIndex = 0
    right: RunId
    right_layer: LayerIndex = 0
    quantile: QuantileOrOwn = None
    min_iou: LimitOrOwn = None
    rule: Rule = "top-label"
