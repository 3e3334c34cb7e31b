"""Export a network up to its layers as an ONNX graph with one output for each layer, and keep it for the next run.

A file is named by the digest of what made it: weights and structure, the files with the code of its modules, layers,
shape of the input, and the version of torch. It may be deleted at any time, and one that is damaged is made anew.
"""

import hashlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from netdissect.caches.cache_folder import GRAPHS, OTHER_FOLDER, is_readable, make_room, mark_used, new_part
from netdissect.checksums import checksum, strip_checksum
from netdissect.errors import BackendError
from netdissect.extras import need
from netdissect.models.backends.backend import Modules
from netdissect.models.backends.recorded_module import RecordedModule
from netdissect.models.network import Network
from netdissect.models.onnx_files.onnx_module import OnnxModule
from netdissect.models.run_module import evaluation_mode, is_out_of_memory, without_compiling

FORMAT = 1
OPSET = 20  # the first with GELU as one operation, and the last that this exporter of torch knows
INPUT = "images"
MAX_GRAPH_BYTES = 2**31  # of one file: the limit of its format


def graph_inputs(network: Network, modules: Modules, images: Tensor) -> tuple[object, ...]:
    """Return what makes a graph."""
    return FORMAT, OPSET, torch.__version__, network.digest, tuple(modules), tuple(images.shape), _code(network)


def load_or_export(network: Network, modules: Modules, images: Tensor, folder: Path | None) -> bytes:
    """Return the graph of a network, with weights: that of its ONNX file, that of an earlier run, or exported now.

    Parameters
    ----------
    network
        Within `Network.prepared`.
    modules
        Its outputs, in this order.
    images : float32 (B, C, H, W)
        Normalized; the network runs on them once.
    folder
        None: nothing is read or written.

    Raises
    ------
    BackendError
        If the network cannot be exported.
    MissingExtraError
        If onnx is not installed, with which PyTorch writes a graph.
    """
    if isinstance(network.module, OnnxModule):
        return network.module.graph(list(modules))
    path = None if folder is None else GRAPHS.path(folder, graph_inputs(network, modules, images))
    content = None if path is None else _read(path)
    if content is None:
        content = export(network, modules, images)
        if path is not None:
            _write(path, content)
    return content


def export(network: Network, modules: Modules, images: Tensor) -> bytes:
    """Export a network up to its layers; see `load_or_export`.

    Notes
    -----
    By tracing one pass on these images, which takes about a second. The exporter that is based on torch.export takes
    two to six, and loads its compiler.
    """
    need("onnx", "onnx", "Exporting a network")
    recorded = RecordedModule(network, modules)
    names = [f"layer{number}" for number in range(len(modules))]  # names of layers may be any text
    try:
        with (
            TemporaryDirectory(prefix="netdissect-") as folder,
            recorded.attached(), evaluation_mode(network.module), without_compiling(), traceable(), torch.no_grad(),
            torch.autocast(images.device.type, enabled=False),  # the library that runs the graph chooses the precision
        ):  # fmt: skip
            file = Path(folder) / "graph.onnx"
            torch.onnx.export(
                _InOrder(recorded, modules).eval(), (images,), file, dynamo=False, opset_version=OPSET,
                input_names=[INPUT], output_names=names,
            )  # fmt: skip
            return file.read_bytes()
    except BackendError:
        raise
    except Exception as error:  # of the exporter, or of the network's own code
        if is_out_of_memory(error):
            raise
        reason = next((line for line in str(error).strip().splitlines() if line), "no reason given")
        raise BackendError(
            f"Network {network.name!r} cannot be exported as an ONNX graph: {type(error).__name__}: {reason}. Expected "
            "operations that torch.onnx.export knows; leave out --backend to run it in PyTorch."
        ) from error


class _InOrder(nn.Module):
    """Returns the outputs of layers as a tuple."""

    def __init__(self, recorded: RecordedModule, modules: Modules) -> None:
        super().__init__()
        self.recorded, self.names = recorded, list(modules)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.recorded(images)
        missing = next((name for name in self.names if name not in outputs), None)
        if missing is not None:
            raise BackendError(
                f"Layer {missing!r} is not in the exported graph: operations that contain it run as one. The nearest "
                f"layer around it is {nearest(missing, self.recorded.network)!r}. Dissect that one, or leave out "
                "--backend."
            )
        return tuple(outputs[name] for name in self.names)


def nearest(layer: str, module: nn.Module) -> str:
    """Return the innermost module around a layer.

    >>> nearest("0.act", nn.Sequential(nn.Sequential()))
    '0'
    """
    outer, _, _ = layer.rpartition(".")
    names = {name for name, _ in module.named_modules()}
    while outer and outer not in names:
        outer, _, _ = outer.rpartition(".")
    return outer


@contextmanager
def traceable() -> Iterator[None]:
    """Have attention run as operations that the exporter knows, and leave out its warnings."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _code(network: Network) -> str:
    """Return a digest of the files with the code of a network's modules, and of the classes without a file."""
    digest = hashlib.sha256()
    for name in sorted({type(part).__module__ for part in network.module.modules()}):
        file = getattr(sys.modules.get(name), "__file__", None)
        with suppress(OSError):
            digest.update(name.encode() + (b"" if file is None else Path(file).read_bytes()))
    return digest.hexdigest()


def _read(path: Path) -> bytes | None:
    """Return the graph in a file; None if there is none, or it is damaged."""
    try:
        if not is_readable(path, "the graph is exported instead") or path.stat().st_size > MAX_GRAPH_BYTES:
            return None
        content = strip_checksum(path.read_bytes())
    except (OSError, ValueError):
        return None
    mark_used(path)
    return content


def _write(path: Path, content: bytes) -> None:
    """Write a graph to a file where that is possible, and delete the least recently used ones."""
    part: Path | None = None
    try:
        part = new_part(path)
        part.write_bytes(content + checksum([content]))
        make_room(GRAPHS, path.parent, len(content))
        part.replace(path)
    except OSError as error:
        if part is not None:
            with suppress(OSError):
                part.unlink()
        warnings.warn(
            f"{path.parent} cannot be written ({error.strerror}): the exported graph is not kept for the next run. "
            f"{OTHER_FOLDER}",
            stacklevel=2,
        )
