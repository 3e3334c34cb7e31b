"""What the explorer answers, as data: one model for each kind of JSON, from which its OpenAPI description is made."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from netdissect.config import Rule

State = Literal["detector", "below", "dead"]
Change = Literal["gained", "lost", "kept", "absent"]


class Response(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemDetails(Response):
    """Why there is no answer."""

    error: str = Field(description="Kind of error, as netdissect.errors names it.")
    message: str = Field(description="What was seen, what was expected, what to do.")


class CountsResponse(Response):
    """Detectors of one layer under one rule."""

    rule: Rule
    detectors: dict[str, int] = Field(description="By category, and 'total'.")
    unique_detectors: dict[str, int] = Field(description="Distinct concepts with a detector, by category, and 'total'.")


class LayerSummary(Response):
    """One layer of a run."""

    index: int
    name: str
    type: str
    units: int
    height: int = Field(description="Cells of a map.")
    width: int
    min_iou: float = Field(description="From which IoU on the run calls a unit of this layer a detector.")
    quantile_range: tuple[float, float] = Field(description="Quantiles for which thresholds are known.")


class RunSummary(Response):
    """One run."""

    id: str
    name: str
    network: str
    data: str = Field(description="Name of the data set's folder.")
    images: int
    concepts: int
    categories: tuple[str, ...]
    colors: dict[str, str] = Field(description="Color of each category, #RRGGBB.")
    quantiles: tuple[float, ...]
    created: str
    layers: tuple[LayerSummary, ...]
    why_no_network: str | None = Field(description="Why images cannot be looked at; null: they can.")


class LayerCountsResponse(Response):
    """Detectors of one layer at one of the run's quantiles and any IoU threshold, under both rules."""

    layer: int
    quantile: float
    min_iou: float
    units: int
    dead: int
    counts: tuple[CountsResponse, ...]


class TopImage(Response):
    """One of the images on which a unit is most active."""

    rank: int
    image_index: int = Field(description="Index row of the image in the data set.")
    image: str
    max_activation: float
    thumbnail: str = Field(description="Address of the image.")
    outline: str = Field(description="Where the unit is on: an SVG path in a square of 128 x 128, rule evenodd.")


class UnitBrief(Response):
    """One unit, its label measured at one of the run's quantiles."""

    unit: int
    label: str | None
    category: str | None
    iou: float
    state: State
    images: tuple[TopImage, ...]


class MaskLevel(Response):
    """The quantile of the masks that are shown."""

    quantile: float
    measured: float = Field(description="The run's quantile of labels and counts: the nearest to `quantile`.")
    exact: int = Field(description="Units whose threshold at `quantile` is exact; of the others it is approximate.")
    units: int


class UnitPage(Response):
    """Units of a layer, filtered and sorted."""

    masks: MaskLevel
    total: int = Field(description="Units that match.")
    offset: int
    units: tuple[UnitBrief, ...]


class ConceptScore(Response):
    """One unit and one concept."""

    concept: str
    category: str
    iou: float
    max_attainable_iou: float = Field(
        description="The largest IoU with the concept at this quantile, whatever the unit."
    )
    mask_attainable_iou: float = Field(description="The largest IoU that a mask of this size can reach.")
    intersection: int
    mask_pixels: int
    concept_pixels: int
    beside: dict[str, float] = Field(description="Scores beside IoU, such as auroc, as far as the run measured them.")


class Threshold(Response):
    """A unit's threshold at the quantile asked for."""

    value: float
    low: float = Field(description="The threshold certainly lies between `low` and `high`; equal where it is exact.")
    high: float
    exact: bool


class UnitDetailResponse(Response):
    """One unit in full."""

    run: str
    layer: int
    layer_name: str
    brief: UnitBrief
    masks: MaskLevel
    threshold: Threshold
    max_activation: float
    sure: dict[str, float] = Field(
        description="How sure the label is, as far as the run measured it: low, high, stability, p_value and others."
    )
    beside: dict[str, str] = Field(description="Columns of scores beside IoU that are there, and what they are called.")
    scores: tuple[ConceptScore, ...] = Field(description="Best concepts first.")


class ConceptFound(Response):
    """A concept in the runs shown."""

    concept: str
    category: str
    runs: tuple[str, ...]
    detectors: int = Field(description="Units over all layers and runs whose label it is and that pass.")
    best_iou: float
    best_run: str | None
    best_layer: int | None
    best_unit: int | None


class ConceptPage(Response):
    """Concepts that were searched for."""

    total: int
    offset: int
    concepts: tuple[ConceptFound, ...]


