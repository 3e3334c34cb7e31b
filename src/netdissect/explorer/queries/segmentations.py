"""An image segmented by the detectors of a layer."""

import numpy as np
import polars as pl
from PIL import Image

from netdissect.concepts import Size
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.queries.image_details import processed_image
from netdissect.explorer.queries.image_schemas import SegmentationResponse, SegmentResponse
from netdissect.explorer.queries.requests import SegmentationQuery
from netdissect.explorer.queries.unit_details import labeled_units, mask_level
from netdissect.explorer.run_registry import OpenRun
from netdissect.plots.image_segmentation import Segmentation, segment_image, segmented_image
from netdissect.plots.outlines import MaskGrid, view_box
from netdissect.plots.style import FigureFormat, rendered
from netdissect.scoring.segmentation.most_active import NOWHERE


def segmentation_detail(run: OpenRun, image: ProcessedImage, query: SegmentationQuery) -> SegmentationResponse:
    """Return the segments of an image by a layer; labels at the run's nearest quantile, masks at exactly `quantile`."""
    layer = run.layer(query.layer)
    level, _ = mask_level(run, layer, query.quantile)
    segmentation = segmented(run, image, query)
    address = f"/api/runs/{run.id}/inference/{image.id}/segmentation.{{}}?layer={query.layer}&quantile={level.quantile}"
    return SegmentationResponse(
        image=processed_image(run, image),
        layer=query.layer,
        layer_name=layer.info.name,
        masks=level,
        unlabeled=float((segmentation.labels == NOWHERE).mean()),
        view_box=view_box(Size(*segmentation.labels.shape)),
        segments=tuple(SegmentResponse(**vars(segment)) for segment in segmentation.segments),
        figures={"svg": address.format("svg"), "png": address.format("png")},
    )


def segmentation_figure(run: OpenRun, image: ProcessedImage, query: SegmentationQuery, form: FigureFormat) -> bytes:
    """Return the image beside its segmentation and the legend, as a file."""
    name = run.layer(query.layer).info.name
    figure = segmented_image(Image.fromarray(image.pixels), {name: segmented(run, image, query)})
    return rendered(figure, form)


def segmented(run: OpenRun, image: ProcessedImage, query: SegmentationQuery) -> Segmentation:
    """Segment an image by the detectors of a layer."""
    layer = run.layer(query.layer)
    level, thresholds = mask_level(run, layer, query.quantile)
    units = labeled_units(run, layer, level.measured, None).filter(pl.col("state") == "detector")
    largest = layer.thresholds.filter(pl.col("quantile") == level.measured).select("unit", "max_activation")
    values = np.asarray(thresholds.values)[units["unit"].to_numpy()]
    detectors = units.with_columns(pl.Series("threshold", values)).join(largest, on="unit", maintain_order="left")
    masks = MaskGrid.of(run.result.info, layer)
    return segment_image(image.maps[layer.info.name], detectors, masks, image.label_size)
