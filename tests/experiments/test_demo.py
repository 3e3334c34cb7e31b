"""The demo end to end, at a size that a test can afford."""

import sys

import pytest

from netdissect.errors import ResultError
from netdissect.experiments import DemoConfig, demo
from netdissect.experiments.recipe import Recipe

TINY = DemoConfig(
    images=48,
    recipe=Recipe(
        size=64, pictures=64, held_out=16, steps=4, units=(4, 6, 8, 8, 8), batch_size=16, precision="float32"
    ),
    rotations=(0, 1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def made(folder):
    return demo(folder, TINY)


def test_five_convolutions_and_the_rotated_last_are_dissected_beside_random_weights(made):
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert list(made.units.layers) == [*layers, *made.rotated]
    assert list(made.random.layers) == layers
    assert made.units.info.data == made.random.info.data
    assert made.units.info.network.digest != made.random.info.network.digest
    assert set(made.units.info.data.categories) == {"color", "object", "part", "material", "scene", "texture"}


def test_a_second_run_takes_up_what_is_there(made, folder, monkeypatch):
    room = sys.modules["netdissect.experiments.demonstration"]
    for work in ("train", "write_synthetic"):
        monkeypatch.setattr(room, work, None)  # not to be called again
    again = demo(folder, TINY)
    assert again.units.units.equals(made.units.units)
    assert again.units.info == made.units.info


def test_a_folder_of_another_demo_is_refused(made, folder):
    with pytest.raises(ResultError, match="another size or seed"):
        demo(folder, TINY.model_copy(update={"images": 49}))
