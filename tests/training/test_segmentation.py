"""Training of segmenters: crops keep labels on their pixels, weights balance labels, a frozen encoder stays."""

import importlib.util

import numpy as np
import pytest
import torch

from netdissect.concepts import Size
from netdissect.segmenters import load_segmenter
from netdissect.training.segmentation.augmentation import Crop, cropped, crops_of, darkened, draw_crop
from netdissect.training.segmentation.labeled_maps import LabeledMaps
from netdissect.training.segmentation.segmentation_net import SegmenterTrainConfig, save_segmenter, segmentation_net
from netdissect.training.segmentation.train_segmenter import label_weights, train_on_maps

SIDE = 64


def spotted(count=12, side=SIDE):
    """Return gray images with a red square (label 1) and a small blue one (label 2)."""
    rng = np.random.default_rng(3)
    images, maps = np.full((count, side, side, 3), 120, np.uint8), np.zeros((count, 1, side // 2, side // 2), np.int32)
    for index in range(count):
        for label, color, cells in ((1, (220, 30, 30), side // 6), (2, (30, 30, 220), 2)):
            y, x = rng.integers(0, side // 2 - cells, 2)
            images[index, 2 * y : 2 * (y + cells), 2 * x : 2 * (x + cells)] = color
            maps[index, 0, y : y + cells, x : x + cells] = label
    return LabeledMaps(images, maps, {"object": ("red", "blue")})


def test_a_crop_holds_a_labeled_pixel_and_is_as_large_as_was_asked_for():
    maps, rng = np.zeros((2, 40, 40), np.int32), np.random.default_rng(0)
    maps[1, 39, 0] = 7
    sides = []
    for _ in range(200):
        top, left, high, wide = draw_crop(maps, 0.2, rng)
        assert (maps[:, top : top + high, left : left + wide] == 7).any()
        assert top + high <= 40
        assert left + wide <= 40
        sides.append((high * wide) ** 0.5 / 40)
    assert 0.17 < min(sides) < 0.25
    assert max(sides) > 0.85


def test_rare_labels_are_cropped_as_often_as_frequent_ones():
    maps, rng = np.ones((1, 30, 30), np.int32), np.random.default_rng(0)
    maps[0, 3, 4] = 2
    hits = sum((maps[0, c.top : c.top + c.height, c.left : c.left + c.width] == 2).any()
               for c in (draw_crop(maps, 0.1, rng) for _ in range(200)))  # fmt: skip
    assert hits > 100


def test_labels_stay_on_their_pixels_in_a_crop():
    data, rng = spotted(), np.random.default_rng(1)
    images, maps = crops_of(data.images, data.maps, 96, 0.3, rng)
    assert images.dtype == torch.uint8
    assert images.shape == (12, 3, 96, 96)
    at_cells = images.float().reshape(12, 3, 48, 2, 48, 2).mean((3, 5))
    found = torch.where(at_cells[:, 0] > 170, 1, torch.where(at_cells[:, 2] > 170, 2, 0))
    assert (found == maps[:, 0]).float().mean() > 0.97
    assert {*maps.unique().tolist()} == {0, 1, 2}
    whole = cropped(torch.from_numpy(data.images[0]).permute(2, 0, 1), torch.from_numpy(data.maps[0]),
                    Crop(0, 0, SIDE // 2, SIDE // 2), SIDE)  # fmt: skip
    np.testing.assert_array_equal(whole[0].permute(1, 2, 0).numpy(), data.images[0])
    np.testing.assert_array_equal(whole[1].numpy(), data.maps[0])


def test_images_are_darkened_by_a_factor_each():
    images = torch.full((200, 3, 2, 2), 200, dtype=torch.uint8)
    dark = darkened(images, 2, np.random.default_rng(0)).float()
    assert (dark.flatten(1).amax(1) == dark.flatten(1).amin(1)).all()
    assert 50 <= dark.min() < 55
    assert 195 < dark.max() <= 200
    assert dark.mean() == pytest.approx(200 * 0.75 / (2 * np.log(2)), rel=0.05)  # the mean of 2^-u over 0 to 2


def test_a_label_weighs_by_a_power_of_its_share_and_a_pixel_weighs_one():
    maps = np.repeat([0, 1, 2], [64, 32, 4]).reshape(10, 10)
    weights = label_weights(maps, 3, 0.5, ignore_unlabeled=False)
    assert weights[2] / weights[0] == pytest.approx(4)
    assert weights[maps].mean() == pytest.approx(1)
    assert label_weights(maps, 3, 0.0, ignore_unlabeled=False).tolist() == pytest.approx([1, 1, 1])
    labeled = label_weights(maps, 4, 1.0, ignore_unlabeled=True)
    assert labeled[2] / labeled[1] == pytest.approx(8)
    assert labeled[maps[maps > 0]].mean() == pytest.approx(1)
    assert np.isfinite(labeled).all()  # label 3 does not occur


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite_pytorch"), reason="the extra offline is absent")
def test_a_frozen_encoder_is_not_trained_and_comes_back_from_the_file(tmp_path):
    data = spotted()
    config = SegmenterTrainConfig(size=32, held_out=2, steps=4, batch_size=4, encoder="efficientnet_lite0")
    before = segmentation_net(config, data.heads).state_dict()
    trained = train_on_maps(data, config)
    after = trained.module.state_dict()
    assert before.keys() == after.keys()
    same = {name: torch.equal(before[name], value) for name, value in after.items()}
    assert all(equal for name, equal in same.items() if name.startswith("down."))
    assert not any(equal for name, equal in same.items() if name.endswith(".0.weight") and name.startswith("up."))
    loaded = load_segmenter(str(save_segmenter(trained, tmp_path / "lite.safetensors")))
    assert loaded.input_size == (32, 32)
    scores = torch.nn.functional.interpolate(
        torch.from_numpy(data.images[:3]).permute(0, 3, 1, 2).float(), (32, 32), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        best = trained.module((scores - 127) / 128).argmax(1).numpy()
    np.testing.assert_array_equal(loaded.segment(data.images[:3], Size(16, 16))[:, 0], best)
