"""The demo end to end, at a size that a test can afford."""

import logging
import re
import sys

import pytest

import netdissect
from netdissect.cli.demo import compilation_logged
from netdissect.cli.demo import demo as cli_demo
from netdissect.errors import ResultError
from netdissect.training import DemoConfig, demo
from netdissect.training.scene_net import TrainConfig

TINY = DemoConfig(
    images=48,
    train_config=TrainConfig(
        size=64, num_images=64, held_out=16, steps=4, units=(4, 6, 8, 8, 8), batch_size=16, precision="float32"
    ),
    rotations=(0, 1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def told():
    """What is said while the demo is made."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("netdissect")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture(scope="module")
def made(folder, told):
    return demo(folder, TINY)


def test_the_demo_logs_what_takes_long(made, told):
    stages = [line for line in told if line.startswith(("rendering", "dissecting"))]
    assert stages == [
        "rendering 48 images whose labels are known",
        "rendering 64 other images, and training a network on them",
        "dissecting the network, its last layer in rotated bases, and then the same with random weights",
    ]


def test_compiling_is_logged_once_and_only_when_it_happens(caplog):
    numba = pytest.importorskip("numba")
    caplog.set_level(logging.INFO, "netdissect")

    @numba.njit
    def twice(number):
        return 2 * number

    with compilation_logged():
        assert (twice(2), twice(2.5), twice(3)) == (4, 5.0, 6)
        assert [record.message for record in caplog.records] == ["compiling loops: half a minute, once on this machine"]
    with compilation_logged():
        twice(4)
    assert len(caplog.records) == 1


def test_five_convolutions_the_rotated_last_and_random_weights_are_dissected(made):
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert list(made.units.layers) == [*layers, *made.rotated]
    assert list(made.random.layers) == layers
    assert [each.info.basis_of for each in made.units.layers.values()] == [None] * 5 + ["conv5"] * 2
    assert made.units.info.data == made.random.info.data
    assert made.units.info.network.digest != made.random.info.network.digest
    assert set(made.units.info.data.categories) == {"color", "object", "part", "material", "scene", "texture"}


def test_the_report_of_the_demo_shows_the_random_weights_too(made, folder, monkeypatch):
    monkeypatch.setattr(netdissect.training, "FAST_DEMO", TINY)
    cli_demo(folder, fast=True)
    overview = (folder / "report" / "index.html").read_text()
    concepts = (folder / "report" / "concepts" / "index.html").read_text()
    for name in ("scene network", "scene network with random weights"):
        assert re.search(rf'<tr class="run"><th [^>]*>{name} <small>', overview)
        assert re.search(rf'<td><a href="[^"]*u\d+.html">{name} <code>', concepts)


def test_a_second_run_reuses_the_first(made, folder, monkeypatch):
    room = sys.modules["netdissect.training.demo"]
    for work in ("train", "write_synthetic"):
        monkeypatch.setattr(room, work, None)  # not to be called again
    again = demo(folder, TINY)
    assert again.units.units.equals(made.units.units)
    assert again.units.info == made.units.info


def test_a_folder_of_another_demo_is_refused(made, folder):
    with pytest.raises(ResultError, match="another size or seed"):
        demo(folder, TINY.model_copy(update={"images": 49}))
