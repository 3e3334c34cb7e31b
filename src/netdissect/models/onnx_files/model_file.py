"""Read an ONNX file: its graph, its weights and its image input, with every size checked before memory is taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netdissect.errors import NetworkError
from netdissect.extras import need
from netdissect.models.onnx_files.external_data import external_data
from netdissect.models.onnx_files.graph_tensors import STANDARD_DOMAINS, node_tensors
from netdissect.models.onnx_files.translation import DTYPES
from netdissect.paths import check_regular

MAX_BYTES = 2**31
"""Of a file, and of a graph with its weights: the limit of the format."""
INPUT_TYPES = (torch.float32, torch.float16)


@dataclass(frozen=True)
class ImageInput:
    """The input of a graph that takes images.

    Attributes
    ----------
    name
        Of the value.
    dtype
        Of its elements.
    channels
        How many it has.
    height, width
        In pixels; None: any.
    channels_last
        Whether it is (B, H, W, C), and not (B, C, H, W).
    """

    name: str
    dtype: torch.dtype
    channels: int
    height: int | None
    width: int | None
    channels_last: bool


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file in memory.

    Attributes
    ----------
    model
        The ``ModelProto``, of which initializers and constants were taken out.
    weights
        Initializers and constants by name.
    image
        Its input.
    """

    model: Any
    weights: Mapping[str, Tensor]
    image: ImageInput


