"""Pages and figures show the scored mask, bit for bit, for every protocol and grid."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import strategies
from netdissect import plots
from netdissect.concepts import ConceptData, Size
from netdissect.config import PROTOCOLS, DissectConfig, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.plots.outlines import SIDE, MaskGrid, enlarged, mask_outline, outline, signed
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.unit_views import unit_view
from netdissect.result import LayerInfo, Result
from netdissect.scoring import FieldSpan, FieldSpans
from networks import COVERAGE, build, images
from networks import SIDE as INPUT
from svg_paths import lines_of

# The package exports a function `units` of this module.
unit_sheet = import_module("netdissect.plots.unit_sheet")
UPSAMPLING_RULES = {"paper": "field", "original": "field-integer", "lite": "pillow", "pnas2020": "half-pixel"}
Mask = npt.NDArray[np.bool_]


def held(path: str, size: tuple[int, int]) -> Mask:
    """Return the centers of pixels inside a path by the rule evenodd: each edge flips all pixels to its left."""
    down, right = ((np.arange(count) + 0.5) * SIDE / count for count in size)
    flips = np.zeros((size[0], size[1] + 1), np.int64)
    for x, y in (line.T for line in lines_of(path)):
        for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
            rows = np.arange(*np.searchsorted(down, sorted((y0, y1))))
            if len(rows):
                flips[rows, np.searchsorted(right, x0 + (down[rows] - y0) * (x1 - x0) / (y1 - y0))] += 1
    return flips[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] % 2 == 1


@st.composite
def scenes(draw: st.DrawFn) -> tuple[MaskGrid, tuple[int, int], npt.NDArray[np.float32], np.float32]:
    """Draw a protocol, a layer, sizes of input and label maps, an activation map and a threshold among its values."""
    name = draw(st.sampled_from(list(PROTOCOLS)))
    cells = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    source = draw(st.tuples(st.sampled_from([16, 33, 64, 227]), st.sampled_from([16, 50, 227])))
    ratio = draw(st.sampled_from([1, 2]))
    labels = source[0] // ratio, source[1] // ratio
    spans = [
        FieldSpan(draw(st.integers(-60, 5)), draw(st.integers(1, 90)), draw(st.sampled_from([1, 2, 4, 8, 16, 32])))
        for _ in range(2)
    ]
    layer = LayerInfo(name="x", type="Conv2d", units=1, height=cells[0], width=cells[1], field=FieldSpans(*spans))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = rng.normal(size=cells).astype(np.float32)
    threshold = np.float32(rng.choice(maps.ravel()) if draw(st.booleans()) else rng.normal())
    return MaskGrid(layer, source, PROTOCOLS[name]), labels, maps, threshold


@settings(max_examples=30)
@given(scenes())
def test_every_mask_that_is_shown_is_the_scored_mask(scene) -> None:
    masks, labels, maps, threshold = scene
    side = masks.protocol.segmentation_size
    grid = (side, side) if side else labels
    fields = tuple(oracle.Field(*map(int, span)) for span in masks.layer.field)
    expected = oracle.upsample(maps, grid, masks.source, fields, UPSAMPLING_RULES[masks.protocol.name]) > threshold
    values = masks.values(maps, Size(*labels))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values > threshold, expected)
    # A page: the path, at the centers of the pixels.
    np.testing.assert_array_equal(held(mask_outline(values, float(threshold)), grid), expected)
    # A figure: enlarged, and taken back to the grid.
    edge = unit_sheet.edge_of(values)
    back = [((np.arange(count) + 0.5) * edge / count).astype(int) for count in grid]
    np.testing.assert_array_equal(enlarged(expected, edge)[np.ix_(*back)], expected)
    np.testing.assert_array_equal(signed(values, float(threshold)) > 0, expected)


@pytest.mark.parametrize(
    ("size", "share"),
    [((1, 1), 0.5), ((3, 3), 0.5), ((40, 7), 0.3), ((112, 113), 0.05), ((112, 113), 0.5), ((300, 200), 0.02)],
)
@pytest.mark.parametrize("seed", range(3))
def test_an_outline_of_any_mask_contains_its_pixels_and_no_others(
    seed: int, size: tuple[int, int], share: float
) -> None:
    values = np.random.default_rng(seed).random(size).astype(np.float32)
    path = mask_outline(values, 1 - share)
    np.testing.assert_array_equal(held(path, size), values > np.float32(1 - share))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of three sizes, half, a quarter and all of the network's input."""
    drawn = images(sizes=((12, 12), (6, 8), (24, 24)))
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", drawn, COVERAGE, image=(INPUT, INPUT))


@pytest.fixture(scope="module", params=list(PROTOCOLS))
def run(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    name: ProtocolName = request.param
    protocol = PROTOCOLS[name].model_copy(update={"quantiles": (0.2,)})
    config = DissectConfig(layers=("wide_relu", "deep_relu"), protocol=protocol,
                           statistics=StatisticsConfig(bootstrap=0), batch_size=4, top_images=4)  # fmt: skip
    return dissect(build(), root, config=config, out=tmp_path_factory.mktemp("runs") / name)


def scored(run: Result, root: Path, layer: str) -> dict[tuple[int, int], int]:
    """Count the active pixels of each unit in each of its top images, by the oracle on the image's own grid."""
    side, data = run.info.config.protocol.segmentation_size, ConceptData.open(root)
    tables, counted = run.layers[layer], {}
    fields = tuple(oracle.Field(*map(int, span)) for span in tables.info.field)
    limits = tables.thresholds.sort("unit")["threshold"].to_list()
    for row in tables.top.iter_rows(named=True):
        grid = (side, side) if side else tuple(data.rows[row["image_index"]].size)
        cells = np.asarray(tables.top_maps[row["unit"], row["rank"]])
        rule = UPSAMPLING_RULES[run.info.config.protocol.name]
        mask = oracle.upsample(cells, grid, (INPUT, INPUT), fields, rule) > np.float32(limits[row["unit"]])
        counted[row["unit"], row["rank"]] = int(mask.sum())
    return counted


def test_pages_and_figures_show_on_each_image_the_mask_of_its_own_grid(
    run: Result, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(
        unit_sheet,
        "draw_on",
        lambda _axes, _image, values, limit: drawn.append(int((values > np.float32(limit)).sum())),
    )
    side = run.info.config.protocol.segmentation_size
    tables = LayerTables(number_runs([run], data_root=root)[0], 0)
    expected = scored(run, root, "wide_relu")
    for unit, top in tables.top.items():
        wanted = [expected[unit, row["rank"]] for row in top]
        plots.units(run, "wide_relu", [unit], data_root=root)
        grids = [(side, side) if side else (row["label_height"], row["label_width"]) for row in top]
        images = unit_view(tables, unit, len(top)).top_images
        if images:
            assert drawn == wanted
            assert [int(held(image.mask, grid).sum()) for image, grid in zip(images, grids, strict=True)] == wanted
        drawn.clear()
    assert sum(expected.values()) > 0


def test_labels_are_outlined_in_whole_numbers() -> None:
    assert re.fullmatch(r"(M[\d ]+l[\d -]+z)+", outline(np.eye(7), 0.5))
