"""Folders of classes at any depth: read, or asked about."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from netdissect.concepts.sources import parse_source
from netdissect.errors import SourceError


def draw(root: Path, places: Iterable[str]) -> Path:
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return root


def classes(text: str) -> dict[str, tuple[str, str | None]]:
    """By image, its class and split."""
    found = {}
    for sample in parse_source(text).samples("own"):
        ((label,),) = sample.read_labels().values()
        found[sample.name.removeprefix("own/")] = (str(label), sample.split)
    return found


def labels(text: str) -> set[str]:
    return {label for label, _ in classes(text).values()}


@pytest.mark.parametrize("above", ["", "images/", "train/", "images/val/"])
@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (("abbey/1.jpg", "beach/1.jpg"), {"abbey", "beach"}),
        (("a/abbey/1.jpg", "a/airport/1.jpg", "b/beach/1.jpg"), {"abbey", "airport", "beach"}),
        (
            ("a/abbey/1.jpg", "a/apartment_building/outdoor/1.jpg", "c/church/indoor/1.jpg"),
            {"abbey", "apartment_building-outdoor", "church-indoor"},
        ),
    ],
)
def test_classes_are_found_below_images_splits_and_initial_letters(
    above: str, places: tuple[str, ...], expected: set[str], tmp_path: Path
) -> None:
    draw(tmp_path / "own" / above, places)
    assert labels(f"folders:{tmp_path / 'own'}=scene") == expected


def test_train_and_val_are_splits(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["train/abbey/1.jpg", "Validation/abbey/1.jpg", "test/beach/2.jpg"])
    assert classes(f"folders:{root}=scene") == {
        "Validation/abbey/1": ("abbey", "val"),
        "test/beach/2": ("beach", "val"),
        "train/abbey/1": ("abbey", "train"),
    }


def test_training_and_testing_are_splits(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["Training/0/1.png", "Testing/1/2.png"])
    assert classes(f"folders:{root}=object") == {"Testing/1/2": ("1", "val"), "Training/0/1": ("0", "train")}


def test_a_class_called_train_is_no_split_beside_others_or_on_request(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["train/1.jpg", "bus/1.jpg"])
    assert classes(f"folders:{root}=object") == {"bus/1": ("bus", None), "train/1": ("train", None)}
    alone = draw(tmp_path / "alone", ["train/1.jpg"])
    with pytest.raises(SourceError, match=r"train/1\.jpg lies in no class folder.*\?splits=no if"):
        labels(f"folders:{alone}=object")
    assert labels(f"folders:{alone}=object?splits=no") == {"train"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("first", {"animals", "tools"}),
        ("last", {"dog", "cat", "saw"}),
        ("path", {"animals-dog", "animals-cat", "tools-saw"}),
    ],
)
def test_folders_of_folders_are_asked_about_and_an_option_settles_it(
    choice: str, expected: set[str], tmp_path: Path
) -> None:
    root = draw(tmp_path / "own", ["animals/dog/1.jpg", "animals/cat/1.jpg", "tools/saw/1.jpg"])
    with pytest.raises(
        SourceError, match=r"in doubt.*\?class=last for 'cat', \?class=path for 'animals-cat'.*'animals'"
    ):
        labels(f"folders:{root}=object")
    source = parse_source(f"folders:{root}=object?class={choice}")
    assert labels(source.text) == expected


def test_one_image_deeper_than_the_others_is_asked_about(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["abbey/1.jpg", "church/indoor/1.jpg"])
    with pytest.raises(SourceError, match="'church-indoor'"):
        labels(f"folders:{root}=scene")
    assert labels(f"folders:{root}=scene?class=path") == {"abbey", "church-indoor"}


def test_folders_that_are_letters_themselves_are_classes(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["a/1.jpg", "b/1.jpg"])
    assert labels(f"folders:{root}=object") == {"a", "b"}


@pytest.mark.parametrize(
    "places",
    [
        ("images/1.jpg", "masks/1.png"),
        ("images/deep/1.jpg", "masks/deep/1.png"),
        ("train/images/1.jpg", "train/masks/1.png", "val/images/2.jpg", "val/masks/2.png"),
        ("images/train/1.jpg", "annotations/train/1.png"),
        ("JPEGImages/1.jpg", "SegmentationClass/1.png"),
        ("paris/photos/1.jpg", "paris/labels/1.png"),
        ("VOCdevkit/VOC2012/JPEGImages/1.jpg", "VOCdevkit/VOC2012/SegmentationClass/1.png"),
        ("images/1.jpg",),
        ("images/1.jpg", "depth/1.png"),
    ],
)
def test_folders_of_images_and_masks_are_no_classes(places: tuple[str, ...], tmp_path: Path) -> None:
    root = draw(tmp_path / "own", places)
    with pytest.raises(SourceError, match=r"no names of classes\..*masks:.*own reads images with masks"):
        labels(f"folders:{root}=texture")


def test_the_folder_above_the_classes_is_told_to_name_them(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["Data/train/abbey/1.jpg", "Data/test/beach/1.jpg"])
    with pytest.raises(SourceError, match=r"or folders:.*own/Data if that folder holds the classes"):
        labels(f"folders:{root}=scene")
    assert classes(f"folders:{root / 'Data'}=scene")["test/beach/1"] == ("beach", "val")


def test_lists_beside_the_class_folders_are_no_masks(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", ["images/banded/1.jpg"])
    (root / "labels").mkdir()
    (root / "labels" / "labels_joint_anno.txt").write_text("banded/1.jpg banded\n")
    assert labels(f"folders:{root}=texture") == {"banded"}


def test_an_unknown_choice_of_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="says class=second"):
        parse_source(f"folders:{tmp_path}=scene?class=second")


@pytest.mark.real
def test_real_folders_keep_their_classes(shared: Path) -> None:
    for name, count in (("scene15", 15), ("dtd", 10)):
        folder = shared / "data" / name
        found = {
            str(sample.read_labels()["scene"][0]) for sample in parse_source(f"folders:{folder}=scene").samples("own")
        }
        own = {path.name for path in (folder / "images").iterdir()}
        assert len(own) == count
        assert own <= found if name == "dtd" else own == found
