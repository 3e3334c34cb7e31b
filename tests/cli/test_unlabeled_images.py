"""From images without labels to a report that says how good the masks are, as a user types it."""

import json
from pathlib import Path

import pytest

from netdissect.report.console_tables import mask_agreement
from netdissect.result import load_result

SEGMENTER = """
import numpy as np

class Reds:
    labels = ["square", "wall"]
    def segment(self, images):
        red = images[..., 0] > 180
        red[:, 1::4] = False  # about half of each square is missed, at the size of label maps
        return np.where(red, 1, 2)[:, None]
"""


@pytest.fixture
def segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"segmenters_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SEGMENTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"python:{name}:Reds"


def test_a_run_on_unlabeled_images_says_how_good_its_masks_are(
    netdissect, labeled: Path, module: str, segmenter: str, tmp_path: Path
) -> None:
    human, data, run = (tmp_path / name for name in ("human", "data", "run"))
    netdissect("concepts", "build", f"masks:{labeled}", "--out", human, "--size", 48, "--workers", 1)
    common = ("concepts", "segment", labeled / "images", "--segmenter", segmenter, "--size", 48, "--workers", 1)
    made = netdissect(*common, "--out", data, "--compare", human, "--json")
    assert made.code == 0, made.err
    facts = json.loads(made.out)
    measured = {row["concept"]: row for row in facts["masks"]["agreement"]["concepts"]}
    iou = measured["square"]["iou"]
    assert 0.4 < iou < 0.6
    assert measured["square"]["intersection"] / (
        measured["square"]["machine_pixels"] + measured["square"]["human_pixels"] - measured["square"]["intersection"]
    ) == pytest.approx(iou)
    assert facts["concepts"].keys() == {"object", "color"}

    ran = netdissect(
        "run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--quantile", 0.05, "--out", run,
        "--bootstrap", 0, "--categories", "object",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    recorded = load_result(run).info.data.masks
    assert recorded is not None
    assert recorded.model_dump(mode="json") == facts["masks"]
    table = str(mask_agreement(recorded))
    assert f"Labels are masks by {segmenter}: mean IoU" in table
    assert f"{iou:.3f}" in table
    units = netdissect("show", run, "--units").out
    assert f"mask IoU {iou:.2f}" in units
    assert f"Labels are masks by {segmenter}" in units
    assert f"mask IoU {iou:.2f}" in netdissect("show", run, "--concepts").out
    assert netdissect("report", run, "--out", tmp_path / "report").code == 0
    said = f"Mask by {segmenter}, IoU against human masks {iou:.2f}"
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "report").rglob("*.html")]
    assert sum(said in page for page in pages) >= 2  # of the unit and of the concept
    assert any(f'title="{said[0].lower()}{said[1:]}"' in page for page in pages)  # of its card


def test_a_mistake_with_a_segmenter_is_one_paragraph(netdissect, labeled: Path, tmp_path: Path) -> None:
    common = ("concepts", "segment", labeled / "images", "--out", tmp_path / "data", "--segmenter")
    outcome = netdissect(*common, "torchvision:deeplab_resnet50")
    assert outcome.code == 2
    assert (
        "SegmenterError: torchvision has no segmenter 'deeplab_resnet50'. Did you mean deeplabv3_resnet50"
        in outcome.err
    )
    outcome = netdissect(*common, "python:nothing_here:Reds")
    assert outcome.code == 2
    assert "Module 'nothing_here' of segmenter 'python:nothing_here:Reds' cannot be imported" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "data").exists()
