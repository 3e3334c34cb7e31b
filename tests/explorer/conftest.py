"""Two real, tiny runs on the same images, their networks made in Python, and the explorer of both."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from starlette.testclient import TestClient

import netdissect
import networks
import run_asserts
import strategies
from explorer_client import CONFIG, HOSTILE, LAYERS, Pair, asking_both, image_bytes
from netdissect.concepts import ConceptData
from netdissect.dissect import dissect
from netdissect.experiments import Snapshot
from netdissect.experiments.result_files import save_experiment_result
from netdissect.experiments.training_dynamics.experiment import TrainingDynamicsConfig, training_dynamics
from netdissect.segmenters import load_segmenter
from netdissect.segmenters.sample_dataset import SampleOptions, segment_samples
from netdissect.training import save_generator
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, tiny_generator


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    root = tmp_path_factory.mktemp("explorer")
    data = strategies.write_broden(root / "data", networks.images(24), networks.COVERAGE)
    for table in data.glob("*.csv"):  # a name is data, whatever it says
        table.write_text(table.read_text().replace("concept 2", HOSTILE))
    made = (networks.build(seed=0), networks.build(seed=1))
    folders = (root / "First run", root / "second")
    results = tuple(dissect(network, data, config=CONFIG, out=out) for network, out in zip(made, folders, strict=True))
    images = tuple(row.image for row in ConceptData.open(data).rows)
    maps = run_asserts.hooked(made[0], data, images, LAYERS, CONFIG.batch_size)
    return Pair(folders, (results[0], results[1]), made, data, maps)


@pytest.fixture(scope="session")
def training(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training whose snapshots, at steps 10 and 200, are the two runs."""
    snapshots = [Snapshot(200, pair.results[1]), Snapshot(10, pair.results[0])]
    result = training_dynamics(snapshots, TrainingDynamicsConfig(layer="deep_relu"))
    return save_experiment_result(result, tmp_path_factory.mktemp("training") / "dynamics")


@pytest.fixture(scope="module")
def client(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Ask an explorer of both runs, as a browser on this machine does. Tests of what it keeps start one each."""
    with asking_both(pair, tmp_path_factory.mktemp("ratings")) as client:
        yield client


@pytest.fixture
def image() -> bytes:
    """Bytes of a PNG file of 40 x 30 pixels."""
    return image_bytes()


@pytest.fixture
def page(browser: Browser, home: str) -> Iterator[Page]:
    """Open an empty page that fails the test on any console message, error, dialog or request to elsewhere."""
    page = browser.new_page(base_url=home, viewport={"width": 1440, "height": 900})
    page.set_default_timeout(20_000)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda each: trouble.extend([each.url] * (not each.url.startswith((home, "data:")))))
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    yield page
    page.close()
    assert trouble == []


@pytest.fixture(scope="session")
def generator_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of a tiny scene generator on 12 of its samples."""
    folder, generator = tmp_path_factory.mktemp("explored"), tiny_generator()
    assert isinstance(generator.module, SceneGenerator)
    path = save_generator(generator.module, folder / "scenes.safetensors")
    segment_samples(generator, load_segmenter(PAINT), folder / "samples", SampleOptions(samples=12), progress=False)
    netdissect.dissect(
        netdissect.load_network(str(path)), folder / "samples", layers="layer1", quantile=0.02, bootstrap=0,
        permutations=0, progress=False, out=folder / "run",
    )  # fmt: skip
    return folder / "run"
