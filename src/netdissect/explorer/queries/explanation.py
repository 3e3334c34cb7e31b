"""Answers about single images: which units are on in them, and where."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import polars as pl

from netdissect.explorer.active_units import Maps, firing
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.queries.unit_details import labeled_units, mask_level
from netdissect.explorer.query_schemas import ImageQuery
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.schemas import Explanation, FiringConcept, FiringUnit, UploadedImage
from netdissect.plots.outlines import MaskGrid


def looked(run: OpenRun, seen: ProcessedImage) -> UploadedImage:
    """Describe an image that was looked at."""
    height, width = seen.pixels.shape[:2]
    address = f"/api/runs/{run.id}/images/{seen.id}.webp"
    return UploadedImage(run=run.id, image=seen.id, address=address, width=width, height=height)


def explanation(run: OpenRun, seen: ProcessedImage, asked: ImageQuery) -> Explanation:
    """Say which units of a layer are on in an image, or at a point of it.

    Units are ordered by how rare their activation is on the data set: the scales of two units have nothing in
    common, their ranks have.
    """
    layer = run.layer(asked.layer)
    level, thresholds = mask_level(run, layer, asked.quantile)
    masks = MaskGrid.of(run.result.info, layer)
    maps = seen.maps[layer.info.name]
    found = firing(maps, thresholds.values, masks, asked.point, seen.labels)
    curves = run.curves(layer)
    numbers = found.units.tolist()
    shares = [curves.share_above(unit, float(value)) for unit, value in zip(numbers, found.values, strict=True)]
    order = sorted(range(len(numbers)), key=lambda place: (shares[place], -found.areas[place], numbers[place]))
    labels = labeled_units(run, layer, level.measured, None)
    units = tuple(
        FiringUnit(
            **labels.select("unit", "label", "category", "state").row(numbers[place], named=True),
            value=float(found.values[place]),
            share_above=shares[place],
            area=float(found.areas[place]),
            outline=masks.outline(maps[numbers[place]], float(thresholds.values[numbers[place]]), seen.labels),
        )
        for place in order[: asked.limit]
    )
    return Explanation(
        image=looked(run, seen),
        layer=asked.layer,
        masks=level,
        point=asked.point,
        firing=len(numbers),
        units=units,
        concepts=_concepts(labels, numbers, thresholds.values, maps, partial(masks.values, labels=seen.labels)),
    )


def _concepts(
    labels: pl.DataFrame,
    units: Sequence[int],
    thresholds: Maps,
    maps: Maps,
    scored: Callable[[Maps], Maps],
) -> tuple[FiringConcept, ...]:
    """Group the detectors that are on by their label."""
    named = labels.filter(pl.col("unit").is_in(list(units)), pl.col("state") == "detector")
    found = []
    for (concept, category), part in named.group_by("label", "category", maintain_order=True):
        numbers = part["unit"].to_list()
        masks = [scored(maps[unit]) > thresholds[unit] for unit in numbers]
        area = float(np.logical_or.reduce(masks).mean())
        found.append(FiringConcept(concept=str(concept), category=str(category), units=tuple(numbers), area=area))
    return tuple(sorted(found, key=lambda each: (-each.area, each.concept)))
