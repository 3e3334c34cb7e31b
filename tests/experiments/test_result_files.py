"""What an experiment leaves behind: tables that come back, and figures that show their numbers."""

import statistics

import polars as pl
import pytest
from matplotlib.colors import to_hex

from netdissect.errors import ResultError
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.experiments.registry import draw_figure
from netdissect.experiments.result_files import conclusion_text, load_experiment_result, save_experiment_result
from netdissect.plots.category_colors import CATEGORY_COLORS
from netdissect.report.reproduce_page import reproduce_page
from netdissect.result.published_counts import read_counts
from printed import printed

CATEGORIES = ("object", "part", "color", "total")


def counted(parts, **keys):
    """A table of counts: for each part its keys, and (detectors, unique) of each category, the total last."""
    rows = [
        {**keys, **part, "layer": part.get("layer", "conv5"), "quantile": 0.005, "rule": "per-category",
         "category": category, "units": 9, "detectors": detectors, "unique_detectors": unique}
        for part, numbers in parts
        for category, (detectors, unique) in zip(CATEGORIES, numbers, strict=True)
    ]  # fmt: skip
    return pl.DataFrame(rows)


NUMBERS = ((4, 3), (2, 2), (1, 1), (6, 6))
FEWER = ((3, 2), (0, 0), (1, 1), (4, 3))
CONFIG, CONTEXT = {"rule": "per-category"}, {"quantile": 0.005}


def result(name):
    tables = {
        "rotate": counted(
            [({"basis": "original", "alpha": 0.0, "seed": None}, NUMBERS)]
            + [({"basis": "rotation", "alpha": 1.0, "seed": seed}, FEWER) for seed in (0, 1, 2)]
            + [({"basis": "pca", "alpha": None, "seed": None}, FEWER)]
        ),
        "layer-profile": counted([({"layer": "conv1"}, FEWER), ({"layer": "$conv_2$"}, NUMBERS)]),
        "compare": counted(
            [({"network": "small", "source": "run"}, FEWER), ({"network": "big", "source": "published"}, NUMBERS)]
        ),
        "training-dynamics": counted([({"seed": 0, "step": 0}, FEWER), ({"seed": 0, "step": 1000}, NUMBERS)]),
    }
    variant = counted(
        [({"condition": name, "seed": seed}, NUMBERS) for name in ("with", "without") for seed in (0, 1, 2)]
    )
    units = pl.DataFrame(
        {"seed": 0, "step": [0, 1000], "unit": 3, "label": "car", "category": "object", "iou": 0.1, "detector": True}
    )
    conclusion = Conclusion(question="Is <it> so?", paper="It is.", finding="It may be.", outcome="inconclusive")
    extra_tables = {"units": units} if name == "training-dynamics" else {}
    return ExperimentResult(
        name, tables.get(name, variant), conclusion, CONFIG, CONTEXT, {"dissect": 1.5}, extra_tables
    )


