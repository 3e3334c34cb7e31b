"""How activations are distributed and where units fire, in whole runs."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import oracle
import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import dissect
from netdissect.result import load_result
from networks import build

pytestmark = pytest.mark.usefixtures("tight")

LAYERS = ("wide_relu", "deep_relu", "fc")


@pytest.mark.parametrize("how", [{"activation_cache": "sparse"}, {"activation_cache": "none"}, {"engine": "tensor"}])
def test_a_run_counts_all_activations_and_the_cells_above_the_first_threshold(
    broden: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    protocol = strategies.definition("paper").protocol.model_copy(update={"quantiles": (0.05, 0.2)})
    settings = DissectConfig(layers=LAYERS, protocol=protocol, batch_size=3, top_images=4)
    network = build()
    dissect(network, broden, config=settings, out=tmp_path / "run", execution=Execution(**how))
    result = load_result(tmp_path / "run")
    images = oracle.read_broden(broden, None).images
    for name, maps in run_asserts.hooked(network, broden, images, list(LAYERS), 3).items():
        layer = result.layers[name]
        histogram, places = (layer.statistics[key].collect() for key in ("histogram", "firing_map"))
        threshold = layer.thresholds.filter(quantile=0.05)["threshold"].to_numpy()
        fired = (maps > threshold[:, None, None]).sum(axis=0)
        seen = np.zeros_like(fired)
        seen[places["unit"], places["y"], places["x"]] = places["count"]
        np.testing.assert_array_equal(seen, fired)
        for unit in range(layer.info.units):
            bins = histogram.filter(unit=unit)
            values = maps[:, unit].astype(np.float64)
            assert bins["count"].sum() == values.size
            for low, high, count in bins.select("bin_low", "bin_high", "count").rows():
                if low == high:
                    assert count == (abs(values) < 2**-24).sum()
                elif low >= 0:
                    assert count == ((values >= low) & (values < high)).sum()
                else:
                    assert count == ((values > low) & (values <= high)).sum()
        assert bins.schema == {"unit": pl.Int32, "bin_low": pl.Float64, "bin_high": pl.Float64, "count": pl.Int64}
