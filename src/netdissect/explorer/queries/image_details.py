"""Which units are active in a single image, and where."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import polars as pl

from netdissect.explorer.active_units import Maps, active_units
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.queries.requests import ImageQuery
from netdissect.explorer.queries.unit_details import labeled_units, shown_level
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import ActiveConcept, ActiveUnit, ImageDetail, ProcessedImageResponse
from netdissect.plots.outlines import MaskGrid, mask_path, view_box
from netdissect.report.layer_tables import LayerTables
from netdissect.report.views.unit_views import unit_view


def processed_image(run: OpenRun, image: ProcessedImage) -> ProcessedImageResponse:
    """Describe an image on which a network was run."""
    height, width = image.pixels.shape[:2]
    url = f"/api/runs/{run.id}/inference/{image.id}.webp"
    return ProcessedImageResponse(run=run.id, id=image.id, url=url, width=width, height=height)


def image_detail(run: OpenRun, image: ProcessedImage, query: ImageQuery) -> ImageDetail:
    """Return which units of a layer are active in an image, or at a point of it.

    Units are ordered by the share of their activations on the data set that are higher, as activations of different
    units have different scales.
    """
    layer = run.layer(query.layer)
    level, masks_level, thresholds = shown_level(run, query.layer, query.quantile)
    masks = MaskGrid.of(run.result.info, layer)
    maps = image.maps[layer.info.name]
    active = active_units(maps, thresholds.values, masks, query.point, image.label_size)
    curves = run.curves(layer)
    units = active.units.tolist()
    shares = [curves.share_above(unit, float(value)) for unit, value in zip(units, active.values, strict=True)]
    order = sorted(range(len(units)), key=lambda index: (shares[index], -active.areas[index], units[index]))
    labels = labeled_units(run, layer, level.quantile, None)
    listed = order[: query.limit]
    tables = LayerTables(run.numbered, query.layer, level, [units[index] for index in listed])
    shown = tuple(
        ActiveUnit(
            summary=unit_view(tables, units[index], query.images),
            value=float(active.values[index]),
            share_above=shares[index],
            area=float(active.areas[index]),
            outline=mask_path(masks.mask(maps[units[index]], thresholds.values[units[index]], image.label_size)),
            view_box=view_box(masks.size(image.label_size)),
        )
        for index in listed
    )
    return ImageDetail(
        image=processed_image(run, image),
        layer=query.layer,
        masks=masks_level,
        point=query.point,
        active=len(units),
        units=shown,
        concepts=_concepts(labels, units, thresholds.values, maps, partial(masks.values, labels=image.label_size)),
    )


def _concepts(
    labels: pl.DataFrame,
    units: Sequence[int],
    thresholds: Maps,
    maps: Maps,
    upsample: Callable[[Maps], Maps],
) -> tuple[ActiveConcept, ...]:
    """Group the active detectors by their label."""
    named = labels.filter(pl.col("unit").is_in(list(units)), pl.col("state") == "detector")
    found = []
    for (concept, category), part in named.group_by("label", "category", maintain_order=True):
        numbers = part["unit"].to_list()
        masks = [upsample(maps[unit]) > thresholds[unit] for unit in numbers]
        area = float(np.logical_or.reduce(masks).mean())
        found.append(ActiveConcept(concept=str(concept), category=str(category), units=tuple(numbers), area=area))
    return tuple(sorted(found, key=lambda each: (-each.area, each.concept)))
