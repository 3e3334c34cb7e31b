"""Pages and figures show the scored mask, bit for bit, for every protocol and grid."""

import re
from collections import Counter
from html import escape
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

import oracle
import strategies
from netdissect import plots
from netdissect.concepts import ConceptData, Size
from netdissect.config import PROTOCOLS, DissectConfig, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.plots.outlines import MaskGrid, mask_path, mask_runs_text
from netdissect.plots.overlap import REGION_COLORS, Overlap, iou_of_counts
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.views.masked_images import MaskedImage
from netdissect.report.views.unit_views import unit_detail, unit_view
from netdissect.result import LayerInfo, Result
from netdissect.scoring import FieldSpan, FieldSpans
from networks import COVERAGE, build, images
from networks import SIDE as INPUT
from svg_paths import held

# The package exports a function `units` of this module.
unit_sheet = import_module("netdissect.plots.unit_sheet")
UPSAMPLING_RULES = {"paper": "field", "original": "field-integer", "lite": "pillow", "pnas2020": "half-pixel"}
Mask = npt.NDArray[np.bool_]
Maps = npt.NDArray[np.float32]


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
    mask = masks.mask(maps, float(threshold), Size(*labels))
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(held(mask_path(mask), grid), expected)


@pytest.mark.parametrize(
    ("size", "share"),
    [((1, 1), 0.5), ((3, 3), 0.5), ((40, 7), 0.3), ((112, 113), 0.05), ((112, 113), 0.5), ((300, 200), 0.02)],
)
@pytest.mark.parametrize("seed", range(3))
def test_an_outline_of_any_mask_contains_its_pixels_and_no_others(
    seed: int, size: tuple[int, int], share: float
) -> None:
    mask = np.random.default_rng(seed).random(size) < share
    np.testing.assert_array_equal(held(mask_path(mask), size), mask)


