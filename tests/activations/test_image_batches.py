"""Images as a network takes them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import networks
import strategies
from netdissect import DissectConfig, dissect
from netdissect.activations.image_batches import read_image
from netdissect.concepts import Size
from netdissect.dissect.reload import network_of
from netdissect.errors import NetworkError
from netdissect.models import Network, Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (19, 31, 4), dtype=np.uint8)
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def how(channels: int = 3, interpolation: str = "bilinear", size: tuple[int, int] = (12, 8)) -> Preprocessing:
    return Preprocessing(Size(*size), (0.5,) * channels, (0.5,) * channels, interpolation)


def source_image(folder: Path, mode: str = "RGB") -> Path:
    Image.fromarray(PIXELS if mode == "RGBA" else PIXELS[..., :3]).convert(mode).save(folder / "one.png")
    return folder / "one.png"


@pytest.mark.parametrize("interpolation", FILTERS)
def test_an_image_is_stretched_with_the_filter_of_the_network(tmp_path, interpolation):
    found = read_image(source_image(tmp_path), how(interpolation=interpolation))
    expected = Image.fromarray(PIXELS[..., :3]).resize((8, 12), Image.Resampling[interpolation.upper()])
    assert np.array_equal(found, np.asarray(expected))
    same = read_image(source_image(tmp_path), how(interpolation=interpolation, size=(19, 31)))
    assert np.array_equal(same, PIXELS[..., :3])


def test_filters_give_different_inputs(tmp_path):
    found = [read_image(source_image(tmp_path), how(interpolation=one)).tobytes() for one in FILTERS]
    assert len(set(found)) == len(FILTERS)


def test_a_fourth_channel_is_transparency_and_weighs_nothing(tmp_path):
    found = read_image(source_image(tmp_path, "RGBA"), how(4))
    for channel in range(4):
        expected = Image.fromarray(PIXELS[..., channel]).resize((8, 12), Image.Resampling.BILINEAR)
        assert np.array_equal(found[..., channel], np.asarray(expected))


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 4), ("L", 4), ("RGBA", 2), ("RGB", 13)])
def test_channels_that_an_image_does_not_have_are_refused(tmp_path, mode, channels):
    with pytest.raises(NetworkError, match=rf"takes {channels} channels.*one\.png is {mode}\. Expected 1 .*alpha"):
        read_image(source_image(tmp_path, mode), how(channels))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return strategies.write_broden(tmp_path / "broden", networks.images(), networks.COVERAGE, image=(40, 40))


def test_a_run_uses_and_records_the_filter_and_is_another_run_with_another(data):
    module = nn.Sequential(nn.Conv2d(3, 2, 3))
    config = DissectConfig(layers=("0",), statistics={"bootstrap": 0})
    found = {one: Network("net", module, how(interpolation=one, size=(24, 24))) for one in ("bilinear", "bicubic")}
    results = {one: dissect(network, data, config=config) for one, network in found.items()}
    assert [result.info.network.interpolation for result in results.values()] == list(found)
    for one, result in results.items():
        images = [read_image(path, found[one].preprocessing) for path in sorted((data / "images").glob("*"))]
        batch = found[one].preprocessing(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        largest = module(batch).detach().amax((0, 2, 3))
        assert result.layer("0").thresholds["max_activation"].to_list() == pytest.approx(largest.tolist(), rel=1e-5)
    with pytest.raises(NetworkError, match=r"\(bicubic\).*the run used 24 x 24 \(bilinear\)"):
        network_of(results["bilinear"].info, found["bicubic"], folder=None)


def test_images_with_transparency_are_dissected_by_a_network_of_four_channels(data):
    for path in (data / "images").glob("*"):
        image = Image.open(path)
        image.putalpha(Image.fromarray(np.asarray(image)[..., 0]))
        image.save(path)
    module = nn.Sequential(nn.Conv2d(4, 2, 3))
    result = dissect(Network("net", module, how(4, size=(24, 24))), data, config=DissectConfig(layers=("0",)))
    assert result.layer("0").info.units == 2
