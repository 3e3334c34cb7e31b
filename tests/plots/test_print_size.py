"""At one and two columns of a paper, type keeps its size, and no text covers another one or leaves the figure."""

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from measured_effects import LONG, cells, effects
from netdissect import plots
from netdissect.errors import ResultError
from netdissect.plots.category_colors import CATEGORY_COLORS
from netdissect.result import Result
from netdissect.result.statistics_schema import COUNTS, IMAGE_MAXIMA, complete
from printed import printed

WIDTHS = (3.3, 6.8)
CONCEPTS = 40
LAYERS = 14
Draw = Callable[..., Figure]
FIGURES: dict[str, Draw] = {
    "bars": lambda run, width: plots.bars(run, next(iter(run.layers)), width=width),
    "layers": lambda run, width: plots.layers([run, run], names=["a", LONG * 3], width=width),
    "depth": lambda run, width: plots.depth([run, run, run], names=["a", LONG, LONG * 3], width=width),
    "iou": lambda run, width: plots.iou(run, next(iter(run.layers)), width=width),
    "iou far": lambda run, width: plots.iou(run, next(iter(run.layers)), min_iou=0.59, width=width),
    "concept_scatter": lambda run, width: plots.concept_scatter(run, swapped(run), names=[LONG * 3] * 2, width=width),
    "sensitivity": lambda run, width: plots.sensitivity(run, next(iter(run.layers)), width=width),
    "unit_map": lambda run, width: plots.unit_map(run, next(iter(run.layers)), width=width),
    "intervention": lambda _run, width: plots.intervention(
        pl.DataFrame(effects([(f"{LONG} {index}", "object") for index in range(25)])),
        pl.DataFrame(cells(8)),
        width=width,
    ),
    "units": lambda run, width: plots.units(run, next(iter(run.layers)), (0, 1), count=6, width=width),
}


def swapped(run: Result) -> Result:
    """Return the run with the IoU of every concept multiplied by its own factor."""
    factor = np.random.default_rng(1).uniform(0.2, 1.6, 500)
    layers = {
        name: replace(
            layer,
            lazy_scores=layer.lazy_scores.with_columns(
                pl.col("iou") * pl.col("concept").cast(pl.String).replace_strict(
                    {each: factor[index] for index, each in enumerate(run.concepts["concept"])}, return_dtype=pl.Float64
                )
            ),
        )
        for name, layer in run.layers.items()
    }  # fmt: skip
    return replace(run, layers=layers)


