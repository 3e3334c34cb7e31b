"""Units of a dictionary are shown with the units of the closest decoder directions."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from starlette.testclient import TestClient

import networks
from explorer_client import HOME, Pair
from netdissect.config import BasisFit, DissectConfig, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.bases.basis_files import basis_path
from netdissect.explorer import create_app, guarded


def test_neighbors_are_the_units_of_the_largest_cosine(pair: Pair, tmp_path: Path) -> None:
    config = DissectConfig(
        layers=("wide_relu",), bases=("neurons", "nmf:6"), basis_fit=BasisFit(images=4, cells=200), batch_size=4,
        top_images=2, max_images=8, statistics=StatisticsConfig(bootstrap=0, permutations=0),
    )  # fmt: skip
    network, out = networks.build(seed=0), tmp_path / "run"
    dissect(network, pair.data, config=config, out=out, progress=False)
    parts = safetensors.numpy.load_file(basis_path(out, "wide_relu@nmf-6"))["parts"].astype(np.float64)
    unit = int(np.linalg.norm(parts, axis=1).argmax())
    with TestClient(guarded(create_app(out, network=network)), base_url=HOME) as client:
        found = client.get(f"/api/runs/run/layers/1/units/{unit}").json()["decoder_neighbors"]
        assert [each["unit"] for each in found] != []
        for each in found:
            other = parts[each["unit"]]
            lengths = np.sqrt((parts[unit] ** 2).sum() * (other**2).sum())
            expected = float((parts[unit] * other).sum() / lengths) if lengths else 0.0
            assert each["cosine"] == pytest.approx(expected, abs=1e-6)
        assert {each["unit"] for each in found} == {*range(len(parts))} - {unit}
        assert all(one["cosine"] >= other["cosine"] for one, other in pairwise(found))
        page = client.get(f"/r0/l1/u{unit}.html").text
        assert "Decoder neighbors" in page
        assert f'href="../../r0/l1/u{found[0]["unit"]}.html"' in page
        assert client.get("/api/runs/run/layers/0/units/0").json()["decoder_neighbors"] == []
        assert "Decoder neighbors" not in client.get("/r0/l0/u0.html").text