def read_model(path: Path) -> ModelFile:
    """Read an ONNX file.

    Parameters
    ----------
    path
        Of the file. Weights in other files must be in the same folder or below it.

    Raises
    ------
    NetworkError
        If it is no ONNX file, is too large, has weights outside its folder or none where it says, or takes no batches
        of images.
    MissingExtraError
        If onnx is not installed.
    """
    onnx = need("onnx", "onnx", f"Network 'onnx:{path}'")
    model = _parsed(onnx, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _refuse_hidden_files(model.graph, path)
    weights = {tensor.name: _weight(onnx, tensor, path) for tensor in model.graph.initializer}
    weights |= _constants(model.graph)
    if model.graph.sparse_initializer:
        raise NetworkError(f"The ONNX file {path} has sparse weights. Expected dense ones; export the network again.")
    del model.graph.initializer[:]
    if sum(tensor.nbytes for tensor in weights.values()) + model.ByteSize() >= MAX_BYTES:
        raise NetworkError(
            f"The graph of {path} has more than 2 GiB with its weights, which the format does not hold in one piece. "
            "Expected a smaller network; load the network from which it was exported."
        )
    return ModelFile(model, weights, _image_input(model.graph, weights, path))


def _parsed(onnx: Any, path: Path) -> Any:
    try:
        check_regular(path)
        size = path.stat().st_size
        if size >= MAX_BYTES:
            raise NetworkError(f"The ONNX file {path} has {size:,} bytes. Expected less than 2 GiB, as the format has.")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except NetworkError:
        raise
    except OSError as error:
        raise NetworkError(
            f"The ONNX file {path} cannot be read ({error.strerror or error}). Expected onnx:FILE, the path of a file."
        ) from error
    except Exception as error:  # of protobuf, which has several kinds
        raise NetworkError(f"{path} is no ONNX file ({error}). Expected one; download or export it again.") from error
    if not model.graph.node:
        raise NetworkError(f"{path} is no ONNX file with a graph: it has no operations. Export the network again.")
    return model


def _refuse_hidden_files(graph: Any, path: Path) -> None:
    """Refuse tensors in attributes and inner graphs whose data is in other files, which the runtime would open."""
    for tensor in node_tensors(graph.node):
        if tensor.external_data:
            raise NetworkError(
                f"The ONNX file {path} keeps a tensor of an operation in another file. Expected that only weights are "
                "in other files; save it again by onnx.save(onnx.load(FILE), FILE)."
            )


def _weight(onnx: Any, tensor: Any, path: Path) -> Tensor:
    """Return an initializer, from the file itself or from another one in its folder."""
    if tensor.data_type not in DTYPES:
        kinds = onnx.TensorProto.DataType
        kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else tensor.data_type
        raise NetworkError(
            f"The weight {tensor.name!r} of {path} has the type {kind}. Expected floating-point numbers, integers of "
            "at most 64 bits or truth values; export the network in float32."
        )
    dtype, shape = DTYPES[tensor.data_type], tuple(tensor.dims)
    count = math.prod(shape) * dtype.itemsize
    outside = external_data(tensor, path)
    if outside is None and not tensor.HasField("raw_data"):
        try:
            return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
        except (ValueError, TypeError) as error:
            raise NetworkError(_other_size(tensor.name, path, shape, str(error))) from error
    data = outside.read() if outside else tensor.raw_data
    if min(shape, default=0) < 0 or len(data) != count:
        raise NetworkError(_other_size(tensor.name, path, shape, f"{len(data):,} bytes in place of {count:,}"))
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _other_size(name: str, path: Path, shape: tuple[int, ...], found: str) -> str:
    return (
        f"The weight {name!r} of {path} says that it is {shape}, and has {found}. The file is damaged: download or "
        "export it again."
    )


def _constants(graph: Any) -> dict[str, Tensor]:
    """Take the operations that give a constant out of a graph, and return their values."""
    found, others = {}, []
    for node in graph.node:
        value = _constant(node) if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS else None
        if value is None:
            others.append(node)
        else:
            found[node.output[0]] = value
    del graph.node[:]
    graph.node.extend(others)
    return found


def _constant(node: Any) -> Tensor | None:
    """Return the value of a node that gives a constant; None: it is text, say, or damaged."""
    from onnx import helper, numpy_helper

    if len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value" and value.data_type in DTYPES:
        return torch.from_numpy(np.array(numpy_helper.to_array(value)))
    dtypes = {"value_float": torch.float32, "value_floats": torch.float32, "value_int": torch.int64}
    dtype = (dtypes | {"value_ints": torch.int64}).get(attribute.name)
    return None if dtype is None else torch.tensor(value, dtype=dtype)


def _image_input(graph: Any, weights: Mapping[str, Tensor], path: Path) -> ImageInput:
    """Return the input of a graph, if it is a batch of images."""
    inputs = [value for value in graph.input if value.name not in weights]  # old files list their weights, too
    described = ", ".join(map(_described, inputs)) or "none"
    if len(inputs) != 1:
        raise NetworkError(
            f"The graph of {path} has the inputs {described}. Expected one, a batch of images; export the part of the "
            "network that takes images alone."
        )
    (value,) = inputs
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    dtype = DTYPES.get(kind.elem_type)
    last = len(dims) == 4 and dims[1] not in (1, 3, 4) and dims[3] in (1, 3, 4)
    channels = dims[3 if last else 1] if len(dims) == 4 else None
    if dtype not in INPUT_TYPES or channels is None:
        raise NetworkError(
            f"The graph of {path} has the input {described}. Expected a batch of images, float32 (batch, channels, "
            "height, width) or (batch, height, width, channels) with a stated number of channels; export the part of "
            "the network that takes images."
        )
    if dims[0] is not None:
        raise NetworkError(
            f"The graph of {path} takes batches of {dims[0]} alone: its input is {described}. Expected any number of "
            "images. Export it with a dynamic batch: torch.onnx.export(..., dynamic_shapes={...}), or dynamic_axes= of "
            "the older exporter."
        )
    height, width = (dims[1], dims[2]) if last else (dims[2], dims[3])
    return ImageInput(value.name, dtype, channels, height, width, last)


def _described(value: Any) -> str:
    """Write an input as ``images: float32 (batch, 3, 224, 224)``."""
    kind = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "any" for dim in kind.shape.dim]
    dtype = str(DTYPES.get(kind.elem_type, "no tensor of numbers")).removeprefix("torch.")
    return f"{value.name!r}, {dtype} ({', '.join(dims)})"
