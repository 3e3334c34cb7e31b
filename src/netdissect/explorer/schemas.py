"""Models of responses: one for each kind of JSON; the OpenAPI description is generated from them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from netdissect.config import Rule
from netdissect.report.views.unit_views import UnitDetail, UnitView

State = Literal["detector", "below", "dead"]
Change = Literal["gained", "lost", "kept", "absent"]
IOU_TEXT = "The IoU as text, with as many decimals as show whether it reaches the limit of a detector."


class Response(BaseModel):
    """Base of all responses."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemDetails(Response):
    """An error."""

    error: str = Field(description="Class of the error in netdissect.errors.")
    message: str = Field(description="What was received, what was expected, and what to do.")


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
    basis_of: str | None = Field(description="Layer of which it is another basis; null: it is a layer of the network.")
    units: int
    height: int = Field(description="Cells of a map.")
    width: int
    min_iou: float = Field(description="IoU from which the run counts a unit of this layer as a detector.")
    quantile_range: tuple[float, float] = Field(description="Range of quantiles at which thresholds can be given.")
    url: str = Field(description="Its page; that of unit 5 is u5.html beside it.")


class RunSummary(Response):
    """One run."""

    id: str
    name: str
    network: str
    data: str = Field(description="Name of the data set's folder.")
    images: int
    data_index: int = Field(description="Index of the data set, as in /images/INDEX/5.webp.")
    concepts: int
    categories: tuple[str, ...]
    colors: dict[str, str] = Field(description="Color of each category, #RRGGBB.")
    quantiles: tuple[float, ...]
    created: str
    layers: tuple[LayerSummary, ...]
    samples: bool = Field(description="Whether it is a run of a generator, whose images are its own samples.")
    inference_unavailable: str | None = Field(description="Why the network cannot be run on images; null: it can.")


class LayerCountsResponse(Response):
    """Detectors of one layer at one of the run's quantiles and any IoU threshold, under both rules."""

    layer: int
    quantile: float
    min_iou: float
    units: int
    dead: int
    counts: tuple[CountsResponse, ...]


class MaskLevel(Response):
    """The quantile of the masks."""

    quantile: float
    measured: float = Field(description="The run's quantile nearest to `quantile`: that of labels and counts.")
    exact: int = Field(description="Number of units whose threshold at `quantile` is exact, not interpolated.")
    units: int

    @computed_field(description="Both in words.")  # type: ignore[prop-decorator]
    @property
    def note(self) -> str:
        """Say which thresholds are exact, and at which quantile labels and counts were measured."""
        if self.quantile == self.measured:
            return "Measured by the run: masks, labels and counts are of the same quantile."
        approximate = self.units - self.exact
        noun, verb = ("threshold", "is") if approximate == 1 else ("thresholds", "are")
        exactness = f"The {noun} of {approximate:,} of {self.units:,} units {verb} interpolated."
        return (
            f"Labels and counts remain those measured at {100 * self.measured:.3g} %. "
            f"{exactness if approximate else 'All thresholds are exact.'}"
        )


class UnitWord(Response):
    """What is known of a unit from a label file and from embeddings."""

    word: str | None = Field(description="Its word in the label file of the explorer; null: it has none.")
    similarity: float | None = Field(
        description="To the words that were searched for, from -1 to 1; null: not searched."
    )


class UnitPage(Response):
    """Units of a layer, filtered and sorted."""

    masks: MaskLevel
    bar_end: float = Field(description="IoU at which the bars of the layer's units end: beyond each of them.")
    total: int = Field(description="Number of units that match.")
    offset: int
    units: tuple[UnitView, ...]
    words: dict[int, UnitWord] = Field(description="By unit; empty without --labels and --embeddings.")


class Threshold(Response):
    """A unit's threshold at the requested quantile."""

    value: float
    low: float = Field(description="`low` and `high` bound the threshold; they are equal if it is exact.")
    high: float
    exact: bool


class DecoderNeighbor(Response):
    """A unit of a dictionary whose decoder direction is close to that of another one."""

    unit: int
    label: str | None = Field(description="null: it has none, or is dead.")
    iou: float
    cosine: float = Field(description="Of both directions, from -1 to 1.")
    url: str | None = Field(description="Its page.")


class UnitDetailResponse(Response):
    """One unit in full."""

    run: str
    layer: int
    layer_name: str
    masks: MaskLevel
    threshold: Threshold
    summary: UnitView
    detail: UnitDetail
    decoder_neighbors: tuple[DecoderNeighbor, ...] = Field(
        description="Of a unit of a dictionary (sae, nmf): the units of the closest decoder directions."
    )


class ConceptSummary(Response):
    """A concept in all runs."""

    concept: str
    category: str
    url: str = Field(description="Its page.")
    runs: tuple[str, ...]
    detectors: int = Field(description="Number of detectors of the concept in all layers and runs.")
    best_iou: float
    best_iou_text: str = Field(description=IOU_TEXT)
    best_run: str | None
    best_layer: int | None
    best_unit: int | None


