"""Check the backend of a run against PyTorch, on the first images of the run, and choose the fastest for ``auto``.

    --backend openvino   checked; PyTorch where it cannot take the network, or gives other activations
    --backend auto       the fastest of those that agree, if it is 5 % faster than PyTorch

The last bits of activations depend on the backend. The configuration of the run names the one that runs.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from torch import Tensor

from netdissect.config import BackendName
from netdissect.dissect.choices.timed_passes import REPEATS, TimedPasses, timed_passes
from netdissect.dissect.devices import torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import BackendError
from netdissect.models.backends import RUNTIMES
from netdissect.models.determinism import LOW_PRECISION, TOLERANCE, relative_difference
from netdissect.models.onnx_files.onnx_module import OnnxModule
from netdissect.result import BackendCheck

logger = logging.getLogger(__name__)

GAIN = 1.05
"""A backend is chosen if it takes this many times the images per second of PyTorch."""
COMPILE_SECONDS = 120.0
"""Of PyTorch for all images; for shorter runs torch.compile, which takes half a minute first, is not tried."""
CHECKED_IMAGES = 16
"""Images of the check of a backend that was asked for. A batch of 64 of ResNet-50 took 9 s of a run of 44 s."""
TOLERANCES = {"float32": TOLERANCE, "bfloat16": LOW_PRECISION * 2.0**-7}
"""Largest difference from PyTorch in float32 that is taken for rounding, by the precision of a backend."""


def with_backend(source: DissectionInputs) -> DissectionInputs:
    """Return the inputs with the backend that runs, and its check.

    The graph of an ONNX file runs in ONNX Runtime where no other backend was asked for, on a CPU in float32.

    Parameters
    ----------
    source
        With the backend that was asked for, and a batch size.

    Returns
    -------
    DissectionInputs
        Unchanged for PyTorch in float32.

    Raises
    ------
    MissingExtraError
        If the backend that was asked for is not installed.
    NetworkError
        If the network fails in PyTorch.
    """
    if source.config.backend == "eager" and source.config.precision == "float32":
        if not (isinstance(source.network.module, OnnxModule) and source.config.device.startswith("cpu")):
            return source
        source = source.with_config(backend="onnxruntime")
    with source.network.prepared(torch_device(source.config.device)):
        return _checked(source)


def _checked(source: DissectionInputs) -> DissectionInputs:
    asked = source.config.backend
    images = source.config.images_per_batch
    if asked != "auto":
        images = min(images, CHECKED_IMAGES)
    pixels = source.images.read(range(min(images, len(source.data))))
    reference = timed_passes(source.with_config(backend="eager", precision="float32"), pixels, repeats=0)
    if asked == "auto":
        return _fastest(source, pixels, reference.maps)
    try:
        difference = _difference(timed_passes(source, pixels, repeats=0), reference.maps)
        reason = _disagreement(source, asked, difference)
    except BackendError as error:
        reason = str(error)
    if reason is None:
        return source._replace(backend_check=BackendCheck(difference=difference))
    warnings.warn(f"PyTorch runs the network in place of the backend {asked}: {reason}", stacklevel=5)
    eager = source.with_config(backend="eager")
    difference = _difference(timed_passes(eager, pixels, repeats=0), reference.maps)
    return eager._replace(backend_check=BackendCheck(difference=difference, reason=reason))


def backend_text(backend: str, precision: str, check: BackendCheck | None) -> str:
    """Return what runs the forward pass, how far it is from PyTorch, and what is not installed; empty without check."""
    if check is None:
        return ""
    missing = _missing_text(check.not_installed)
    if check.difference == 0:
        return f"{backend}{missing}"
    return (
        f"{backend} in {precision}, differs from PyTorch in float32 by at most {check.difference:.1g} of a layer's "
        f"largest magnitude{missing}"
    )


def _missing_text(backends: Sequence[BackendName]) -> str:
    """Return what auto would have tried if it were installed, in brackets; empty: nothing."""
    if not backends:
        return ""
    extras = ",".join(RUNTIMES[name].extra for name in backends)
    are = "is" if len(backends) == 1 else "are"
    return f" ({' and '.join(backends)} {are} not installed: pip install 'netdissect[{extras}]')"


def _fastest(
    source: DissectionInputs, pixels: npt.NDArray[np.uint8], reference: Mapping[str, Tensor]
) -> DissectionInputs:
    """Time PyTorch and the backends that agree with it on one batch, and return the inputs with the fastest."""
    rates: dict[BackendName, float] = {}
    differences: dict[BackendName, float] = {}
    for name in _candidates(source, rates):
        try:
            passes = timed_passes(source.with_config(backend=name), pixels, REPEATS)
        except BackendError as error:
            logger.info("the backend %s is not chosen: %s", name, error)
            continue
        differences[name] = _difference(passes, reference)
        reason = None if name == "eager" else _disagreement(source, name, differences[name])
        if reason is None:
            rates[name] = passes.images_per_second
        else:
            logger.info("the backend %s is not chosen: %s", name, reason)
    best = max(rates, key=rates.__getitem__)
    chosen = best if rates[best] >= GAIN * rates["eager"] else "eager"
    logger.info("backend %s; images per second: %s", chosen, {name: round(rate, 1) for name, rate in rates.items()})
    check = BackendCheck(
        difference=differences[chosen], images_per_second=dict(rates),
        not_installed=tuple(name for name in _runtimes(source) if not _is_installed(name)),
    )  # fmt: skip
    return source.with_config(backend=chosen)._replace(backend_check=check)


def _candidates(source: DissectionInputs, rates: Mapping[BackendName, float]) -> Iterator[BackendName]:
    """Yield PyTorch, then the backends that may be faster; `rates` are those measured so far."""
    yield "eager"
    yield from filter(_is_installed, _runtimes(source))
    if len(source.data) / max(rates.values()) > COMPILE_SECONDS:
        yield "compile"


def _runtimes(source: DissectionInputs) -> Iterator[BackendName]:
    """Yield the backends that run a graph on the device and in the precision of a run, installed or not."""
    for name, runtime in RUNTIMES.items():
        if source.config.device.startswith("cpu") and source.config.precision in runtime.precisions:
            yield name


def _is_installed(name: str) -> bool:
    return all(map(find_spec, ("onnx", name)))


def _difference(passes: TimedPasses, reference: Mapping[str, Tensor]) -> float:
    return max(relative_difference(maps, passes.maps[name]) for name, maps in reference.items())


def _disagreement(source: DissectionInputs, name: str, difference: float) -> str | None:
    """Return why the activations of a backend are not those of PyTorch up to rounding; None: they are."""
    tolerance = TOLERANCES[source.config.precision]
    if difference <= tolerance:
        return None
    return (
        f"its activations of network {source.network.name!r} differ from those of PyTorch in float32 by "
        f"{difference:.2g} of a layer's largest magnitude. Expected at most {tolerance:.2g} in "
        f"{source.config.precision}; leave out --backend {name}."
    )