@pytest.mark.parametrize("name", ["rotate", "layer-profile", "compare", "training-dynamics", "dropout"])
def test_a_result_is_saved_and_loaded(name, tmp_path):
    made = result(name)
    save_experiment_result(made, tmp_path)
    again = load_experiment_result(tmp_path)
    assert again.table.equals(made.table)
    assert (again.name, again.conclusion, again.config, again.context, again.seconds) == (
        made.name,
        made.conclusion,
        CONFIG,
        CONTEXT,
        {"dissect": 1.5},
    )
    assert {key: table.to_dicts() for key, table in again.extra_tables.items()} == {
        key: table.to_dicts() for key, table in made.extra_tables.items()
    }
    assert (tmp_path / "figure.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert pl.read_csv(tmp_path / "table.csv")["unique_detectors"].sum() == made.table["unique_detectors"].sum()


@pytest.mark.parametrize("name", ["rotate", "layer-profile", "compare", "training-dynamics", "dropout"])
def test_the_figure_of_an_experiment_can_be_printed_in_one_column_or_two(name):
    for width in (3.3, 6.8):
        figure = draw_figure(result(name), width)
        assert figure.get_figwidth() == width
        assert printed(figure).problems() == []


def test_stacked_bars_are_as_long_as_the_counts_and_the_largest_is_on_top():
    left, right = result("compare").figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["big (published)", "small"]
    for axes, place in ((left, 1), (right, 0)):
        widths = {bar.get_y() + bar.get_height() / 2: 0.0 for bar in axes.patches}
        for bar in axes.patches:
            widths[bar.get_y() + bar.get_height() / 2] += bar.get_width()
        expected = [sum(pair[place] for pair in numbers[:-1]) for numbers in (NUMBERS, FEWER)]
        assert list(widths.values()) == expected[::-1] or [widths[0], widths[1]] == expected
    first = min(left.patches, key=lambda bar: (abs(bar.get_y() + bar.get_height() / 2), bar.get_x()))
    assert to_hex(first.get_facecolor()) == CATEGORY_COLORS["object"].lower()


def test_the_line_of_a_rotation_goes_through_the_means():
    lines = result("rotate").figure.axes[0].get_lines()
    assert lines[-1].get_xydata().tolist() == [[0, 6], [1, 3]]


def test_every_published_network_has_its_bar(shared):
    published = read_counts(shared / "reference" / "published-detectors.csv")
    table = published.with_columns(pl.lit("published").alias("source"), pl.lit(None, pl.Float64).alias("quantile"))
    made = ExperimentResult("compare", table, result("compare").conclusion, CONFIG, CONTEXT)
    left, right = made.figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert len(names) == 27
    for width in (3.3, 6.8):
        assert printed(draw_figure(made, width)).problems() == []
    assert names[0].startswith("resnet-152-torch-places365")
    ends = [text.get_text() for text in left.texts]
    totals = published.filter(category="total").sort("unique_detectors", descending=True, maintain_order=True)
    assert [int(end) for end in ends] == totals["unique_detectors"].to_list()
    assert [int(text.get_text().split()[0].replace(",", "")) for text in right.texts] == totals["detectors"].to_list()


def test_published_totals_are_the_sums_of_their_categories(shared):
    published = read_counts(shared / "reference" / "published-detectors.csv")
    sums = (
        published.filter(pl.col("category") != "total")
        .group_by("network", maintain_order=True)
        .agg(pl.col("unique_detectors").sum())
    )
    assert sums["unique_detectors"].to_list() == published.filter(category="total")["unique_detectors"].to_list()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("network,layer\na,b\n", "'unique_total' is missing"),
        ("network,layer,unique_total,detector_units\na,b,1,1\n", "no category"),
        ("network,layer,unique_total,detector_units,unique_x,detectors_x\na,b,1,1,many,1\n", "no whole number"),
    ],
)
def test_a_table_of_counts_that_is_none_is_refused(text, why, tmp_path):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(ResultError, match=why):
        read_counts(tmp_path / "counts.csv")


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(ResultError, match="holds no result"):
        load_experiment_result(tmp_path)
    save_experiment_result(result("layer-profile"), tmp_path)
    (tmp_path / "table.parquet").write_bytes(b"cut")
    with pytest.raises(ResultError, match="holds no result"):
        load_experiment_result(tmp_path)


@pytest.mark.parametrize("name", ["table.parquet", "conclusion.json"])
def test_a_digit_changed_in_a_result_is_found(name, tmp_path):
    save_experiment_result(result("layer-profile"), tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    place = next(place for place in range(len(content) // 2, len(content)) if chr(content[place]) in "01234568")
    content[place] += 1
    path.write_bytes(content)
    with pytest.raises(ResultError, match=f"{name} is not what was written"):
        load_experiment_result(tmp_path)


def test_the_page_of_all_experiments_stands_alone(tmp_path):
    made = [result(name) for name in ("rotate", "layer-profile", "compare")]
    text = reproduce_page(made, tmp_path, {"World": "60 <pictures>"}).read_text()
    assert text.count("<svg") == 3
    assert "Is &lt;it&gt; so?" in text
    assert "60 &lt;pictures&gt;" in text
    assert "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_a_conclusion_is_written_in_words():
    text = conclusion_text(result("rotate"))
    assert text.splitlines() == [
        "rotate: inconclusive", "Question: Is <it> so?", "The paper: It is.", "Found: It may be.",
    ]  # fmt: skip


def test_a_result_prints_as_five_lines_whatever_its_tables():
    made = result("training-dynamics")
    lines = repr(made).splitlines()
    assert lines[:4] == [
        "training-dynamics: inconclusive", "Question: Is <it> so?", "The paper: It is.", "Found: It may be.",
    ]  # fmt: skip
    assert lines[4:] == [f"Table: {len(made.table)} rows of {', '.join(made.table.columns)}; units: 2"]


def test_a_figure_is_drawn_when_it_is_asked_for_and_once():
    made = result("rotate")
    assert "figure" not in vars(made)
    assert made.figure is made.figure
    assert made.figure.axes


def test_the_band_of_the_ablation_figure_reaches_from_quartile_to_quartile_over_classes():
    drops = [0.0, 0.1, 0.3, 0.6, 1.0, 0.2, 0.25, 0.9]
    rows = [
        {"kind": "best", "set_size": n, "class": f"class {place}", "drop": n * drop}
        for n in (1, 2)
        for place, drop in enumerate(drops)
    ]
    conclusion = Conclusion(question="?", paper=None, finding="!", outcome="agrees")
    drawn = ExperimentResult("ablate", pl.DataFrame(rows), conclusion).figure
    corners = drawn.axes[0].collections[0].get_paths()[0].vertices
    for place, n in enumerate((1, 2)):
        low, _, high = statistics.quantiles([n * drop for drop in drops], n=4, method="inclusive")
        here = corners[corners[:, 0] == place, 1]
        assert (here.min(), here.max()) == pytest.approx((low, high), rel=1e-12)
