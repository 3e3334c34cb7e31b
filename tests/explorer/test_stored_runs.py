"""A run of stored activations in the explorer: its own images are looked up, and what needs the network is refused."""

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import netdissect
import networks
from explorer_client import HOME
from netdissect.concepts import ConceptData
from netdissect.errors import NetworkError
from netdissect.experiments.functions import attribution
from netdissect.explorer import create_app, guarded
from strategies import write_broden

RUN = "/api/runs/run"


def test_images_of_the_data_set_are_looked_up_and_what_needs_the_network_is_refused(
    tmp_path: Path, image: bytes
) -> None:
    broden = write_broden(tmp_path / "data", networks.images(7), networks.COVERAGE)
    names = [row.image for row in ConceptData.open(broden).rows]
    stored, maps = tmp_path / "stored", np.random.default_rng(0).normal(size=(len(names), 3, 4, 4)).astype(np.float32)
    stored.mkdir()
    np.save(stored / "one.npy", maps[::-1])
    (stored / "images.txt").write_text("\n".join(names[::-1]))
    network = netdissect.load_network(f"activations:{stored}")
    netdissect.dissect(network, broden, layers="one", out=tmp_path / "run", quantile=0.2, permutations=0, bootstrap=0)
    with TestClient(guarded(create_app([tmp_path / "run"])), base_url=HOME) as client:
        answer = client.post(f"{RUN}/images/2/inference")
        assert answer.status_code == 201, answer.text
        name = answer.json()["id"]
        shown = client.get(f"{RUN}/inference/{name}/units", params={"layer": 0, "quantile": 0.2, "limit": 9}).json()
        values = {each["summary"]["unit"]: each["value"] for each in shown["units"]}
        assert values
        assert values == pytest.approx({unit: float(maps[2, unit].max()) for unit in values}, rel=1e-6)
        assert client.get(f"/image/run/{name}", params={"layer": 0, "quantile": 0.2}).status_code == 200
        refused = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
        assert (refused.status_code, "another program stored" in refused.json()["message"]) == (409, True)
        refused = client.post(f"{RUN}/inference/{name}/ablation", json={"layer": 0, "units": [1]})
        assert refused.status_code == 409
        assert "Comparing classes without units needs a network that takes images" in refused.json()["message"]
    with pytest.raises(NetworkError, match="An experiment on classes needs a network that takes images"):
        attribution(network, broden)
