"""Tables of the authors' Caffe code (2017): their counts, and that exported tables have the same form."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from netdissect.config import RULES
from netdissect.errors import ResultError
from netdissect.result import Result, read_published, write_published
from netdissect.scoring import count_detectors, iou

TABLE = "reference/alexnet-places365-conv5-result.csv"
CATEGORIES = ("object", "color", "material", "scene", "texture", "part")


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / TABLE


@pytest.mark.real
def test_the_published_table_has_118_detectors_72_unique_by_top_label(published: Path) -> None:
    found = count_detectors(read_published(published).labels, "top-label", 0.04)
    assert (found.units, found.detectors["total"], found.unique_detectors["total"]) == (256, 118, 72)


@pytest.mark.real
def test_the_published_table_has_91_unique_detectors_per_category(published: Path) -> None:
    found = count_detectors(read_published(published).labels, "per-category", 0.04)
    assert found.detectors["total"] == 118
    assert found.unique_detectors == {
        "total": 91, "object": 40, "part": 9, "scene": 13, "material": 2, "texture": 25, "color": 2,
    }  # fmt: skip


@pytest.mark.real
def test_counts_agree_with_the_published_list_of_27_networks(published: Path, shared: Path) -> None:
    with (shared / "reference/published-detectors.csv").open(newline="") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    row = rows["caffe_reference_places365"]
    found = count_detectors(read_published(published).labels, "per-category", 0.04)
    assert int(row["detector_units"]) == found.detectors["total"]
    assert float(row["detector_share"]) == pytest.approx(found.detectors["total"] / found.units, abs=1e-6)
    for category in (*CATEGORIES, "total"):
        assert int(row[f"unique_{category}"]) == found.unique_detectors[category]
    for category in CATEGORIES:
        assert int(row[f"detectors_{category}"]) == found.detectors[category]


@pytest.mark.real
def test_every_published_iou_follows_from_its_counts_to_the_last_bit(published: Path) -> None:
    table = read_published(published)
    for index, category in enumerate(table.labels.categories):
        counts = [table.counts[f"{category}-{part}"] for part in ("intersect", "activation", "truth")]
        assert all((values == values.round()).all() for values in counts)
        scores = iou(*(values.astype(np.int64) for values in counts))
        named = table.labels.names[:, index] != ""
        assert named.any()
        np.testing.assert_array_equal(scores[named], table.labels.scores[named, index])


@pytest.mark.real
def test_columns_are_exactly_those_of_the_published_table(result: Result, published: Path, tmp_path: Path) -> None:
    with published.open(newline="") as file:
        header = next(csv.reader(file))
    with write_published(result, "layer4", tmp_path / "table.csv").open(newline="") as file:
        found = next(csv.reader(file))
    ours = [name for name in found if not name.startswith("glow-")]
    absent = ("material-", "scene-", "texture-")
    assert ours == [name for name in header if not name.startswith(absent)]
    assert found[-5:] == [f"glow-{part}" for part in ("label", "truth", "activation", "intersect", "iou")]


@pytest.mark.parametrize("quantile", [None, 0.005, 0.02])
@pytest.mark.parametrize("layer", ["features.0/odd name", "layer4"])
def test_a_written_table_is_read_back_with_the_same_counts(
    result: Result, tmp_path: Path, layer: str, quantile: float | None
) -> None:
    table = read_published(write_published(result, layer, tmp_path / "table.csv", quantile))
    level = 0.005 if quantile is None else quantile
    units = result.layer(layer).units.filter(quantile=level)
    assert sorted(table.units) == [unit + 1 for unit in range(units.height)]
    ious = [units["iou"][number - 1] for number in table.units.tolist()]
    assert ious == sorted(ious, reverse=True)
    for place, number in enumerate(table.units.tolist()):
        row = units.row(number - 1, named=True)
        for index, category in enumerate(table.labels.categories):
            assert table.labels.names[place, index] == (row[f"{category}-label"] or "")
            assert table.labels.scores[place, index] == row[f"{category}-iou"]
            for part in ("truth", "activation", "intersect"):
                assert table.counts[f"{category}-{part}"][place] == row[f"{category}-{part}"]
    labels = result.unit_labels(layer, level)
    for rule in RULES:
        for min_iou in (0.0, 0.02, 0.04, 0.08):
            found = count_detectors(table.labels, rule, min_iou)
            wanted = count_detectors(labels, rule, min_iou)
            assert (found.units, found.detectors, found.unique_detectors) == (
                wanted.units,
                wanted.detectors,
                wanted.unique_detectors,
            )


def test_written_units_are_numbered_from_one_and_sorted_by_score(result: Result, tmp_path: Path) -> None:
    with write_published(result, "features.0/odd name", tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["unit"]) for row in rows) == list(range(1, 8))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    dead = next(row for row in rows if row["unit"] == "1")
    assert (dead["label"], dead["category"], float(dead["score"])) == ("", "", 0.0)
    for row in rows:
        if row["label"]:
            assert row["label"] == row[f"{row['category']}-label"]
            assert row["score"] == row[f"{row['category']}-iou"]


HEADER = "unit,category,label,score,a-label,a-truth,a-activation,a-intersect,a-iou"
GOOD = "1,a,car,0.5,car,4,4.0,2,0.5"


def table_of(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_blank_label_is_no_concept_whatever_its_iou(tmp_path: Path) -> None:
    path = table_of(tmp_path / "t.csv", HEADER, GOOD, "2,a,,0.9,,9,9.0,9,0.9")
    for rule in RULES:
        found = count_detectors(read_published(path).labels, rule, 0.04)
        assert (found.units, found.detectors["a"], found.unique_detectors["a"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "it has no category or no unit|column 'unit' is missing"),
        ((HEADER,), "it has no category or no unit"),
        (("a,b,c", "1,2,3"), "column 'unit' is missing"),
        ((HEADER.removesuffix(",a-iou"), GOOD), "column 'a-iou' is missing"),
        ((HEADER, "one" + GOOD[1:]), "no number"),
        ((HEADER, GOOD.removesuffix("0.5") + "half"), "no number"),
        ((HEADER, GOOD, GOOD[:14]), "."),
        ((HEADER, GOOD, "2,a,car,0.5,car,4"), "."),
        ((HEADER, GOOD, "2,a,car,0.5,car,4,4.0,2,"), "."),
        ((HEADER, GOOD, "2,a,car,0.5,car,4,4.0,2,nan"), "."),
        ((HEADER, GOOD, GOOD + ",7,8"), "."),
    ],
)
def test_a_table_that_is_foreign_or_cut_short_is_refused_by_name(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    path = table_of(tmp_path / "t.csv", *lines)
    with pytest.raises(ResultError, match=f"{re.escape(str(path))}.*({message})"):
        read_published(path)


@pytest.mark.real
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_published_table_cut_within_a_line_is_refused(published: Path, tmp_path: Path, share: float) -> None:
    content = published.read_bytes()
    path = tmp_path / "cut.csv"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ResultError, match=re.escape(str(path))):
        read_published(path)


def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(ResultError, match=re.escape(f"{path} cannot be read")):
        read_published(path)
    path.write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(ResultError, match=re.escape(str(path))):
        read_published(path)
    path.write_bytes(b"unit,\x00")
    with pytest.raises(ResultError, match=re.escape(str(path))):
        read_published(path)


def test_an_unknown_quantile_or_folder_is_a_typed_error(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no quantile 0\.5; it has 0\.005, 0\.02"):
        write_published(result, "layer4", tmp_path / "t.csv", 0.5)
    with pytest.raises(ResultError, match=r"absent.t\.csv cannot be written"):
        write_published(result, "layer4", tmp_path / "absent" / "t.csv")