class ConceptUnit(Response):
    """A unit that meets a concept."""

    run: str
    layer: int
    layer_name: str
    unit: int
    iou: float
    max_attainable_iou: float
    detector: bool = Field(description="Whether the concept is its label and its IoU passes.")
    label: str | None


class ConceptInRun(Response):
    """How much of a run's images a concept covers."""

    run: str
    images: int
    coverage: float
    max_attainable_iou: float


class ConceptDetail(Response):
    """One concept over all runs."""

    concept: str
    category: str
    runs: tuple[ConceptInRun, ...]
    units: tuple[ConceptUnit, ...] = Field(description="Best first.")


class UploadedImage(Response):
    """An image that a network has looked at."""

    run: str
    image: str = Field(description="Its id: kept in memory for a while, and not written.")
    address: str
    width: int
    height: int


class FiringUnit(Response):
    """A unit that is on in an image."""

    unit: int
    label: str | None
    category: str | None
    state: State
    value: float = Field(description="Its largest activation in the image; with a point, the activation there.")
    share_above: float = Field(description="Share of its activations over the data set that lie above `value`.")
    area: float = Field(description="Share of the image in which it is on.")
    outline: str = Field(description="Where it is on: an SVG path in a square of 128 x 128, rule evenodd.")


class FiringConcept(Response):
    """A label that units which are on have in common."""

    concept: str
    category: str
    units: tuple[int, ...]
    area: float = Field(description="Share of the image in which at least one of them is on.")


class Explanation(Response):
    """Which units of a layer are on in an image, the rarest activation first."""

    image: UploadedImage
    layer: int
    masks: MaskLevel
    point: tuple[float, float] | None
    firing: int = Field(description="Units that are on.")
    units: tuple[FiringUnit, ...]
    concepts: tuple[FiringConcept, ...] = Field(description="Labels of detectors that are on, largest area first.")


class ComparedConcept(Response):
    """One concept in two layers."""

    concept: str
    category: str
    change: Change
    left_detectors: int | None
    left_unit: int | None
    left_iou: float | None
    right_detectors: int | None
    right_unit: int | None
    right_iou: float | None


class ComparedSide(Response):
    """One side of a comparison."""

    run: str
    layer: int
    layer_name: str
    units: int
    detectors: dict[str, int]
    unique_detectors: dict[str, int]


class ComparisonAnswer(Response):
    """Two layers side by side."""

    left: ComparedSide
    right: ComparedSide
    rule: Rule
    quantile: float
    min_iou: float
    same_data: bool
    changes: dict[Change, int]
    concepts: tuple[ComparedConcept, ...]


class MatchRequest(BaseModel):
    """Which layers' units are to be matched by activation."""

    model_config = ConfigDict(extra="forbid")

    left: str = Field(max_length=64)
    left_layer: int = Field(0, ge=0, le=10_000)
    right: str = Field(max_length=64)
    right_layer: int = Field(0, ge=0, le=10_000)


class MatchedUnits(Response):
    """The unit on the right whose maxima over common images go best with those of one on the left."""

    left_unit: int
    left_label: str | None
    right_unit: int
    right_label: str | None
    correlation: float = Field(description="Pearson's, of the largest activation in each image.")
    mutual: bool = Field(description="Whether each is the other's best.")


class Matching(Response):
    """Units matched by activation, or how far that has come."""

    id: str
    state: Literal["running", "done", "failed"]
    message: str
    images: int
    done: int
    total: int
    pairs: tuple[MatchedUnits, ...]


class RatingItem(Response):
    """What a rater is shown: never an IoU."""

    item: int = Field(description="Place in this rater's own order.")
    phrase: str
    images: tuple[TopImage, ...]


class RatingSession(Response):
    """How far a rater has come in one layer."""

    run: str
    layer: int
    rater: str
    done: int
    total: int
    can_undo: bool
    next: RatingItem | None = Field(description="Null: all are rated.")


class UndoRequest(BaseModel):
    """Whose last rating is to be taken back."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(max_length=64)
    layer: int = Field(ge=0, le=10_000)
    rater: str = Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")


class RatingAnswer(UndoRequest):
    """One rating."""

    item: int = Field(ge=0, le=2**31 - 1)
    rating: Literal["yes", "no", "skip"]


class RaterSummary(Response):
    """One rater in one layer."""

    run: str
    layer: str
    rater: str
    yes: int
    no: int
    skipped: int
    controls_rejected: int = Field(description="Wrong phrases that the rater answered with no.")
    controls: int = Field(description="Wrong phrases that the rater answered.")


class RatingSummary(Response):
    """All raters."""

    raters: tuple[RaterSummary, ...]
