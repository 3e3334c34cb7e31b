"""Images segmented by units, against a loop over pixels."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from netdissect.concepts import Size
from netdissect.config import PROTOCOLS
from netdissect.plots import segmented_image
from netdissect.plots.image_segmentation import OTHER, SEGMENT_COLORS, segment_colors, segment_image
from netdissect.plots.outlines import MaskGrid
from netdissect.plots.style import rendered
from netdissect.result import LayerInfo

LAYER = LayerInfo(name="conv", type="Conv2d", units=6, height=5, width=4, field=None)
LABELS = [("car", "object"), ("sky", "object"), ("car", "object"), ("red", "color"), ("sky", "object")]


def drawn_maps(seed: int) -> tuple[np.ndarray, pl.DataFrame]:
    """Draw maps of six units, one of them no detector, one of them a copy that ties with another."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(6, 5, 4)).astype(np.float32)
    maps[4] = maps[1]
    detectors = pl.DataFrame(
        {
            "unit": [0, 1, 2, 3, 4],
            "label": [label for label, _ in LABELS],
            "category": [category for _, category in LABELS],
            "threshold": np.array([0.3, 0.5, -0.2, 9.0, 0.5], np.float32),
            "max_activation": np.array([3.0, 1.5, 2.0, 9.5, 1.5], np.float32),
        }
    )
    return maps, detectors


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_each_pixel_has_the_concept_of_its_most_active_detector(protocol: str) -> None:
    maps, detectors = drawn_maps(seed=len(protocol))
    masks, labels = MaskGrid(LAYER, (48, 40), PROTOCOLS[protocol]), Size(9, 11)
    found = segment_image(maps, detectors, masks, labels)
    values = masks.values(maps, labels)
    rows = detectors.select("unit", "threshold", "max_activation").rows()
    owners = np.full(values.shape[1:], -1)
    for y, x in np.ndindex(owners.shape):
        strengths = [
            ((float(values[unit, y, x]) - threshold) / (largest - threshold), -unit)
            for unit, threshold, largest in rows
            if values[unit, y, x] > np.float32(threshold)
        ]
        owners[y, x] = -max(strengths)[1] if strengths else -1
    assert np.array_equal(found.units, owners)
    assert set(owners.ravel()) == {-1, 0, 1, 2}  # of two equal units the first decides
    named = [(segment.concept, segment.category) for segment in found.segments]
    assert sorted(named) == [("car", "object"), ("sky", "object")]
    for index, segment in enumerate(found.segments):
        own = [unit for unit, label in enumerate(LABELS) if label == named[index]]
        assert segment.units == tuple(own)
        assert np.array_equal(found.labels == index, np.isin(owners, own))
        union = np.logical_or.reduce([values[unit] > np.float32(rows[unit][1]) for unit in own])
        assert (segment.share, segment.active_share) == pytest.approx((np.isin(owners, own).mean(), union.mean()))
    assert found.segments[0].share >= found.segments[1].share


def test_the_drawn_segments_are_whole_pixels_of_the_grid_in_the_colors_of_the_legend() -> None:
    maps, detectors = drawn_maps(seed=1)
    found = segment_image(maps, detectors, MaskGrid(LAYER, (48, 40), PROTOCOLS["paper"]))
    figure = segmented_image(Image.new("RGB", (33, 50), "gray"), {"conv": found})
    overlay = np.asarray(figure.axes[1].images[1].get_array())
    assert overlay.shape[:2] == found.labels.shape
    legend = figure.axes[2].get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    assert [text.rsplit("  ", 1)[0] for text in texts] == [segment.concept for segment in found.segments]
    for index, segment in enumerate(found.segments):
        color = [int(segment.color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        assert np.allclose(overlay[found.labels == index][:, :3], color)
    assert not overlay[found.labels < 0].any()
    for form, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert rendered(figure, form).startswith(start)


def test_colors_are_distinct_while_there_are_any_and_do_not_depend_on_less_important_concepts() -> None:
    concepts = [(f"concept {index}", "object") for index in range(15)]
    colors = segment_colors(concepts)
    assert len({colors[concept] for concept in concepts[: len(SEGMENT_COLORS)]}) == len(SEGMENT_COLORS)
    assert {colors[concept] for concept in concepts[len(SEGMENT_COLORS) :]} == {OTHER}
    assert segment_colors(concepts[:4]) == {concept: colors[concept] for concept in concepts[:4]}
