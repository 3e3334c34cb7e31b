"""Segmenters of torchvision, of one's own code, and of files that netdissect trained; and specifications of none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from netdissect.concepts import Size
from netdissect.concepts.colors import COLOR_NAMES, name_colors
from netdissect.errors import CheckpointError, NetworkError, SegmenterError, ShapeError
from netdissect.segmenters import Segmenter, load_segmenter
from netdissect.segmenters.color_labels import with_colors
from netdissect.segmenters.label_scores import stretched
from netdissect.synthetic import render
from netdissect.training.scene_net import preprocessing
from netdissect.training.segmentation.segmentation_net import load_trained_segmenter

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
FACTORY = """
import numpy as np

class Threshold:
    labels = ["bright", ("red", "part")]
    def segment(self, images):
        bright = images.mean(-1) > 128
        red = images[..., 0] > 200
        return np.stack([bright * 1, red * 2], 1)[:, :, ::2, ::2]

class Broken(Threshold):
    def segment(self, images):
        return {broken}

class Unnamed(Threshold):
    labels = {labels}
"""


def test_a_segmenter_of_torchvision_is_the_argmax_of_its_logits() -> None:
    segmenter = load_segmenter("torchvision:lraspp_mobilenet_v3_large@none")
    assert segmenter.labels[:2] == (("aeroplane", "object"), ("bicycle", "object"))
    assert len(segmenter.labels) == 20  # the background is none
    network = segmenter.module.scores
    inputs = network.preprocessing.normalize(
        stretched(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float(), network.preprocessing).round().byte()
    )
    with torch.no_grad():
        scores = torch.nn.functional.interpolate(network.network(inputs)["out"], (64, 64), mode="bilinear")
    agree = segmenter.segment(IMAGES)[:, 0] == scores.argmax(1).numpy()
    assert agree.mean() > 0.97  # the input is rounded to bytes here


def test_an_unknown_name_of_torchvision_lists_similar_ones() -> None:
    with pytest.raises(SegmenterError, match=r"no segmenter 'lrasp_mobilenet_v3_large'. Did you mean lraspp"):
        load_segmenter("torchvision:lrasp_mobilenet_v3_large")


def factory(folder: Path, monkeypatch: pytest.MonkeyPatch, *, broken: str = "None", labels: str = "()") -> str:
    """Write a module of factories and return its name, which is new each time."""
    name = f"factories_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(FACTORY.format(broken=broken, labels=labels))
    monkeypatch.chdir(folder)
    return name


def test_a_factory_returns_labels_and_label_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = load_segmenter(f"python:{factory(tmp_path, monkeypatch)}:Threshold")
    assert segmenter.labels == (("bright", "object"), ("red", "part"))
    maps = segmenter.segment(IMAGES, Size(32, 32))
    np.testing.assert_array_equal(maps[:, 0], (IMAGES.mean(-1) > 128)[:, ::2, ::2])
    np.testing.assert_array_equal(maps[:, 1], 2 * (IMAGES[..., 0] > 200)[:, ::2, ::2])
    (tmp_path / "words.txt").write_text("red\n")
    kept = load_segmenter(f"python:factories_{tmp_path.name}:Threshold".replace("-", "_"), words=tmp_path / "words.txt")
    np.testing.assert_array_equal(kept.segment(IMAGES, Size(32, 32)), np.where(maps == 2, 1, 0))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("np.zeros((2, 4, 4), int)", r"returned int64 \(2, 4, 4\) for images \(2, 64, 64, 3\)"),
        ("np.full((2, 1, 4, 4), 3)", "returned label ids from 3 to 3. Expected 0 .unlabeled. to 2"),
        ("np.zeros((2, 1, 4, 4))", "returned float64"),
        ("1 / 0", "failed on images .* with ZeroDivisionError"),
    ],
)
def test_what_a_factory_returns_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made, message) -> None:
    segmenter = load_segmenter(f"python:{factory(tmp_path, monkeypatch, broken=made)}:Broken")
    with pytest.raises(SegmenterError, match=message):
        segmenter.segment(IMAGES)


@pytest.mark.parametrize(
    "labels",
    [
        "()", "None", "['a', 'a']", "[('a', 'b', 'c')]", "3", "'car'", "{1: 'car'}", "[1, 2]", "['_']",
        "[('a', 'Big Parts')]", "np.array(['a', 'b'])",
    ],
)  # fmt: skip
def test_a_factory_without_names_of_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels) -> None:
    with pytest.raises(SegmenterError, match=r"Expected names of its labels"):
        load_segmenter(f"python:{factory(tmp_path, monkeypatch, labels=labels)}:Unnamed")


def test_a_missing_factory_is_an_error_of_a_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match=r"of segmenter .* has no function 'Treshold'. Did you mean Threshold"):
        load_segmenter(f"python:{factory(tmp_path, monkeypatch)}:Treshold")


def test_a_trained_segmenter_is_the_best_class_of_each_head(trained: Segmenter, trained_file: Path) -> None:
    saved = load_trained_segmenter(trained_file)
    assert [label.category for label in trained.labels] == sorted(
        (label.category for label in trained.labels), key=list(saved.heads).index
    )
    images = np.stack([render(index, seed=9, size=64).image for index in range(3)])
    with torch.no_grad():
        scores = saved.module(preprocessing(64)(torch.from_numpy(images).permute(0, 3, 1, 2)))
    maps, start, before = trained.segment(images, Size(32, 32)), 0, 0
    for channel, names in enumerate(saved.heads.values()):
        best = scores[:, start : start + 1 + len(names)].argmax(1).numpy()
        np.testing.assert_array_equal(maps[:, channel], np.where(best > 0, best + before, 0))
        start, before = start + 1 + len(names), before + len(names)
    assert before == len(trained.labels)


def test_a_trained_segmenter_states_its_error_on_images_that_it_did_not_see(trained_file: Path) -> None:
    saved = load_trained_segmenter(trained_file)
    segmenter = load_segmenter(str(trained_file))
    both = union = 0
    stated = {name: iou or 0.0 for name, iou in saved.heldout_iou["object"].items()}
    best = max(stated, key=stated.__getitem__)
    number = segmenter.labels.index((best, "object")) + 1
    for index in range(saved.train_config.held_out):
        sample = render(index, seed=saved.train_config.data_seed, size=64)
        channel = sample.labels["object"][0]
        true = np.isin(channel.values, [value for value, name in channel.names.items() if name == best])[1::2, 1::2]
        found = segmenter.segment(sample.image[None], Size(32, 32))[0, 0] == number
        both, union = both + (true & found).sum(), union + (true | found).sum()
    assert stated[best] == pytest.approx(both / union)
    assert 0.1 < both / union < 0.9


def test_colors_are_labels_in_a_channel_of_their_own(trained: Segmenter) -> None:
    colored = with_colors(trained)
    assert colored.labels[: len(trained.labels)] == trained.labels
    maps = colored.segment(IMAGES, Size(32, 32))
    np.testing.assert_array_equal(maps[:, :-1], trained.segment(IMAGES, Size(32, 32)))
    names = [colored.labels[index - 1] for index in maps[0, -1].ravel()]
    expected = [(COLOR_NAMES[index - 1], "color") for index in name_colors(IMAGES[0, 1::2, 1::2]).ravel()]
    assert names == expected


def test_a_scene_network_is_no_segmenter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist. Expected a segmenter that netdissect trained"):
        load_segmenter(str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(CheckpointError, match=r"is not a segmenter that netdissect trained"):
        load_segmenter(str(tmp_path / "text.safetensors"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet18", "there is no segmenter 'resnet18'. Expected transformers:NAME_OR_DIR"),
        ("onnx:", "there is no segmenter 'onnx:'"),
        ("a/model.onnx", "This is a file: onnx:a/model.onnx"),
    ],
)
def test_a_specification_of_no_segmenter_says_what_there_is(spec, message) -> None:
    with pytest.raises(SegmenterError, match=message):
        load_segmenter(spec)


def test_a_score_limit_is_between_zero_and_one(trained_file: Path) -> None:
    with pytest.raises(SegmenterError, match=r"least score is 50"):
        load_segmenter(str(trained_file), min_score=50)


def test_images_of_another_form_are_refused(trained: Segmenter) -> None:
    with pytest.raises(ShapeError, match=r"are float64 \(64, 64, 3\). Expected uint8 \(batch, height, width, 3\)"):
        trained.segment(IMAGES[0] / 255)