def unpacked(text: str) -> list[int]:
    """Read numbers of five bits a character, the lowest first."""
    numbers: list[int] = []
    bits = ""
    for code in (ord(character) - 63 for character in text):
        bits = f"{code & 31:05b}{bits}"
        if code < 32:
            number = int(bits, 2) - (1 << len(bits) if bits[0] == "1" else 0)
            numbers.append(number + numbers[-2] if len(numbers) > 1 else number)
            bits = ""
    return numbers


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (112, 113)])
@pytest.mark.parametrize("share", [0, 0.03, 0.5, 1])
def test_runs_of_a_mask_are_read_back_and_html_does_not_escape_them(size: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(0).random(size) < share
    text = mask_runs_text(mask)
    flat = [index % 2 == 1 for index, count in enumerate(unpacked(text)) for _ in range(count)]
    np.testing.assert_array_equal(np.pad(flat, (0, mask.size - len(flat))), mask.ravel())
    assert escape(text) == text


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of three sizes, half, a quarter and all of the network's input."""
    drawn = images(sizes=((12, 12), (6, 8), (24, 24)))
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", drawn, COVERAGE, image=(INPUT, INPUT))


@pytest.fixture(scope="module", params=list(PROTOCOLS))
def run(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    name: ProtocolName = request.param
    # Regions are sets of pixels: a label that a pixel has twice counts once.
    protocol = PROTOCOLS[name].model_copy(update={"quantiles": (0.2,), "duplicates": "once"})
    statistics = StatisticsConfig(bootstrap=20, permutations=0)
    layers = ("wide_relu", "deep_relu")
    config = DissectConfig(layers=layers, protocol=protocol, statistics=statistics, batch_size=4, top_images=7)
    return dissect(build(), root, config=config, out=tmp_path_factory.mktemp("runs") / name)


def masks_of(run: Result, root: Path, layer: str, unit: int, image_index: int, cells: Maps) -> tuple[Mask, Mask]:
    """Return the masks of a unit and of its concept by the oracle, on the grid on which they are scored."""
    side, tables = run.info.config.protocol.segmentation_size, run.layers[layer]
    labels = ConceptData.open(root).labels(image_index)
    grid = (side, side) if side else tuple(labels.label_channels.shape[1:])
    fields = tuple(oracle.Field(*map(int, span)) for span in tables.info.field)
    row = tables.units.filter(unit=unit).row(0, named=True)
    rule = UPSAMPLING_RULES[run.info.config.protocol.name]
    mask = oracle.upsample(cells, grid, (INPUT, INPUT), fields, rule) > np.float32(row["threshold"])
    label_id = run.concepts.filter(concept=row["label"])["label_id"].sum()
    if label_id in labels.image_level:
        return mask, np.ones(grid, bool)
    down, right = (np.floor((np.arange(new) + 0.5) * old / new).astype(int)
                   for new, old in zip(grid, labels.label_channels.shape[1:], strict=True))  # fmt: skip
    return mask, (labels.label_channels[:, down][:, :, right] == label_id).any(axis=0)


def shown(image: MaskedImage) -> tuple[Mask, Mask]:
    return held(image.unit, image.size), held(image.concept.path, image.size)


def test_pages_and_figures_show_the_masks_of_a_unit_and_of_its_concept_on_the_grid_of_each_image(
    run: Result, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Mask, Mask]] = []
    monkeypatch.setattr(
        unit_sheet, "draw_masked", lambda _axes, _image, unit, concept, _mode: drawn.append((unit, concept))
    )
    tables = LayerTables(number_runs([run], data_root=root)[0], 0)
    grids, regions = set(), np.zeros(3, int)
    for unit, top in tables.top.items():
        images = unit_view(tables, unit, len(top)).top_images
        if not images or tables.units[unit]["label"] is None:
            continue
        plots.units(run, "wide_relu", [unit], data_root=root, mask="both", count=len(top))
        for row, image, in_figure in zip(top, images, drawn, strict=True):
            cells = run.layers["wide_relu"].top_maps[unit, row["rank"]]
            expected = masks_of(run, root, "wide_relu", unit, row["image_index"], cells)
            np.testing.assert_array_equal(in_figure, expected)
            np.testing.assert_array_equal(shown(image), expected)
            mask, concept = expected
            counted = {"overlap": mask & concept, "unit only": mask & ~concept, "concept only": concept & ~mask}
            for name, region in Overlap(*shown(image)).regions().items():
                np.testing.assert_array_equal(region, counted[name])
            grids.add(mask.shape)
            regions += [region.sum() for region in counted.values()]
        drawn.clear()
    assert (regions > 0).all()
    assert len(grids) == (1 if run.info.config.protocol.segmentation_size else 3)


def test_false_positives_and_false_negatives_show_the_scored_mask_and_the_concept(run: Result, root: Path) -> None:
    """The maps of all images are those of the top images: there are as many."""
    tables = LayerTables(number_runs([run], data_root=root)[0], 0)
    seen, active = {"false positive": 0, "false negative": 0}, 0
    for unit in tables.units:
        detail = unit_detail(tables, unit)
        maps = {row["image_index"]: run.layers["wide_relu"].top_maps[unit, row["rank"]] for row in tables.top[unit]}
        for name, on_page in (("false positive", detail.false_positives), ("false negative", detail.false_negatives)):
            rows = tables.error_images.get(name, {}).get(unit, [])
            for row, image in zip(rows, on_page, strict=True):
                mask, concept = masks_of(run, root, "wide_relu", unit, row["image_index"], maps[row["image_index"]])
                np.testing.assert_array_equal(shown(image), (mask, concept))
                assert not (mask & concept).any()
                assert image.value == (mask if name == "false positive" else concept).sum()
                seen[name], active = seen[name] + 1, active + mask.any()
    assert min(seen.values()) > 0
    assert active > seen["false positive"]


def test_the_pixels_of_all_images_add_up_to_the_iou_of_the_run(run: Result, root: Path) -> None:
    tables = LayerTables(number_runs([run], data_root=root)[0], 0)
    added = 0
    for unit, row in tables.units.items():
        images = unit_view(tables, unit, len(tables.top[unit])).top_images
        if images and row["label"] is not None:
            counts = sum((Counter(image.pixels) for image in images), Counter())
            assert iou_of_counts({name: counts[name] for name in REGION_COLORS}) == pytest.approx(row["iou"], rel=1e-12)
            added += 1
    assert added > 0


def test_the_drawn_iou_of_all_images_is_that_of_the_run(run: Result, root: Path) -> None:
    units = run.layers["wide_relu"].units.filter(pl.col("iou") > 0, ~pl.col("dead"))
    best = units.sort("iou", "unit", descending=[True, False]).row(0, named=True)
    figure = plots.overlap(run, "wide_relu", data_root=root, count=7)
    texts = [text.get_text() for text in figure.findobj(Text)]
    sentence = next(text for text in texts if text.startswith("in these images"))
    assert sentence.endswith(f"= {best['iou']:.3f}")
    of_images = [[int(number.replace(",", "")) for number in text.split(" / ")] for text in texts
                 if re.fullmatch(r"[\d,]+ / [\d,]+", text)]  # fmt: skip
    both, either = (sum(numbers) for numbers in zip(*of_images, strict=True))
    assert both / either == pytest.approx(best["iou"], rel=1e-12)


def test_an_iou_is_not_drawn_without_a_concept_or_labels(run: Result, root: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"layer wide_relu has no unit 99; its units are 0 to \d+"):
        plots.overlap(run, "wide_relu", 99, data_root=root)
    with pytest.raises(ResultError, match=r"cannot be read .*--data-root"):
        plots.overlap(run, "wide_relu", data_root=tmp_path)
