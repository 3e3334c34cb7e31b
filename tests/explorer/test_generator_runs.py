"""A run of a generator in the explorer: its samples are drawn again, and an image of others is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import netdissect
from explorer_client import HOME
from netdissect.explorer import create_app, guarded
from netdissect.models import ActivationRecorder, resolve_layers
from netdissect.segmenters import load_segmenter
from netdissect.segmenters.sample_dataset import SampleOptions, segment_samples
from netdissect.training import save_generator
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, TINY, tiny_generator

RUN = "/api/runs/run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("explored"), tiny_generator()
    assert isinstance(generator.module, SceneGenerator)
    path = save_generator(generator.module, folder / "scenes.safetensors")
    segment_samples(generator, load_segmenter(PAINT), folder / "samples", SampleOptions(samples=12), progress=False)
    netdissect.dissect(
        netdissect.load_network(str(path)), folder / "samples", layers="layer1", quantile=0.02, bootstrap=0,
        permutations=0, progress=False, out=folder / "run",
    )  # fmt: skip
    return folder / "run"


def test_a_sample_is_drawn_again_and_an_image_of_others_is_refused(run: Path, image: bytes) -> None:
    generator, unit = tiny_generator(), TINY.planted_units["vegetation"]
    top = netdissect.load_result(run).layer("layer1").top.filter(unit=unit, rank=0).row(0, named=True)
    sample = torch.tensor([[0, int(Path(top["image"]).stem)]])
    with generator.prepared(), ActivationRecorder(generator, resolve_layers(generator, ["layer1"])) as record:
        expected = float(record(sample)["layer1"][0, unit].max())
    with TestClient(guarded(create_app([run])), base_url=HOME) as client:
        assert client.get("/").status_code == 200
        answer = client.post(f"{RUN}/images/{top['image_index']}/inference")
        assert answer.status_code == 201, answer.text
        address = f"{RUN}/inference/{answer.json()['id']}"
        shown = client.get(f"{address}/units", params={"layer": 0, "quantile": 0.02, "limit": 100}).json()
        values = {each["summary"]["unit"]: each["value"] for each in shown["units"]}
        assert values[unit] == pytest.approx(expected, rel=1e-5)
        assert np.isclose(top["max_activation"], expected, rtol=1e-5)
        ablated = client.post(f"{address}/ablation", json={"layer": 0, "units": [unit]})
        assert (ablated.status_code, "is a generator and has no classes" in ablated.json()["message"]) == (409, True)
        refused = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
        assert refused.status_code == 409
        assert "is a generator, which takes latents and no images" in refused.json()["message"]
