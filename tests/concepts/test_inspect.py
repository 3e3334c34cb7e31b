"""Inspection counts anew, finds everything that is wrong at once, and draws what it saw."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.concepts.inspect.contact_sheet import concept_color
from netdissect.concepts.inspect.inspect import Inspection, contact_sheet, inspect_dataset
from netdissect.errors import ConceptsError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    samples = []
    for n in range(4):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        values = rng.integers(0, 3, (16, 16))
        parts: list[Channel | str] = [
            Channel(values, {1: "wheel", 2: "door"}),
            Channel(values[::-1], {1: "door", 2: "handle"}),
        ]
        labels: dict[str, list[Channel | str]] = {
            "object": [Channel(values, {1: "car", 2: "road"})],
            "part": parts,
            "scene": ["street"],
        }
        samples.append(Sample(f"src/{n}", pixels, labels))
    return write_dataset(tmp_path / "set", samples, WriteOptions(size=16, colors=True))


def edit(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))


def test_a_sound_data_set_has_no_problems_and_its_facts_are_right(root: Path) -> None:
    seen = inspect_dataset(root)
    assert seen.problems == ()
    assert (seen.images, seen.labeled, sum(seen.splits.values())) == (4, 4, 4)
    assert seen.sizes == {"16x16, label maps 8x8": 4}
    assert [facts.name for facts in seen.categories] == ["color", "object", "part", "scene"]
    street = next(concept for concept in seen.concepts if concept.name == "street-s")
    assert (street.frequency, street.coverage, street.share) == (4, 4.0, 1.0)
    assert street.max_attainable_iou == pytest.approx(0.005)
    assert street.max_attainable_iou_at_0_02 == pytest.approx(0.02)
    assert Inspection.model_validate_json(seen.model_dump_json()) == seen


def test_several_workers_see_the_same(root: Path) -> None:
    assert inspect_dataset(root, workers=2) == inspect_dataset(root)


@pytest.mark.parametrize(
    ("file", "change", "told_in", "message"),
    [
        ("index.csv", lambda t: t.replace("src/1.jpg", "src/9.jpg"), "images/src/9.jpg", "does not exist"),
        ("index.csv", lambda t: t.replace("src/1_object.png", "src/9.png"), "images/src/9.png", "does not exist"),
        ("index.csv", lambda t: t.replace("src/1.jpg", "../1.jpg"), "images/../1.jpg", "lies outside"),
        ("index.csv", lambda t: t.replace("src/1.jpg", "src/0.jpg"), "index.csv", "2 times"),
        ("index.csv", lambda t: t.replace(",16,16,8,8", ",16,16,9,8", 1), "images/src/0_object.png", "9 x 8"),
        ("index.csv", lambda t: t.replace(",16,16,8,8", ",17,16,8,8", 1), "images/src/0.jpg", "17 x 16"),
        ("index.csv", lambda t: t.replace(",16,16,8,8", ",16,16,0,8", 1), "index.csv", "the sh '0'"),
        ("index.csv", lambda t: t.replace(",train,", ",test,").replace(",val,", ",test,"), "index.csv", "'test'"),
        ("index.csv", lambda t: t[:-20], "index.csv", "a row for src/3.jpg that is shorter"),
        ("category.csv", lambda t: t.replace("part,", "prat,"), "category.csv", "no such column"),
        ("category.csv", lambda t: t.rsplit(",", 1)[0] + ",99\n", "category.csv", "frequency 99 of scene"),
        ("label.csv", lambda t: t.replace("car,object(4)", "a,b,object(4)"), "label.csv", "is longer than the header"),
        ("label.csv", lambda t: t.replace("car,object(4)", "cat,object(4)"), "c_object.csv", "'car', but label.csv"),
        ("label.csv", lambda t: t.replace("car,object(4),4", "car,object(4),3"), "label.csv", "frequency 3"),
        ("c_object.csv", lambda t: t.replace(",car,4", ",car,3"), "c_object.csv", "frequency 3 of"),
        ("c_scene.csv", lambda t: t.replace("4.000", "3.500"), "c_scene.csv", "coverage 3.5 of"),
        ("c_part.csv", lambda t: t.replace("wheel,4", "wheel,x"), "c_part.csv", "'x' in the column frequency"),
        ("c_part.csv", lambda t: "\n".join(t.splitlines()[:-1]), "images/src/0_part_1.png", "that c_part.csv does not"),
        ("c_part.csv", lambda t: t.replace("code", "kode"), "c_part.csv", "lacks the column 'code'"),
    ],
)  # fmt: skip
def test_each_kind_of_damage_is_found_and_named(
    root: Path, file: str, change: Callable[[str], str], told_in: str, message: str
) -> None:
    edit(root / file, change)
    problems = inspect_dataset(root).problems
    assert any(problem.file == told_in and message in problem.message for problem in problems), problems


@pytest.mark.parametrize("name", ["src/0.jpg", "src/0_object.png"])
def test_truncated_files_are_named(root: Path, name: str) -> None:
    path = root / "images" / name
    path.write_bytes(path.read_bytes()[:60])
    (problem,) = inspect_dataset(root).problems
    assert problem.file == f"images/{name}"


def test_all_problems_are_collected(root: Path) -> None:
    (root / "images/src/0.jpg").unlink()
    (root / "images/src/1_part_2.png").write_bytes(b"x")
    (root / "c_color.csv").unlink()
    files = {problem.file for problem in inspect_dataset(root).problems}
    assert {"images/src/0.jpg", "images/src/1_part_2.png", "c_color.csv"} <= files


def test_a_folder_without_an_index_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConceptsError, match=r"is not a concept data set: it has no index\.csv"):
        inspect_dataset(tmp_path)


def test_an_empty_index_is_a_problem(root: Path) -> None:
    with (root / "index.csv").open(newline="") as file:
        header = next(csv.reader(file))
    (root / "index.csv").write_text(",".join(header) + "\n")
    seen = inspect_dataset(root)
    assert seen.images == 0
    assert any(problem.message.startswith("has no row") for problem in seen.problems)


@pytest.mark.real
def test_a_data_set_that_others_built_has_no_problems(shared: Path) -> None:
    seen = inspect_dataset(shared / "data" / "broden-camvid")
    assert seen.problems == ()
    assert [facts.images for facts in seen.categories] == [138, 138, 92]


def test_the_contact_sheet_is_drawn_by_its_seed(root: Path) -> None:
    sheet = contact_sheet(root, images=3)
    assert np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(root, images=3)))
    assert not np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(root, images=3, seed=1)))
    colors = {tuple(color) for color in np.asarray(sheet).reshape(-1, 3).tolist()}
    objects = [concept for concept in inspect_dataset(root).concepts if concept.category == "object"]
    assert {concept_color(concept.label_id, concept.name) for concept in objects} <= colors


def test_the_contact_sheet_passes_over_what_cannot_be_read(root: Path) -> None:
    (root / "images/src/0.jpg").write_bytes(b"x")
    contact_sheet(root, images=4)
    for path in (root / "images/src").glob("*.jpg"):
        path.unlink()
    with pytest.raises(ConceptsError, match="not one image of"):
        contact_sheet(root)


def test_a_tall_data_set_of_whole_labels_alone_has_a_sheet(tmp_path: Path) -> None:
    tall = np.zeros((30, 4, 3), np.uint8)
    root = write_dataset(tmp_path / "set", [Sample("a/1", tall, {"scene": ["x" * 90]})], WriteOptions(size=8))
    sheet = np.asarray(contact_sheet(root))
    assert (sheet == 0).all(axis=2).sum() > 1000  # the image, enlarged
