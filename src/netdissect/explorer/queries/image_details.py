"""Which units are active in a single image, and where."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import polars as pl

from netdissect.explorer.active_units import Maps, active_units
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.queries.requests import ImageQuery
from netdissect.explorer.queries.unit_details import labeled_units, mask_level, top_images
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import ActiveConcept, ActiveUnit, ImageDetail, ProcessedImageResponse
from netdissect.plots.outlines import MaskGrid, mask_path, view_box
from netdissect.result import LayerResult
from netdissect.result.queries import run_min_iou
from netdissect.scoring.number_text import iou_text


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
    level, thresholds = mask_level(run, layer, query.quantile)
    masks = MaskGrid.of(run.result.info, layer)
    maps = image.maps[layer.info.name]
    active = active_units(maps, thresholds.values, masks, query.point, image.label_size)
    curves = run.curves(layer)
    units = active.units.tolist()
    shares = [curves.share_above(unit, float(value)) for unit, value in zip(units, active.values, strict=True)]
    order = sorted(range(len(units)), key=lambda index: (shares[index], -active.areas[index], units[index]))
    labels = labeled_units(run, layer, level.measured, None)
    intervals = _intervals(layer, level.measured)
    limit = run_min_iou(run.result, layer.info.name)
    shown = tuple(
        ActiveUnit(
            **labels.row(units[index], named=True),
            iou_text=iou_text(labels["iou"][units[index]], limit),
            **dict(zip(("iou_ci_low", "iou_ci_high"), intervals.get(units[index], (None, None)), strict=True)),
            value=float(active.values[index]),
            share_above=shares[index],
            area=float(active.areas[index]),
            outline=mask_path(masks.mask(maps[units[index]], thresholds.values[units[index]], image.label_size)),
            view_box=view_box(masks.size(image.label_size)),
            images=top_images(run, layer, units[index], float(thresholds.values[units[index]]), query.images),
        )
        for index in order[: query.limit]
    )
    return ImageDetail(
        image=processed_image(run, image),
        layer=query.layer,
        masks=level,
        point=query.point,
        active=len(units),
        units=shown,
        concepts=_concepts(labels, units, thresholds.values, maps, partial(masks.values, labels=image.label_size)),
    )


def _intervals(layer: LayerResult, quantile: float) -> dict[int, tuple[float | None, float | None]]:
    """Return the confidence interval of each unit's IoU; empty if the run has none."""
    names = ["unit", "iou_ci_low", "iou_ci_high"]
    table = layer.statistics.get("units")
    if table is None or not set(names) <= set(table.collect_schema().names()):
        return {}
    rows = table.filter(pl.col("quantile") == quantile).select(names).collect().iter_rows()
    return {unit: (low, high) for unit, low, high in rows}


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
