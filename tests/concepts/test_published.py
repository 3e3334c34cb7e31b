"""The reader on the published data set's own tables, with label maps that the test draws."""

import csv
import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.errors import ConceptsError

pytestmark = pytest.mark.real

CATEGORIES = ("color", "object", "part", "material", "scene", "texture")


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "reference" / "broden1"


@pytest.fixture(scope="module")
def index(published: Path) -> list[dict[str, str]]:
    with gzip.open(published / "index-ade20k.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(published: Path, index: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(published, index, tmp_path_factory.mktemp("broden"))


def lay_out(published: Path, rows: list[dict[str, str]], root: Path) -> Path:
    for path in published.glob("*.csv"):
        shutil.copy(path, root)
    with (root / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def draw_map(root: Path, name: str, numbers: list[int], seed: int = 0) -> npt.NDArray[np.int64]:
    """Write a label map of random `numbers` (and 0) as R + 256 * G, with noise in the blue channel."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, *numbers], size=(112, 112))
    pixels = np.stack([labels % 256, labels // 256, rng.integers(0, 256, (112, 112))], axis=-1).astype(np.uint8)
    path = root / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return labels


def numbers_of(published: Path, category: str) -> list[int]:
    with (published / f"c_{category}.csv").open(newline="") as file:
        return [int(row["number"]) for row in csv.DictReader(file)]


def test_all_1197_labels_have_their_published_numbers_and_names(published: Path, whole: Path) -> None:
    data = ConceptData.open(whole)
    with (published / "label.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    assert len(data.concepts) == len(labels) == 1197
    assert [(c.label_id, c.name) for c in data.concepts] == [(int(row["number"]), row["name"]) for row in labels]
    assert data.by_label_id[14].synonyms == ("flooring",)
    assert len(data) == 22210
    assert Counter(row.split for row in data.rows) == {"train": 15716, "val": 6494}


def test_primary_categories_are_those_of_the_largest_coverage(published: Path, whole: Path) -> None:
    data = ConceptData.open(whole)
    coverage: dict[int, list[tuple[float, int, str]]] = {}
    with (published / "category.csv").open(newline="") as file:
        order = [row["name"] for row in csv.DictReader(file)]
    for place, category in enumerate(order):
        with (published / f"c_{category}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                entry = (float(row["coverage"]), place, category)
                coverage.setdefault(int(row["number"]), []).append(entry)
    assert {c.label_id: c.category for c in data.concepts} == {n: max(found)[2] for n, found in coverage.items()}
    assert sum(map(len, coverage.values())) == 1376
    # windowpane stands in object and in part; among the parts alone it is a part.
    assert data.by_label_id[15].category == "object"
    assert ConceptData.open(whole, categories=["part"]).by_label_id[15].category == "part"


def test_only_images_with_a_label_in_the_chosen_categories_take_part(whole: Path) -> None:
    assert len(ConceptData.open(whole, categories=["part"])) == 11560
    assert len(ConceptData.open(whole, categories=["scene"])) == 19733 - 1987  # a literal 0 is no label
    assert len(ConceptData.open(whole, categories=["scene", "part"], split="val")) < 6494
    with pytest.raises(ConceptsError, match="no image with a label in material"):
        ConceptData.open(whole, categories=["material"])
    with pytest.raises(ConceptsError, match="no category 'parts'"):
        ConceptData.open(whole, categories=["parts"])


def test_a_literal_scene_0_is_no_label(published: Path, index: list[dict[str, str]], tmp_path: Path) -> None:
    row = next(row for row in index if row["scene"] == "0")
    root = lay_out(published, [row], tmp_path)
    draw_map(root, row["color"], [1])
    draw_map(root, row["object"], [12])
    for number, name in enumerate(filter(None, row["part"].split(";"))):
        draw_map(root, name, [21], number)
    assert ConceptData.open(root).labels(0).image_level.tolist() == []


def test_three_part_channels_are_three_planes_and_wide_numbers_come_back(
    published: Path, index: list[dict[str, str]], tmp_path: Path
) -> None:
    row = next(row for row in index if row["part"].count(";") == 2)
    root = lay_out(published, [row], tmp_path)
    parts = numbers_of(published, "part")
    assert max(parts) > 255
    drawn = [draw_map(root, name, parts, seed) for seed, name in enumerate(row["part"].split(";"))]
    labels = ConceptData.open(root, categories=["part"]).labels(0)
    assert labels.label_channels.dtype == np.int32
    assert np.array_equal(labels.label_channels, np.stack(drawn))


def test_the_planes_stand_in_column_order_and_the_scene_is_whole(
    published: Path, index: list[dict[str, str]], tmp_path: Path
) -> None:
    row = next(row for row in index if row["scene"] not in ("", "0") and row["part"].count(";") == 1)
    root = lay_out(published, [row], tmp_path)
    drawn: dict[str, npt.NDArray[np.int64]] = {}
    for seed, category in enumerate(("color", "object", "part")):
        for name in row[category].split(";"):
            drawn[name] = draw_map(root, name, numbers_of(published, category), seed + len(drawn))
    labels = ConceptData.open(root).labels(0)
    assert labels.image_level.tolist() == [int(row["scene"])]
    assert np.array_equal(labels.label_channels, np.stack(list(drawn.values())))


def test_numbers_beside_label_maps_in_one_cell_and_several_numbers_are_read(
    published: Path, index: list[dict[str, str]], tmp_path: Path
) -> None:
    row = dict(index[0]) | {"part": "21;own/map.png;22", "texture": "314;237", "color": "", "object": "", "scene": "0"}
    root = lay_out(published, [row], tmp_path)
    drawn = draw_map(root, "own/map.png", [21, 26, 1006 if 1006 in numbers_of(published, "part") else 22])
    data = ConceptData.open(root)
    labels = data.labels(0)
    assert sorted(labels.image_level.tolist()) == [21, 22, 237, 314]
    assert np.array_equal(labels.label_channels, drawn[None])
    once = labels.deduplicated()
    assert not np.isin(once.label_channels, [21, 22]).any()  # the whole image bears them already


def test_a_number_that_no_table_names_is_an_error(published: Path, index: list[dict[str, str]], tmp_path: Path) -> None:
    row = dict(index[0]) | {"color": "own/map.png", "object": "", "part": "", "scene": ""}
    root = lay_out(published, [row], tmp_path)
    draw_map(root, "own/map.png", [1, 12])
    with pytest.raises(ConceptsError, match="holds the label id 12, which no"):
        ConceptData.open(root, categories=["color"]).labels(0)


def test_a_negative_number_in_a_foreign_format_is_an_error(
    published: Path, index: list[dict[str, str]], tmp_path: Path
) -> None:
    row = dict(index[0]) | {"color": "own/map.png", "object": "", "part": "", "scene": ""}
    root = lay_out(published, [row], tmp_path)
    pixels = np.full(draw_map(root, "own/map.png", [1]).shape, -3, np.int32)
    Image.fromarray(pixels).save(root / "images" / "own" / "map.png", format="TIFF")
    with pytest.raises(ConceptsError, match="holds the label id -3, which no"):
        ConceptData.open(root).labels(0)


def test_gray_and_indexed_maps_hold_the_red_channel_alone(
    published: Path, index: list[dict[str, str]], tmp_path: Path
) -> None:
    row = dict(index[0]) | {"color": "own/gray.png;own/indexed.png", "object": "", "part": "", "scene": ""}
    root = lay_out(published, [row], tmp_path)
    values = np.random.default_rng(0).integers(0, 12, (112, 112), dtype=np.uint8)
    (root / "images" / "own").mkdir(parents=True)
    Image.fromarray(values).save(root / "images/own/gray.png")
    indexed = Image.fromarray(values).convert("P")
    indexed.putdata(values.ravel().tolist())
    indexed.putpalette([7, 200, 90] * 256)
    indexed.save(root / "images/own/indexed.png")
    planes = ConceptData.open(root, categories=["color"]).labels(0).label_channels
    assert np.array_equal(planes, np.stack([values, values]))
