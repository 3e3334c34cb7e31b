"""A run of a tiny scene generator on its samples."""

from pathlib import Path

import pytest

import netdissect
from netdissect.segmenters import load_segmenter
from netdissect.segmenters.sample_dataset import SampleOptions, segment_samples
from netdissect.training import save_generator
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, tiny_generator

COUNT = 96


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interventions")
    module = tiny_generator().module
    assert isinstance(module, SceneGenerator)
    path = save_generator(module, folder / "scenes.safetensors")
    segment_samples(
        tiny_generator(), load_segmenter(PAINT), folder / "samples", SampleOptions(samples=COUNT), progress=False
    )
    netdissect.dissect(
        netdissect.load_network(str(path)), folder / "samples", layers="layer1", quantile=0.01, bootstrap=0,
        permutations=0, progress=False, out=folder / "run",
    )  # fmt: skip
    return folder / "run"
