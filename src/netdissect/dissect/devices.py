"""The device of the forward pass, and its number format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from netdissect.errors import ConfigError
from netdissect.models import Network

if TYPE_CHECKING:
    from netdissect.config import DissectConfig

AUTO = "auto"
ACCELERATORS: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    "xpu": lambda: torch.xpu.is_available(),
}
"""Devices in the order in which one is taken, each with the test whether it is there."""


def torch_device(name: str) -> torch.device:
    """Return a device after testing that it works here.

    Raises
    ------
    ConfigError
        If it does not.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        kind = name.partition(":")[0]
        known = kind == "cpu" or kind in ACCELERATORS
        reason = str(error).splitlines()[0] if known else "torch has no device of this name; GPUs are cuda, mps or xpu"
        there = ", ".join(["cpu", *(kind for kind, is_available in ACCELERATORS.items() if is_available())])
        raise ConfigError(
            f"device {name!r} cannot be used here ({reason}). Expected one that is there ({there}), or auto, which "
            "takes an accelerator if there is one; for others install the version of torch that is made for them."
        ) from error
    return device


def choose_device(name: str, network: Network) -> str:
    """Return the name of the device on which a network runs.

    Parameters
    ----------
    name
        Of a device. ``auto``: that of the network's weights where it is an accelerator, or else the first of CUDA, MPS
        and XPU that is there and on which the network can run, or else the CPU.
    network
        Runs there.

    Raises
    ------
    ConfigError
        If the device does not work here, or has no float64 and the network needs it.
    """
    if name != AUTO:
        device = torch_device(name)
        if not _can_run(network, device):
            raise ConfigError(
                f"network {network.name!r} cannot run on device {name!r}: its weights are quantized or float64, which "
                "this device does not have. Expected another device, such as 'cpu'."
            )
        return name
    own = network.device
    if own.type not in ("cpu", "meta"):
        return str(own)
    there = (kind for kind, is_available in ACCELERATORS.items() if is_available())
    chosen = next((kind for kind in there if _can_run(network, torch.device(kind))), "cpu")
    return str(torch_device(chosen))


def _can_run(network: Network, device: torch.device) -> bool:
    """Tell whether a device has the number formats of a network."""
    if device.type == "cpu":
        return True
    tensors = [value for value in network.module.state_dict().values() if isinstance(value, torch.Tensor)]
    if any(tensor.is_quantized for tensor in tensors):
        return False
    return all(tensor.dtype != torch.float64 for tensor in tensors) or has_float64(device)


def has_float64(device: torch.device) -> bool:
    """Tell whether a device computes in float64: MPS does not, nor do some GPUs of Intel."""
    if device.type == "mps":
        return False
    if device.type != "xpu":
        return True
    try:
        torch.ones(1, dtype=torch.float64, device=device).add_(1)
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def counts_on_device(config: "DissectConfig", engine: str) -> bool:
    """Tell whether thresholds and counts are taken on the device of the forward pass, in plain tensor code.

    Parameters
    ----------
    config
        With the device.
    engine
        ``auto``: wherever the device is no CPU and has float64, which counting needs.

    Raises
    ------
    ConfigError
        If the engine is ``tensor`` and the device has no float64.
    """
    device = torch.device(config.device)
    if engine == "tensor" and not has_float64(device):
        raise ConfigError(
            f"device {config.device!r} has no float64, which the engine 'tensor' needs to count on it. Expected "
            "--engine auto or compiled: then only the forward pass runs there."
        )
    return engine == "tensor" or (engine == "auto" and device.type != "cpu" and has_float64(device))


@contextmanager
def number_format(device: torch.device, config: "DissectConfig") -> Iterator[None]:
    """Run what is in this block in the number format of a run: float32 as such, or bfloat16."""
    with _exact_float32(), torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        yield


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Compute float32 with all its bits: by default torch convolves on NVIDIA GPUs in TF32, which has 10 of 23.

    Notes
    -----
    Each setting of torch is there twice, as a word of the older interface and for each kind of operation. Where they
    contradict each other, reading the word raises an error, so both are set.
    """
    backends: Any = torch.backends  # whose properties the stubs do not know
    operations = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    before, word = [operation.fp32_precision for operation in operations], _matmul_precision()
    try:
        backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        if {backends.fp32_precision, backends.cudnn.fp32_precision} != {"none"}:  # what these operations would inherit
            for operation in operations:
                operation.fp32_precision = "ieee"
        yield
    finally:
        backends.cudnn.allow_tf32 = "tf32" in before[:2]
        torch.set_float32_matmul_precision(word)
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision


def _matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the two interfaces contradict each other
        return "highest"
