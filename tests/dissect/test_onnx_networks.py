"""A network in an ONNX file is dissected as the module from which it was exported."""

from pathlib import Path

import pytest
import torch

import netdissect
from netdissect.result import Result
from networks import SIDE, build, export_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
LAYERS = {"wide_relu": "/wide_relu/Relu_output_0", "deep_relu": "/deep_relu/Clip_output_0"}


def test_counts_and_labels_are_those_of_the_module_that_was_exported(broden: Path, tmp_path: Path) -> None:
    network, path = build(), tmp_path / "tiny.onnx"
    export_onnx(network.module, path, torch.zeros(1, 3, SIDE, SIDE))
    preprocessing = network.preprocessing
    graph = netdissect.load_network(f"onnx:{path}", mean=preprocessing.mean, std=preprocessing.std)

    def run(network: netdissect.Network, layers: list[str]) -> Result:
        return netdissect.dissect(network, broden, layers=layers, quantile=0.02, permutations=0, bootstrap=0)

    found, expected = run(graph, [*LAYERS.values()]), run(network, [*LAYERS])
    assert found.info.config.backend == "onnxruntime"
    assert found.info.backend_check is not None
    assert 0 < found.info.backend_check.difference < 1e-5
    for name, value in LAYERS.items():
        one, other = found.layers[value], expected.layers[name]
        assert one.info.model_dump(exclude={"name", "type"}) == other.info.model_dump(exclude={"name", "type"})
        torch.testing.assert_close(
            one.thresholds["threshold"].to_torch(), other.thresholds["threshold"].to_torch(), rtol=1e-5, atol=1e-6
        )
        key = ["unit", "label_id"]
        left, right = (layer.scores.sort(key) for layer in (one, other))
        assert left["mask_pixels"].sum() > 0
        assert left.select(*key, "intersection", "mask_pixels").equals(
            right.select(*key, "intersection", "mask_pixels")
        )
        assert one.units["label"].equals(other.units["label"])