@pytest.fixture(scope="module")
def hard(with_statistics: Result) -> Result:
    """40 detected concepts of six categories with long names, in many layers with long names, some of them virtual."""
    layer, rng = with_statistics.layers["block.1"], np.random.default_rng(0)
    names = [f"{LONG} {index}" if index % 3 else f"name {index}" for index in range(CONCEPTS)]
    categories = [list(CATEGORY_COLORS)[index % 6] for index in range(CONCEPTS)]
    own = layer.units.filter(quantile=0.05)
    chosen = pl.concat([own] * (CONCEPTS // len(own)))
    units = chosen.with_columns(
        unit=pl.Series(range(CONCEPTS), dtype=own["unit"].dtype), label=pl.Series(names), dead=pl.lit(False),
        category=pl.Series(categories), iou=pl.Series(np.sort(rng.beta(1, 8, CONCEPTS) + 0.05)[::-1]),
    )  # fmt: skip
    units = units.with_columns(pl.col("label").alias(f"{name}-label") for name in CATEGORY_COLORS).with_columns(
        pl.col("iou").alias(f"{name}-iou") for name in CATEGORY_COLORS
    )
    scores = units.select("quantile", "unit", pl.col("label").alias("concept"), "category", "iou").lazy()
    keys = [
        (category, count) for category, count in zip([*CATEGORY_COLORS, "total"], [7, 7, 7, 7, 6, 6, 40], strict=True)
    ]
    counts = pl.DataFrame(keys, schema=["category", "unique_detectors"], orient="row").with_columns(
        quantile=0.05, rule=pl.lit("top-label"), null_unique_detectors=12.3,
        unique_detectors_ci_low=pl.col("unique_detectors") * 0.8,
        unique_detectors_ci_high=pl.col("unique_detectors") * 1.2,
    )  # fmt: skip
    maxima = rng.normal(size=(CONCEPTS, 9)).astype(np.float32)
    maxima[9:] = maxima[rng.integers(0, 9, CONCEPTS - 9)]  # many points in one place
    image, unit = np.meshgrid(range(9), range(CONCEPTS))
    kept = {"unit": unit.ravel(), "image_index": image.ravel(), "max_activation": maxima.ravel()}
    statistics = {
        "counts": complete(counts, COUNTS).lazy(),
        "sensitivity": layer.statistics["sensitivity"],
        "image_maxima": complete(pl.DataFrame(kept), IMAGE_MAXIMA).lazy(),
    }
    limits = layer.thresholds.filter(quantile=0.05)
    thresholds = pl.concat([limits] * (CONCEPTS // len(limits))).with_columns(
        unit=pl.Series(range(CONCEPTS), dtype=limits["unit"].dtype)
    )
    changed = replace(layer, units=units, thresholds=thresholds, lazy_scores=scores, statistics=statistics)
    layers = {}
    for index in range(LAYERS):
        base = f"features.{index}.conv_with_a_very_long_name"
        layers[base] = replace(changed, info=layer.info.model_copy(update={"name": base, "units": CONCEPTS}))
        if index > LAYERS - 3:
            info = layer.info.model_copy(update={"name": f"{base}@rotation-0", "type": f"basis of {base}"})
            layers[info.name] = replace(changed, info=info)
    info = with_statistics.info.model_copy(
        update={
            "data": with_statistics.info.data.model_copy(update={"categories": tuple(CATEGORY_COLORS)}),
            "fdr_limits": dict.fromkeys(layers, 0.04),
        }
    )
    return Result(info, pl.DataFrame({"concept": names, "category": categories}), layers)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_figure_is_too_small_covers_another_one_or_leaves_it(
    name: str, hard: Result, with_statistics: Result
) -> None:
    for run in (with_statistics, hard):
        sizes = []
        for width in WIDTHS:
            figure = FIGURES[name](run, width)
            assert figure.get_figwidth() == width
            page = printed(figure)
            assert page.problems() == []
            sizes.append({size for _, size, _ in page.texts})
        assert sizes[0] == sizes[1]  # type has the same size at every width


@pytest.mark.parametrize("draw", [plots.overlap, partial(plots.units, mask="both", chosen=[0, 1])])
def test_figures_of_unit_and_concept_can_be_printed_in_one_column_or_two(result: Result, draw: Draw) -> None:
    for width in WIDTHS:
        assert printed(draw(result, "block.1", width=width)).problems() == []
        pairs = plots.matched_units(result, result, layer="block.1", names=[LONG * 2] * 2, width=width)
        assert printed(pairs).problems() == []


def test_the_check_of_printed_texts_finds_each_problem() -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "small", fontsize=5)
    figure.text(0.1, 0.5, "over", fontsize=7)
    figure.text(0.9, 0.8, "too far right", fontsize=7)
    assert printed(figure).problems() == [
        "'small' has 5.0 points", "'too far right' leaves the canvas", "'small' covers 'over'"
    ]  # fmt: skip


def test_named_concepts_are_linked_to_their_points(hard: Result) -> None:
    axes = plots.concept_scatter(hard, swapped(hard), width=3.3).axes[0]
    points = {tuple(point) for drawn in axes.collections for point in drawn.get_offsets()}  # type: ignore[union-attr]
    assert len(axes.texts) > 5
    for text in axes.texts:
        assert text.xy in points  # type: ignore[attr-defined]
        assert text.arrow_patch is not None  # type: ignore[attr-defined]


def test_a_width_that_no_page_has_is_an_error(hard: Result) -> None:
    with pytest.raises(ResultError, match=r"a figure of 84 inches was asked for. Expected 3 to 30 inches: 3\.3 is one"):
        plots.depth(hard, width=84)


def test_a_pdf_embeds_its_fonts_as_type_42_and_an_svg_keeps_its_text(hard: Result, tmp_path: Path) -> None:
    figure = plots.bars(hard, next(iter(hard.layers)), width=3.3)
    pdf = plots.save(figure, tmp_path / "bars.pdf").read_bytes()
    objects = pdf + b"".join(_inflated(pdf))
    fonts = set(re.findall(rb"/Subtype\s*/(Type0|Type1|Type3|TrueType|CIDFontType\d)\b", objects))
    assert fonts == {b"Type0", b"CIDFontType2"}
    descriptors = len(re.findall(rb"/Type\s*/FontDescriptor\b", objects))
    assert descriptors == len(re.findall(rb"/FontFile2\b", objects)) > 0
    assert "<text" in plots.save(figure, tmp_path / "bars.svg").read_text()


def _inflated(pdf: bytes) -> list[bytes]:
    parts = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, flags=re.DOTALL):
        try:
            parts.append(zlib.decompressobj().decompress(stream))
        except zlib.error:
            continue
    return parts
