"""Networks in ONNX files: values are layers, recorded by ONNX Runtime and traced through a translation."""

import json

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import NetworkError
from netdissect.experiments.concept_vectors.class_gradients import check_classifier, score_gradients
from netdissect.models import (
    ActivationRecorder,
    Network,
    Preprocessing,
    find_structure,
    list_layers,
    load_network,
    resolve_layers,
    survey_layers,
)
from netdissect.models.backends import BackendSettings
from netdissect.models.onnx_files import model_file, translation
from networks import export_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper = onnx.helper

HALF = (0.5,) * 3
BATCH = 3
IMAGES = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 6, (3, 5), padding=(0, 2)), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ).eval()  # fmt: skip


def vit():
    torch.manual_seed(0)
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 6, 12, num_classes=5).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a module, and return the path of the file and the module as a network."""

    def export(make):
        module, path = make(), tmp_path_factory.mktemp("onnx") / f"{make.__name__}.onnx"
        export_onnx(module, path, IMAGES)
        return path, Network(make.__name__, module, Preprocessing(Size(32, 32), HALF, HALF))

    return export


def load(path, **options):
    return load_network(f"onnx:{path}", **{"mean": HALF, "std": HALF, **options})


def record(network, names, backend="eager"):
    layers = [layer for layer in list_layers(network) if layer.name in names]
    with network.prepared(), ActivationRecorder(network, layers, backend=BackendSettings(backend, BATCH)) as recorder:
        return recorder(IMAGES)


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (
            cnn,
            {
                "/2/Clip_output_0": "2", "/3/MaxPool_output_0": "3", "/4/Conv_output_0": "4",
                "/5/HardSwish_output_0": "5",
                "scores": "8",
            },
        ),
        (
            vit,
            {
                "/encoder/layers/encoder_layer_0/Add_1_output_0": "encoder.layers.encoder_layer_0",
                "/encoder/layers/encoder_layer_1/mlp/mlp.1/Gelu_output_0": "encoder.layers.encoder_layer_1.mlp.1",
                "scores": "heads",
            },
        ),
    ],
)  # fmt: skip
def test_values_of_a_graph_have_the_layout_field_and_activations_of_the_modules_that_were_exported(
    exported, make, layers
):
    path, network = exported(make)
    graph = load(path)
    found = {layer.name: layer for layer in list_layers(graph)}
    expected = {layer.name: layer for layer in list_layers(network)}
    for name, module in layers.items():
        one, other = found[name], expected[module]
        assert (one.units, one.grid, one.field, one.layout) == (other.units, other.grid, other.field, other.layout)
    reference = record(network, layers.values())
    for backend in ("eager", "onnxruntime"):
        maps = record(graph, layers, backend)
        for name, module in layers.items():
            largest = float(reference[module].abs().max())
            torch.testing.assert_close(maps[name], reference[module], rtol=0, atol=1e-5 * largest)


def graph_file(folder, nodes, weights=None, *, shape=("batch", 3, 8, 8), opset=18, dtype=FLOAT, output="out"):
    """Write a graph whose input is called pixels."""
    initializers = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("pixels", dtype, shape)], [onnx.ValueInfoProto(name=output)],
        initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def conv(weights, name="maps", source="pixels", **attributes):
    weights[f"{name}.weight"] = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    return helper.make_node("Conv", [source, f"{name}.weight"], [name], **attributes)


OPERATIONS = [
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, ["weight"], 18),
    ("Conv", {"pads": [0, 0, 1, 1], "dilations": [2, 1]}, ["weight"], 18),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}, [], 18),
    ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}, [], 18),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [], 18),
    ("AveragePool", {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [0, 0, 1, 1]}, [], 18),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, ["transposed"], 18),
    ("Pad", {}, ["pads"], 18),
    ("Pad", {"mode": "reflect"}, ["pads"], 18),
    ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 0.5}, [], 2),
    ("Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
     ["", "scales"], 18),
    ("Resize", {"mode": "linear"}, ["", "scales"], 18),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, ["", "", "sizes"], 18),
    ("Resize", {"mode": "nearest"}, ["scales"], 10),
    ("Upsample", {"mode": "nearest"}, ["scales"], 9),
    ("SpaceToDepth", {"blocksize": 2}, [], 18),
    ("InstanceNormalization", {}, ["three", "three"], 18),
    ("LayerNormalization", {"axis": -1}, ["eight"], 18),
    ("RMSNormalization", {"axis": -1}, ["eight"], 23),
    ("GroupNormalization", {"num_groups": 3}, ["three", "three"], 21),
    ("LRN", {"size": 3}, [], 18),
    ("PRelu", {}, ["slope"], 18),
    ("Clip", {"min": -0.1, "max": 0.6}, [], 6),
    ("Clip", {}, ["", "one"], 18),
    ("HardSigmoid", {"alpha": 0.3}, [], 18),
    ("Gelu", {"approximate": "tanh"}, [], 20),
    ("Softmax", {"axis": 1}, [], 13),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [], 13),
    ("ReduceMean", {"keepdims": 1}, ["axes"], 18),
    ("ReduceProd", {"axes": [1, -1]}, [], 13),
    ("ReduceL2", {"keepdims": 0}, ["axes"], 18),
    ("Slice", {}, ["starts", "ends", "axes", "steps"], 18),
    ("Slice", {"starts": [1], "ends": [100], "axes": [2]}, [], 9),
    ("Gather", {"axis": 1}, ["indices"], 18),
    ("Split", {"axis": 2, "num_outputs": 2}, [], 18),
    ("Unsqueeze", {}, ["axes"], 18),
    ("Tile", {}, ["repeats"], 18),
    ("Transpose", {"perm": [0, 3, 1, 2]}, [], 18),
    ("Flatten", {}, [], 18),
    ("Einsum", {"equation": "nchw,dc->ndhw"}, ["mixer"], 18),
    ("QuantizeLinear", {}, ["one", "zero"], 18),
    ("TopK", {"axis": 1}, ["two"], 18),
    ("CumSum", {}, ["axis"], 18),
]  # fmt: skip
NORMAL = np.random.default_rng(1)
CONSTANTS = {
    "weight": NORMAL.normal(size=(4, 3, 3, 3)),
    "transposed": NORMAL.normal(size=(3, 2, 4, 4)), "mixer": NORMAL.normal(size=(5, 3)),
    "pads": [0, 0, 1, 2, 0, 0, 3, 0], "scales": np.float32([1, 1, 2, 2]), "sizes": [2, 3, 12, 10], "three": np.ones(3),
    "eight": NORMAL.normal(size=8), "slope": NORMAL.normal(size=(3, 1, 1)), "one": np.float32(1), "axes": [2, 3],
    "starts": [-1, 2], "ends": [-100, 7], "steps": [-2, 1], "indices": [[2, 0], [-1, 1]], "repeats": [1, 2, 1, 3],
    "zero": np.uint8(3), "two": [2], "axis": np.int64(2),
}  # fmt: skip


def constant(name):
    value = np.asarray(CONSTANTS[name])
    return value.astype(np.float32) if value.dtype == np.float64 else value


@pytest.mark.parametrize(
    ("op_type", "attributes", "inputs", "opset"),
    OPERATIONS,
    ids=[f"{op}-{index}" for index, (op, *_) in enumerate(OPERATIONS)],
)
def test_the_translation_of_an_operation_gives_the_numbers_of_onnxruntime(tmp_path, op_type, attributes, inputs, opset):
    weights = {name: constant(name) for name in inputs if name}
    count = {"Split": 2, "TopK": 2}.get(op_type, 1)
    node = helper.make_node(op_type, ["pixels", *inputs], ["out", "second"][:count], **attributes)
    (part,) = load(graph_file(tmp_path, [node], weights, opset=opset)).module._nodes
    assert part.translation is not None


def test_an_operation_without_translation_runs_in_onnxruntime_and_what_follows_is_not_traced(tmp_path):
    weights = {}
    nodes = [
        conv(weights), helper.make_node("Shrink", ["maps"], ["shrunk"], lambd=0.1),
        helper.make_node("Relu", ["shrunk"], ["out"]),
        helper.make_node("Mul", ["out", "maps"], ["gated"]),
    ]  # fmt: skip
    network = load(graph_file(tmp_path, nodes, weights, shape=("batch", 3, 32, 32), output="gated"))
    layers = {layer.name: layer for layer in survey_layers(network)}
    assert layers["maps"].layout.source == "traced"
    assert layers["maps"].field.vertical.size == 3
    for name in ("shrunk", "out"):
        assert layers[name].layout is None
        assert "the trace ends at onnxruntime.Shrink" in layers[name].reason
    assumed = {layer.name: layer for layer in list_layers(network, Assumed(layout="NCHW"))}
    assert assumed["out"].layout.source == "assumed"
    with torch.no_grad():
        maps = network.module._modules["maps"](IMAGES)
        shrunk = torch.where(maps < -0.1, maps, torch.where(maps > 0.1, maps, 0.0))
        torch.testing.assert_close(network.forward(IMAGES), shrunk.relu() * maps)


def test_a_gradient_is_refused_before_an_operation_without_translation_and_exact_after_it(tmp_path):
    weights = {"head": np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)}
    nodes = [
        conv(weights), helper.make_node("Shrink", ["maps"], ["shrunk"], lambd=0.1),
        helper.make_node("Add", ["shrunk", "maps"], ["sum"]),  # beside the operation, a part of the gradient is left
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]), helper.make_node("MatMul", ["flat", "head"], ["out"]),
    ]  # fmt: skip
    network = load(graph_file(tmp_path, nodes, weights, shape=("batch", 3, 32, 32)))
    first, second = (resolve_layers(network, [name], Assumed(layout="NCHW")) for name in ("maps", "sum"))
    with pytest.raises(NetworkError, match=r"'Shrink' that gives 'shrunk' runs in ONNX Runtime.*Expected layers after"):
        check_classifier(network, first)
    assert check_classifier(network, second) == 5
    np.testing.assert_allclose(
        score_gradients(network, second, IMAGES, 1), np.tile(weights["head"][:, 1], (BATCH, 1)), 1e-5
    )


def test_gradients_of_a_graph_are_those_of_the_module_that_was_exported(exported):
    path, network = exported(vit)
    names = ("/encoder/layers/encoder_layer_0/Add_1_output_0", "encoder.layers.encoder_layer_0")
    found, expected = (
        score_gradients(each, resolve_layers(each, [name]), IMAGES, 3)
        for each, name in zip((load(path), network), names, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_translation_that_gives_other_numbers_than_onnxruntime_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setitem(translation.OPERATIONS, "Relu", lambda _attributes, values: values.relu() + 0.01)
    weights = {}
    network = load(graph_file(tmp_path, [conv(weights), helper.make_node("Relu", ["maps"], ["out"])], weights))
    assert [layer.reason is None for layer in survey_layers(network)] == [True, False]
    assert float(network.forward(IMAGES).min()) == 0


def test_a_graph_whose_images_have_their_channels_last_takes_the_same_images(tmp_path):
    weights = {}
    turned = helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2])
    nodes = [turned, conv(weights, "maps", "planes", pads=[1, 1, 1, 1])]
    network = load(graph_file(tmp_path, nodes, weights, shape=("batch", 32, 32, 3), output="maps"))
    (layer,) = (layer for layer in list_layers(network) if layer.name == "maps")
    assert (layer.layout.name, layer.grid, layer.field.vertical.offset) == ("NCHW", Size(32, 32), -1)
    expected = torch.nn.functional.conv2d(IMAGES, torch.from_numpy(weights["maps.weight"]), padding=1)
    torch.testing.assert_close(record(network, ["maps"], "onnxruntime")["maps"], expected)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_may_call_its_values_as_exported_graphs_do(tmp_path, backend):
    pytest.importorskip(backend)
    weights, path = {}, tmp_path / "graph.onnx"
    node = conv(weights, "layer0", "images", auto_pad="SAME_UPPER")
    model = onnx.load(graph_file(tmp_path, [node], weights, shape=("batch", 3, 32, 32), output="layer0"))
    model.graph.input[0].name = "images"
    path.write_bytes(model.SerializeToString())
    network = load(path)
    maps, expected = record(network, ["layer0"], backend)["layer0"], record(network, ["layer0"])["layer0"]
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_names_with_dots_and_second_outputs_are_layers(tmp_path):
    weights = {}
    nodes = [conv(weights, "a.b.c"), helper.make_node("Split", ["a.b.c"], ["left.0", "right.0"], axis=1, num_outputs=2)]
    network = load(graph_file(tmp_path, nodes, weights, shape=("batch", 3, 32, 32), output="right.0"))
    assert [layer.name for layer in list_layers(network)] == ["a.b.c", "left.0", "right.0"]
    for backend in ("eager", "onnxruntime"):
        maps = record(network, ["a.b.c", "left.0", "right.0"], backend)
        torch.testing.assert_close(torch.cat([maps["left.0"], maps["right.0"]], 1), maps["a.b.c"])


def test_weights_operations_and_settings_are_part_of_the_digest(tmp_path):
    digests = set()
    for number in (0, 1, 1):
        weights = {}
        node = conv(weights, "out", dilations=[1, 1 + number])
        weights["out.weight"] += number
        digests.add(load(graph_file(tmp_path, [node], weights)).digest)
    assert len(digests) == 2


def test_preprocessing_is_read_beside_the_file_and_options_go_before_it(tmp_path):
    weights = {}
    path = graph_file(tmp_path, [conv(weights, "out")], weights, shape=("batch", 3, "height", "width"))
    config = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3, "size": {"height": 24, "width": 24}, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    network = load(path, std=None, mean=None)
    assert network.preprocessing == Preprocessing(Size(24, 24), (0.1,) * 3, (0.2,) * 3, "bicubic")
    assert load(path, std=None, size=16).preprocessing == Preprocessing(Size(16, 16), HALF, (0.2,) * 3, "bicubic")
    assert (network.name, network.source.spec) == ("onnx:graph.onnx", f"onnx:{path}")


def external(folder, location="weights.bin", length=432, size=432, offset=0):
    weights = {}
    path = graph_file(folder, [conv(weights, "out")], weights)
    model = onnx.load(path)
    (tensor,) = model.graph.initializer
    (folder / "weights.bin").write_bytes((b"\0" * offset + tensor.raw_data)[:size])
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path, weights["out.weight"]


def test_weights_in_other_files_are_those_of_one_file(tmp_path):
    path, weight = external(tmp_path, size=440, offset=8)
    torch.testing.assert_close(load(path).forward(IMAGES), torch.conv2d(IMAGES, torch.from_numpy(weight)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "lost.bin"}, r"keeps its weights in the file 'lost.bin', which cannot be read \(No such file"),
        ({"location": "../weights.bin"}, "names the file '../weights.bin', which lies outside"),
        ({"location": "/etc/hosts"}, "names the file '/etc/hosts', which lies outside"),
        ({"size": 400}, "takes 432 bytes, and it is said to be 432 bytes at 0 of weights.bin, which has 400"),
        ({"length": 10**12}, "takes 432 bytes, and it is said to be 1,000,000,000,000 bytes"),
    ],
)
def test_weights_that_are_not_in_the_folder_as_the_file_says_are_refused(tmp_path, options, message):
    (tmp_path / "weights.bin").touch()
    folder = tmp_path / "net"
    folder.mkdir()
    with pytest.raises(NetworkError, match=message):
        load(external(folder, **options)[0])


@pytest.mark.parametrize("kind", ["value", "sparse_value"])
def test_a_tensor_of_an_operation_in_another_file_is_refused(tmp_path, kind):
    tensor = onnx.TensorProto(name="hidden", dims=[1], data_type=FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hosts")
    indices = helper.make_tensor("indices", INT, [1], [0])
    value = tensor if kind == "value" else onnx.SparseTensorProto(values=tensor, indices=indices, dims=[1])
    with pytest.raises(NetworkError, match="keeps a tensor of an operation in another file"):
        load(graph_file(tmp_path, [helper.make_node("Constant", [], ["out"], **{kind: value})]))


def test_a_weight_of_another_size_than_it_says_is_refused_before_memory_is_taken(tmp_path):
    weights = {}
    path = graph_file(tmp_path, [conv(weights, "out")], weights)
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 2**50
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError, match=r"says that it is \(1125899906842624, 3, 3, 3\), and has 432 bytes"):
        load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 3, 8, 8)}, r"takes batches of 1 alone: its input is 'pixels', float32 \(1, 3, 8, 8\)"),
        ({"shape": ("batch", 12)}, r"has the input 'pixels', float32 \(batch, 12\). Expected a batch of images"),
        ({"dtype": INT}, r"has the input 'pixels', int64 \(batch, 3, 8, 8\). Expected a batch of images"),
        ({"opset": 99}, r"graph.onnx is of version 99 of ONNX's operator set, and .* has versions up to 2\d\. Export"),
    ],
)
def test_graphs_that_take_no_batches_of_images_or_are_too_new_are_refused(tmp_path, options, message):
    weights = {}
    with pytest.raises(NetworkError, match=message):
        load(graph_file(tmp_path, [conv(weights, "out")], weights, **options))


def test_a_newer_format_or_an_unknown_operation_is_said_in_words(tmp_path):
    weights = {}
    path = graph_file(tmp_path, [conv(weights, "out")], weights)
    model = onnx.load(path)
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError, match=r"version 99 of the ONNX format .* up to 1\d\. .*model\.ir_version = 1\d;"):
        load(path)
    path = graph_file(tmp_path, [helper.make_node("NoSuchOperation", ["pixels"], ["out"])])
    with pytest.raises(NetworkError, match=r"'NoSuchOperation' that gives 'out': it does not know such an operation"):
        load(path)


def test_a_graph_that_merges_the_images_of_a_batch_is_refused(tmp_path):
    node = helper.make_node("Reshape", ["pixels", "shape"], ["out"])
    with pytest.raises(NetworkError, match=r"gives outputs of shape \(1, 3, 16, 8\) for 2 images"):
        load(graph_file(tmp_path, [node], {"shape": np.int64([1, 3, 16, 8])}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": None, "std": None}, "Expected --mean and --std, as in training"),
        ({"std": None}, "Expected --std, as in training"),
        (
            {"mean": (0.5,), "std": (0.5,)},
            "takes images of 3 channels, and mean and standard deviation are given for 1",
        ),
        ({"size": 16}, "takes images of 8 x 8 pixels, and --input-size is 16"),
        ({"weights": "none"}, "an ONNX file holds its weights"),
    ],
)
def test_options_that_do_not_fit_a_graph_are_refused(tmp_path, options, message):
    weights = {}
    path = graph_file(tmp_path, [conv(weights, "out")], weights)
    with pytest.raises(NetworkError, match=message):
        load(path, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x89PNG" * 9, "is no ONNX file"), (b"", "has no operations"), (None, r"cannot be read \(No such file")],
)
def test_what_is_no_graph_is_refused(tmp_path, content, message):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetworkError, match=message):
        load(path)


def test_a_constant_without_value_is_refused(tmp_path):
    with pytest.raises(NetworkError, match="cannot run the operation 'Constant' that gives 'out'"):
        load(graph_file(tmp_path, [helper.make_node("Constant", [], ["out"])]))


def test_a_file_that_is_too_large_and_a_weight_of_an_unknown_type_are_refused(tmp_path, monkeypatch):
    weights = {}
    path = graph_file(tmp_path, [conv(weights, "out")], weights)
    model = onnx.load(path)
    model.graph.initializer[0].data_type = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError, match="has the type 99"):
        load(path)
    monkeypatch.setattr(model_file, "MAX_BYTES", 10)
    with pytest.raises(NetworkError, match=r"^The ONNX file .* has .* bytes\. Expected less than 2 GiB"):
        load(path)


def test_a_value_that_no_operation_gives_is_refused(tmp_path):
    with pytest.raises(NetworkError, match="'Relu' of the graph reads 'lost', which nothing before it gives"):
        load(graph_file(tmp_path, [helper.make_node("Relu", ["lost"], ["out"])]))


def test_blocks_of_a_transformer_graph_end_with_its_residual_additions(exported):
    path, network = exported(vit)
    graph, expected = load(path), find_structure(network)
    structure = find_structure(graph)
    blocks = [layer.name for layer in expected.layers("blocks")]
    named = {f"/encoder/layers/{block.rpartition('.')[2]}/Add_1_output_0": block for block in blocks}
    assert [layer.name for layer in structure.layers("blocks")] == [*named]
    assert [layer.name for layer in structure.layers("auto")] == [*named]
    maps, reference = record(graph, named), record(network, blocks)
    for name, block in named.items():
        torch.testing.assert_close(maps[name], reference[block], rtol=0, atol=1e-5)
    assert [layer.name for layer in structure.layers("mlp")] == [
        f"/encoder/layers/{block.rpartition('.')[2]}/mlp/mlp.1/Gelu_output_0" for block in blocks
    ]
    assert [layer.units for layer in structure.layers("mlp")] == [layer.units for layer in expected.layers("mlp")]


@pytest.mark.parametrize("plain", [1, 2, 3])
def test_additions_are_blocks_where_most_weights_are_between_them(tmp_path, plain):
    weights, nodes, value = {}, [], "pixels"

    def convolution(source, name):
        weights[f"{name}.weight"] = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [source, f"{name}.weight"], [name], pads=[1, 1, 1, 1]))
        return name

    for index in range(plain):
        value = convolution(value, f"plain{index}")
    for index in range(5):
        branch = convolution(value, f"branch{index}")
        nodes.append(helper.make_node("Add", [value, branch], [f"sum{index}" if index < 4 else "out"]))
        value = f"sum{index}"
    blocks = [layer.name for layer in find_structure(load(graph_file(tmp_path, nodes, weights))).layers("blocks")]
    additions = ["sum0", "sum1", "sum2", "sum3", "out"]  # of 5 + 3 weights fewer than two thirds are between them
    assert blocks == ([f"plain{index}" for index in range(plain)] if plain == 3 else []) + additions
