"""Pictures with classes: from folders, from data sets, in halves."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import labeled_images
from netdissect import ConceptData
from netdissect.errors import ConceptsError, ConfigError, SourceError
from netdissect.models import Preprocessing
from netdissect.synthetic import SCENE_NAMES, training_objects, training_set, write_synthetic
from netdissect.synthetic.generate import render
from netdissect.training.classification_data import balanced_halves, labeled_data, labeled_folder


def test_the_folders_are_the_classes_and_batches_hold_the_images_in_order(tmp_path):
    found = labeled_images.images(tmp_path, count=3)
    assert found.classes == ("blue", "green", "red")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    batches = list(found.batches(Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3), size=4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert batches[0].shape == (4, 3, 8, 8)


def test_labels_follow_the_network_s_order_of_classes_whatever_the_spelling(tmp_path):
    found = labeled_images.images(tmp_path, count=1).relabeled(["Red", "night sky", "BLUE", "green"])
    assert [found.classes[label].lower() for label in found.labels] == ["blue", "green", "red"]
    with pytest.raises(ConfigError, match="class 'blue' of the images is not among the network's 2 classes"):
        labeled_folder(tmp_path / "classes").relabeled(["red", "green"])


def test_frequent_classes_are_kept_with_their_images(tmp_path):
    found = labeled_images.images(tmp_path, count=3)
    kept = found.subset(np.array([0, 3, 4, 6, 7])).frequent(2)
    assert kept.classes == ("green", "red")
    assert [path.parent.name for path in kept.paths] == [kept.classes[label] for label in kept.labels]


def test_scenes_of_a_data_set_are_classes_without_their_suffix(tmp_path):
    data = ConceptData.open(write_synthetic(tmp_path / "world", images=12, size=64))
    found = labeled_data(data).relabeled(SCENE_NAMES)
    drawn = [(render(index, 0, 64).labels["scene"] or [None])[0] for index in range(12)]
    assert [found.classes[label] for label in found.labels] == [scene for scene in drawn if scene]
    with pytest.raises(ConceptsError, match="holds no image of a class"):
        labeled_data(data, "object")


def test_folders_below_splits_and_letters_are_the_classes_that_a_build_finds(tmp_path):
    for place in ("train/a/abbey/1.png", "train/b/beach/2.png", "val/a/abbey/3.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    found = labeled_folder(tmp_path)
    assert found.classes == ("abbey", "beach")
    assert [(path.stem, found.classes[label]) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("1", "abbey"),
        ("2", "beach"),
        ("3", "abbey"),
    ]


def test_photographs_are_rotated_upright_and_images_of_a_data_set_are_not(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise: the top row is the right column
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png", exif=exif)
    plain = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3)
    found = labeled_folder(tmp_path)
    (upright,) = next(found.batches(plain))
    (stored,) = next(dataclasses.replace(found, as_stored=True).batches(plain))
    assert np.argwhere(upright[0]).tolist() == [[row, 7] for row in range(8)]
    assert np.argwhere(stored[0]).tolist() == [[0, column] for column in range(8)]


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no folder"):
        labeled_folder(tmp_path)


@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=60), seed=st.integers(0, 99))
def test_halves_share_no_image_and_hold_half_of_each_class(labels, seed):
    numbers = np.array(labels)
    first, second = balanced_halves(numbers, seed)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        assert abs(int((numbers[first] == label).sum()) - int((numbers[second] == label).sum())) <= 1


def test_objects_are_those_of_the_labels_of_the_same_images():
    from netdissect.synthetic import THING_NAMES
    from netdissect.synthetic.draw_image import draw

    shown = training_objects(6, size=64, seed=3, workers=1)
    assert shown.shape == (6, len(THING_NAMES))
    pictures, _ = training_set(6, size=64, seed=3, workers=1)
    for index in range(6):
        drawn = draw(index, 3, 64, swatch_share=0.0)
        assert np.array_equal(drawn.image, pictures[index])
        for place, name in enumerate(THING_NAMES):
            here = np.isin(
                drawn.drawing.surface_of, [n for n, s in enumerate(drawn.drawing.surfaces) if s.thing == name]
            )
            assert shown[index, place] == (here.mean() >= 0.01)
    assert shown.any()
