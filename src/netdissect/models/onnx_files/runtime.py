"""ONNX Runtime: opened on the CPU, and which versions of the format the installed one reads."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from netdissect.errors import NetdissectError, NetworkError
from netdissect.extras import need
from netdissect.models.onnx_files.graph_tensors import STANDARD_DOMAINS

OLD_SET, OLD_FORMAT = 8, 8
"""Versions of operator set and format that every ONNX Runtime reads."""
FURTHER = 8
"""Versions above those of the installed onnx that ONNX Runtime may read."""


def open_session(library: Any, graph: bytes | str, threads: int) -> Any:
    """Open a graph, its content or its path, on the CPU."""
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def refuse_newer_format(model: Any, path: Path, error: type[NetdissectError] = NetworkError) -> None:
    """Refuse a file whose operator set or format is newer than those of the installed ONNX Runtime.

    Parameters
    ----------
    model
        ``ModelProto``.
    path
        Of its file.
    error
        What is raised.

    Raises
    ------
    NetdissectError
        If it is newer.
    """
    onnx = need("onnx", "onnx", f"The ONNX file {path}")
    runtime = need("onnxruntime", "onnx", f"The ONNX file {path}")
    opset = max((each.version for each in model.opset_import if each.domain in STANDARD_DOMAINS), default=1)
    opens = partial(_opens, onnx, runtime)
    title = f"the installed ONNX Runtime {runtime.__version__}"
    if not opens(opset, OLD_FORMAT):
        most = min(opset, onnx.defs.onnx_opset_version() + FURTHER)
        newest = _newest(lambda version: opens(version, OLD_FORMAT), most)
        raise error(
            f"{path} is of version {opset} of ONNX's operator set, and {title} has versions up to {newest}. Export the "
            f"network again with opset_version={newest} or lower, or update onnxruntime."
        )
    if not opens(OLD_SET, model.ir_version):
        most = min(model.ir_version, onnx.IR_VERSION + FURTHER)
        newest = _newest(lambda version: opens(OLD_SET, version), most)
        raise error(
            f"{path} is of version {model.ir_version} of the ONNX format (ir_version), and {title} reads versions up "
            f"to {newest}. Update onnxruntime, or save the file as an older version, if it has none of the new types: "
            f"model = onnx.load(FILE); model.ir_version = {newest}; onnx.save(model, FILE)."
        )


def _opens(onnx: Any, runtime: Any, opset: int, ir_version: int) -> bool:
    """Tell whether ONNX Runtime opens a graph of one operation."""
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("given", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["same"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    try:
        open_session(runtime, model.SerializeToString(), 1)
    except Exception:  # of the runtime, which has several kinds
        return False
    return True


def _newest(opens: Callable[[int], bool], most: int) -> int:
    """Return the newest version that is read."""
    return next((version for version in range(most, 1, -1) if opens(version)), 1)
