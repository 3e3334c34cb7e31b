"""The demo end to end, at a size that a test can afford."""

import logging
import re
import sys

import pytest
import torch
from starlette.testclient import TestClient

import netdissect
from netdissect.cli.demo import compilation_logged
from netdissect.cli.demo import demo as cli_demo
from netdissect.dissect.reload import network_of
from netdissect.dissect.verify import verify_sample
from netdissect.errors import ConfigError, ResultError
from netdissect.explorer import create_app
from netdissect.result import load_result
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
        assert [record.message for record in caplog.records] == ["compiling loops: ten seconds, once on this machine"]
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


@pytest.mark.parametrize("run", ["trained", "random"])
def test_the_runs_of_the_demo_load_their_networks_in_any_folder(made, folder, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = load_result(folder / "runs" / run)
    assert network_of(result.info, folder=result.folder).digest == result.info.network.digest
    masks = verify_sample(result, 8, progress=False)
    assert {mask.largest_difference for mask in masks} == {0.0}


def test_the_explorer_runs_an_image_through_each_network_of_the_demo(made, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TestClient(create_app([folder / "runs" / "trained", folder / "runs" / "random"])) as client:
        for run, result in (("trained", made.units), ("random", made.random)):
            assert client.get(f"/api/runs/{run}").json()["inference_unavailable"] is None
            layer = result.layers["conv5"]
            top = layer.top.filter(rank=0).sort("max_activation", descending=True)
            unit, image, maximum = top.select("unit", "image_index", "max_activation").row(0)
            processed = client.post(f"/api/runs/{run}/images/{image}/inference").json()
            values = client.get(f"/api/runs/{run}/inference/{processed['id']}/units?layer=4&limit=200").json()["units"]
            assert {each["summary"]["unit"]: each["value"] for each in values}[unit] == pytest.approx(maximum, rel=1e-5)


def test_a_network_file_of_the_demo_is_a_network_of_every_command(made, folder):
    network = netdissect.load_network(str(folder / "scene_network.safetensors"))
    random = netdissect.load_network(str(folder / "scene_network.safetensors"), weights="none", weights_seed=0)
    scenes = [network.module.get_submodule("scene").weight, made.trained.module.get_submodule("scene").weight]
    assert torch.equal(*scenes)
    assert random.digest == made.random.info.network.digest
    with pytest.raises(ConfigError, match=r"trained by an experiment .* but mean and weights would change them"):
        netdissect.load_network(str(folder / "scene_network.safetensors"), weights="w.pt", mean=(0.5,))


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
