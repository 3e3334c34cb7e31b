"""Segmenters in ONNX files: graphs made by hand, and files that are refused before they are opened."""

import json
from pathlib import Path

import numpy as np
import pytest

from netdissect.concepts import Size
from netdissect.errors import SegmenterError
from netdissect.segmenters import load_segmenter

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
WEIGHTS = np.random.default_rng(2).normal(size=(4, 3, 1, 1)).astype(np.float32)


def write_graph(
    folder: Path, *, batch: int | str = "batch", classes: bool = False, opset: int = 17, domain: str = ""
) -> Path:
    """Write a graph of one convolution and, on request, the index of the largest score; with labels beside it."""
    helper = onnx.helper
    nodes = [helper.make_node("Conv", ["image", "weights"], ["scores"], domain=domain)]
    if classes:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["classes"], axis=1, keepdims=0))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, 3, 8, 8])
    shape = [batch, 8, 8] if classes else [batch, 4, 8, 8]
    kind = onnx.TensorProto.INT64 if classes else onnx.TensorProto.FLOAT
    output = helper.make_tensor_value_info("classes" if classes else "scores", kind, shape)
    graph = helper.make_graph(nodes, "g", [image], [output], [onnx.numpy_helper.from_array(WEIGHTS, "weights")])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path = folder / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    config = {"image_mean": MEAN, "image_std": STD, "size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    (folder / "labels.csv").write_text("value,name,category\n1,car,object\n2,wheel,part\n3,car,object\n")
    return path


def by_numpy() -> np.ndarray:
    """Return the label of each pixel, from the weights."""
    normalized = (IMAGES / 255 - MEAN) / STD
    best = np.einsum("bhwc,kc->bhwk", normalized, WEIGHTS[:, :, 0, 0]).argmax(-1)
    return np.array([0, 1, 2, 1])[best]


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("classes", [False, True])
def test_a_graph_of_scores_or_classes_labels_pixels_in_batches_of_its_size(tmp_path: Path, batch, classes) -> None:
    path = write_graph(tmp_path, batch=batch, classes=classes)
    segmenter = load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv")
    assert segmenter.labels == (("car", "object"), ("wheel", "part"))
    assert segmenter.module is None
    np.testing.assert_array_equal(segmenter.segment(IMAGES)[:, 0], by_numpy())
    np.testing.assert_array_equal(segmenter.segment(IMAGES)[:1], segmenter.segment(IMAGES[:1]))


def test_label_maps_of_classes_are_resized_by_nearest_neighbor(tmp_path: Path) -> None:
    path = write_graph(tmp_path, classes=True)
    maps = load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv").segment(IMAGES, Size(4, 2))
    np.testing.assert_array_equal(maps[:, 0], by_numpy()[:, 1::2, 2::4])


def test_a_graph_needs_labels_and_a_normalization(tmp_path: Path) -> None:
    path = write_graph(tmp_path)
    with pytest.raises(SegmenterError, match=r"does not say what its 4 classes are"):
        load_segmenter(f"onnx:{path}")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(SegmenterError, match=r"there is no preprocessor_config.json"):
        load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 9999}, "is of version 9999 of ONNX's operator set"),
        ({"domain": "evil"}, "needs operations of the domain 'evil'"),
    ],
)
def test_operations_that_are_not_of_onnx_are_refused(tmp_path: Path, options, message) -> None:
    path = write_graph(tmp_path, **options)
    with pytest.raises(SegmenterError, match=message):
        load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv")


def make_external(path: Path, location: str, length: int) -> None:
    """Move the weights of a graph to another file."""
    model = onnx.load(path)
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())


def test_weights_in_another_file_of_the_folder_are_read_and_change_the_digest(tmp_path: Path) -> None:
    path = write_graph(tmp_path)
    make_external(path, "weights.bin", WEIGHTS.nbytes)
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    segmenter = load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv")
    np.testing.assert_array_equal(segmenter.segment(IMAGES)[:, 0], by_numpy())
    (tmp_path / "weights.bin").write_bytes((WEIGHTS * 2).tobytes())
    assert load_segmenter(f"onnx:{path}", labels=tmp_path / "labels.csv").digest != segmenter.digest


def test_weights_outside_the_folder_or_shorter_than_stated_are_refused(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    path = write_graph(tmp_path / "graph")
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    make_external(path, "../secret.bin", WEIGHTS.nbytes)
    with pytest.raises(SegmenterError, match=r"names the file '../secret.bin', which lies outside"):
        load_segmenter(f"onnx:{path}", labels=tmp_path / "graph" / "labels.csv")
    (tmp_path / "graph" / "short.bin").write_bytes(b"\0" * 8)
    make_external(write_graph(tmp_path / "graph"), "short.bin", 10**12)
    with pytest.raises(SegmenterError, match=r"1,000,000,000,000 bytes at 0 of short\.bin, which has 8"):
        load_segmenter(f"onnx:{path}", labels=tmp_path / "graph" / "labels.csv")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match=r"nothing.onnx cannot be opened"):
        load_segmenter(f"onnx:{tmp_path / 'nothing.onnx'}")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(SegmenterError, match=r"text.onnx is no ONNX graph"):
        load_segmenter(f"onnx:{tmp_path / 'text.onnx'}")
