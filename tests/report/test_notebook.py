"""Notebooks: results and units show themselves, and the example notebook runs."""

from pathlib import Path
from xml.etree import ElementTree as ET

import nbformat
import pytest

from generated_pages import RUN_NOTEBOOK
from netdissect.errors import ResultError
from netdissect.report import show_unit
from netdissect.result import Result

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def parsed(html: str) -> ET.Element:
    """Parse HTML as XML: tags are closed and names are text, whatever a name contains."""
    return ET.fromstring(f"<div>{html}</div>")  # noqa: S314


def test_a_result_shows_count_null_and_best_units_of_every_layer(result: Result) -> None:
    page = parsed(result._repr_html_())
    rows = [[cell.text or "" for cell in row] for row in page.iter("tr")]
    assert rows[0] == ["layer", "units", "unique detectors", "null", "best units"]
    first = [entry for entry in result.detectors() if entry.quantile == 0.05]
    for row, entry in zip(rows[1:], first, strict=True):
        assert row[:4] == [entry.layer, "8", str(entry.count.unique_detectors["total"]), "not measured"]
        best = result.layers[entry.layer].units.filter(quantile=0.05).sort("iou", "unit", descending=[True, False])
        unit, label, iou = best.select("unit", "label", "iou").row(0)
        assert row[4].startswith(f"{unit} {label} {iou:.3f}, ")
    assert [note.text for note in page.iter("p")] == ["no permutation null: --permutations 100"]
    assert page.find(".//caption").text == str(result).splitlines()[0]  # type: ignore[union-attr]


def test_a_unit_shows_its_label_and_top_images_and_names_are_text(result: Result) -> None:
    for row in result.layers["block.1"].units.filter(quantile=0.05).iter_rows(named=True):
        shown = show_unit(result, "block.1", row["unit"])
        page = parsed(shown._repr_html_())
        images = list(page.iter("svg"))
        assert len(images) == (0 if row["dead"] else 7)
        assert page.find(".//b").text == ("dead" if row["dead"] else row["label"] or "no concept")  # type: ignore[union-attr]
        assert str(shown).startswith(f"unit {row['unit']}: ")
    assert images == []
    with pytest.raises(ResultError, match=r"no unit 8; its units are 0 to 7"):
        show_unit(result, "block.1", 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's own libraries
def test_the_example_notebook_runs_and_shows_what_it_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept, shown = (
        [output.data for cell in notebook.cells for output in cell.get("outputs", ())]
        for notebook in (nbformat.read(NOTEBOOK, as_version=4), RUN_NOTEBOOK.executed(NOTEBOOK))
    )
    assert [each["text/plain"] for each in shown] == [each["text/plain"] for each in kept]
    assert sum("text/html" in each for each in shown) >= 3
    assert sum("image/svg+xml" in each for each in shown) == 2
    assert str(tmp_path) not in str(shown)
