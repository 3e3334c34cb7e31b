"""ONNX Runtime: opened on the CPU."""

from typing import Any


def open_session(library: Any, graph: bytes | str, threads: int) -> Any:
    """Open a graph, its content or its path, on the CPU."""
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