class ConceptPage(Response):
    """Concepts that match a search."""

    total: int
    offset: int
    concepts: tuple[ConceptSummary, ...]


class ConceptUnit(Response):
    """A unit and its IoU with a concept."""

    run: str
    layer: int
    layer_name: str
    unit: int
    url: str = Field(description="Its page.")
    iou: float
    iou_text: str = Field(description=IOU_TEXT)
    detector: bool = Field(description="Whether the unit is a detector of the concept.")
    label: str | None


class ConceptInRun(Response):
    """Share of a run's images and pixels that a concept covers."""

    run: str
    images: int
    pixel_share: float
    max_attainable_iou: float


class ConceptDetail(Response):
    """One concept over all runs."""

    concept: str
    category: str
    url: str = Field(description="Its page.")
    runs: tuple[ConceptInRun, ...]
    units: tuple[ConceptUnit, ...] = Field(description="In descending order of IoU.")


class ProcessedImageResponse(Response):
    """An image on which a network was run."""

    run: str
    id: str = Field(description="Id of the image, valid while it is kept in memory.")
    url: str
    width: int
    height: int


class ActiveUnit(Response):
    """A unit that is active in an image."""

    summary: UnitView
    value: float = Field(description="Its largest activation in the image, or its activation at the point.")
    share_above: float = Field(description="Share of its activations over the data set above `value`.")
    area: float = Field(description="Share of the image in which it is active.")
    outline: str = Field(description="Where it is active: an SVG path in `view_box`, rule evenodd.")
    view_box: str = Field(description="The box of `outline`, as SVG writes it: two units for each pixel of a mask.")


class ActiveConcept(Response):
    """The active detectors of one concept."""

    concept: str
    category: str
    units: tuple[int, ...]
    area: float = Field(description="Share of the image in which at least one of them is active.")


class ImageDetail(Response):
    """Units of a layer that are active in an image, the rarest activation first."""

    image: ProcessedImageResponse
    layer: int
    masks: MaskLevel
    point: tuple[float, float] | None
    active: int = Field(description="Number of units that are active.")
    units: tuple[ActiveUnit, ...]
    concepts: tuple[ActiveConcept, ...] = Field(description="Labels of active detectors, largest area first.")


class ComparedConcept(Response):
    """One concept in two layers."""

    concept: str
    category: str
    url: str = Field(description="Its page.")
    change: Change
    left_detectors: int | None
    left_unit: int | None
    left_iou: float | None
    left_iou_text: str | None = Field(description=IOU_TEXT)
    right_detectors: int | None
    right_unit: int | None
    right_iou: float | None
    right_iou_text: str | None = Field(description=IOU_TEXT)


class ComparedSide(Response):
    """One side of a comparison."""

    run: str
    layer: int
    layer_name: str
    units: int
    detectors: dict[str, int]
    unique_detectors: dict[str, int]


class ComparisonResponse(Response):
    """Comparison of two layers."""

    left: ComparedSide
    right: ComparedSide
    rule: Rule
    quantile: float
    min_iou: float
    same_data: bool
    sentences: tuple[str, ...] = Field(
        description="Unique detectors of both sides and their difference, with intervals and permutation null."
    )
    changes: dict[Change, int]
    concepts: tuple[ComparedConcept, ...]


class MatchedUnits(Response):
    """A unit on the left, and the unit on the right whose largest activations correlate best with its own."""

    left_unit: int
    left_label: str | None
    right_unit: int
    right_label: str | None
    correlation: float = Field(description="Pearson's correlation of the largest activations in each image.")
    mutual: bool = Field(description="Whether each unit is the best match of the other.")


class Matching(Response):
    """Units of two layers matched by activation."""

    images: int = Field(description="Images over which activations are correlated.")
    unmatched: int = Field(description="Units on the left without a match: dead, or of the same maximum on all images.")
    pairs: tuple[MatchedUnits, ...] = Field(description="Highest correlation first.")


class RatedImage(Response):
    """An image that a rater sees."""

    url: str = Field(description="Address of the image.")
    size: tuple[int, int] = Field(description="Height and width of the grid of the mask.")
    unit: str | None = Field(description="Where the unit is active: an SVG path, two units for each pixel of the mask.")


class RatingItem(Response):
    """What a rater sees: never an IoU."""

    item: int = Field(description="Index in this rater's order.")
    phrase: str
    images: tuple[RatedImage, ...]


class RatingSession(Response):
    """Progress of a rater in one layer."""

    run: str
    layer: int
    rater: str
    done: int
    total: int
    can_undo: bool
    next: RatingItem | None = Field(description="Next item; null if all are rated.")


class RaterSummary(Response):
    """Counts of one rater's ratings in one layer."""

    run: str
    layer: str
    rater: str
    yes: int
    no: int
    skipped: int
    controls_rejected: int = Field(description="Controls that the rater rated no.")
    controls: int = Field(description="Controls that the rater rated yes or no.")


class RatingSummary(Response):
    """All raters."""

    raters: tuple[RaterSummary, ...]
