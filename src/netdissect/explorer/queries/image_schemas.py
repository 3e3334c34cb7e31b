"""Models of responses about one image on which a network was run."""

from typing import Literal

from pydantic import Field

from netdissect.explorer.schemas import MaskLevel, ProcessedImageResponse, Response


class SegmentResponse(Response):
    """One concept in a segmented image."""

    concept: str
    category: str
    units: tuple[int, ...] = Field(description="Its detectors that are active in the image.")
    color: str = Field(description="Color of the segment, #RRGGBB.")
    color_name: str
    share: float = Field(description="Share of the image in which its most active detector is of this concept.")
    active_share: float = Field(description="Share of the image in which at least one of its detectors is active.")
    path: str = Field(description="The segment: an SVG path in `view_box`, rule evenodd.")
    union_path: str = Field(description="Where at least one of its detectors is active: an SVG path of the same kind.")


class SegmentationResponse(Response):
    """An image segmented by the detectors of one layer."""

    image: ProcessedImageResponse
    layer: int
    layer_name: str
    masks: MaskLevel
    unlabeled: float = Field(description="Share of the image in which no detector is active.")
    view_box: str = Field(description="The box of all paths, as SVG writes it: two units for each pixel of a mask.")
    segments: tuple[SegmentResponse, ...] = Field(description="Largest share first.")
    figures: dict[Literal["svg", "png"], str] = Field(description="Addresses of the figure with its legend.")


class ClassScore(Response):
    """One class, with all units and with some ablated."""

    index: int = Field(description="Index of the output, from 0.")
    name: str | None = Field(description="Name of the class; null: not known.")
    probability: float
    ablated_probability: float
    score: float = Field(description="The output of the network.")
    ablated_score: float


class AblationResponse(Response):
    """The classes of a classifier on one image, with all units and with some units of one layer ablated."""

    image: ProcessedImageResponse
    layer: int
    layer_name: str
    units: tuple[int, ...] = Field(description="The ablated units: their activations are 0 everywhere.")
    concept: str | None = Field(description="The concept whose detectors these are; null: they were named by index.")
    mode: Literal["linear", "partial", "full"] = Field(description="How much of the network ran again.")
    outputs: int = Field(description="Number of classes.")
    classes: tuple[ClassScore, ...] = Field(
        description="The most probable classes with all units and with the units ablated, by the former."
    )


class ConceptArea(Response):
    """How much of a sample shows a concept, as the segmenter labels it."""

    concept: str
    category: str
    before: float = Field(description="Share of the image, all units as they are.")
    after: float = Field(description="Share of the image with the change.")


class EditedSample(Response):
    """A sample of a generator with units changed at one strength."""

    strength: float
    image: str = Field(description="A PNG file as a data URL.")
    difference: str = Field(
        description="The largest change of a channel of each pixel, a PNG file as a data URL: white is `largest_change`"
    )
    largest_change: int = Field(description="Levels, of 255; the scale of `difference`.")
    changed: float = Field(description="Share of pixels that are not the same.")
    areas: tuple[ConceptArea, ...] | None = Field(
        description="Concepts that are seen before or after, by the size of the change; null: there is no segmenter."
    )


class EditResponse(Response):
    """A sample of a generator before and after a change of some units of one layer."""

    image: ProcessedImageResponse
    layer: int
    layer_name: str
    units: tuple[int, ...]
    concept: str | None = Field(description="The concept whose detectors these are; null: they were named by index.")
    how: Literal["ablate", "insert"]
    cells: int = Field(description="Number of cells that are changed.")
    grid: tuple[int, int] = Field(description="Rows and columns of the layer's cells.")
    mode: Literal["partial", "full"] = Field(description="How much of the generator ran again.")
    before: str = Field(description="The sample without a change, a PNG file as a data URL.")
    samples: tuple[EditedSample, ...] = Field(description="In the order of the strengths that were asked for.")
    segmenter: str | None = Field(description="Specification of the segmenter that measured areas.")
    segmenter_unavailable: str | None = Field(description="Why areas are not measured; null: they are.")
