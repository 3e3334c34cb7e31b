"""Figures and reports of several runs, from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Netdissect = Callable[..., Any]


@pytest.fixture
def run(netdissect: Netdissect, labeled: Path, module: str, tmp_path: Path) -> Path:
    """A finished run of one layer with three units."""
    netdissect("concepts", "build", f"masks:{labeled}", "--out", tmp_path / "data", "--size", 32, "--min-images", 1)
    network = f"python:{module}:red"
    made = netdissect(
        "run", network, "--concepts", tmp_path / "data", "--layer", "0", "--quantile", 0.1, "--out", tmp_path / "run",
        "--sensitivity",
        "standard",
    )  # fmt: skip
    assert made.code == 0, made.err
    return tmp_path / "run"


def test_every_figure_is_drawn_in_every_format(netdissect: Netdissect, run: Path, tmp_path: Path) -> None:
    for arguments, out in (
        (("bars", run, "--colors", "paper"), "bars.pdf"),
        (("layers", run, run, "--rule", "per-category"), "layers.svg"),
        (("iou", run, "--layer", "0"), "iou.png"),
        (("depth", run, run, "--width", 3.3), "depth.png"),
        (("units", run, "--unit", 1, "--unit", 0, "--count", 3, "--mask", "both"), "units.png"),
        (("overlap", run, "--count", 2, "--width", 3.3), "overlap.pdf"),
        (("concept-scatter", run, run), "concept-scatter.pdf"),
        (("matched-units", run, run, "--layer", "0", "--pairs", 2), "matched-units.png"),
        (("unit-map", run), "unit-map.svg"),
        (("sensitivity", run, "--rule", "per-category"), "sensitivity.svg"),
    ):
        drawn = netdissect("figure", *arguments, "-o", tmp_path / out)
        assert drawn.code == 0, drawn.err
        assert drawn.out.strip() == f"Wrote {tmp_path / out}"
    assert (tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "layers.svg").read_text()
    for name, inches in (("units.png", 6.8), ("depth.png", 3.3)):
        with Image.open(tmp_path / name) as image:
            assert image.width == 300 * inches


def test_a_figure_that_cannot_be_drawn_is_an_error(netdissect: Netdissect, run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("bars", run, "-o", tmp_path / "a.gif"), "Name a file that ends with .pdf, .svg, .png"),
        (("concept-scatter", run, "-o", tmp_path / "a.pdf"), "1 run given. Expected two."),
        (("matched-units", run, "-o", tmp_path / "a.pdf"), "1 run given. Expected two."),
        (("units", run, "--unit", 7, "-o", tmp_path / "a.pdf"), "no unit 7; its units are 0 to 2"),
        (("depth", run, "--width", 2, "-o", tmp_path / "a.pdf"), "--width"),
        (("iou", tmp_path, "-o", tmp_path / "a.pdf"), "is no run folder"),
    ):
        drawn = netdissect("figure", *arguments)
        assert drawn.code == 2
        assert message in " ".join(drawn.err.split())


def test_several_runs_make_one_report_in_a_named_folder(netdissect: Netdissect, run: Path, tmp_path: Path) -> None:
    refused = netdissect("report", run, run)
    assert refused.code == 2
    assert "Name one with --out" in " ".join(refused.err.split())
    made = netdissect("report", run, run, "--out", tmp_path / "report")
    assert made.code == 0, made.err
    assert f"The report is {tmp_path / 'report' / 'index.html'}" in made.out
    assert (tmp_path / "report" / "r1" / "l0" / "u2.html").is_file()


def test_an_image_is_segmented_by_the_network_that_is_named(
    netdissect: Netdissect, run: Path, module: str, labeled: Path, tmp_path: Path
) -> None:
    image, out = (
        next(path for path in sorted(labeled.rglob("*")) if path.suffix in (".png", ".jpg")),
        tmp_path / "a.svg",
    )
    drawn = netdissect("figure", "image", run, image, "--network", f"python:{module}:red", "--width", 3.3, "-o", out)
    assert drawn.code == 0, drawn.err
    assert "<svg" in out.read_text()
    refused = netdissect("figure", "image", run, image, "-o", out)
    assert refused.code == 2
    assert "code that a file of others names is not run" in " ".join(refused.err.split())
    refused = netdissect("figure", "image", run, image, "--network", f"python:{module}:missing", "-o", out)
    assert (refused.code, "has no function 'missing'" in " ".join(refused.err.split())) == (2, True)
