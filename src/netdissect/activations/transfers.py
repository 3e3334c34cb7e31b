"""Copies between host and device for which neither waits.

A copy from ordinary memory, or any question to the device, makes the host wait until the device has done all its work.
Copies from page-locked memory do not, and a number is read after the next work was handed over.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations.image_batches import Batch

PAGE_LOCKED = ("cuda", "xpu")
"""Devices that copy from page-locked memory while the host goes on."""


def upload(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device without waiting for the copy; on the CPU a tensor of the same memory is returned."""
    tensor = torch.from_numpy(array)
    if device.type in PAGE_LOCKED:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class PendingNumber:
    """An integer on its way to the host, int64 (); the host waits for it where it reads it."""

    def __init__(self, value: Tensor) -> None:
        self._host, self._arrived = value, None
        if value.device.type in PAGE_LOCKED:
            module: Any = torch.get_device_module(value.device)
            self._host = torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
            self._arrived = module.Event()
            self._arrived.record(module.current_stream(value.device))

    def read(self) -> int:
        """Return the integer, once the device has computed it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return int(self._host)


def uploaded(batches: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches with their pixels on the device, uint8 (B, C, H, W).

    Where the device can, the next batch is copied on a stream of its own while the device computes.
    """
    if device.type not in PAGE_LOCKED:
        for batch in batches:
            yield batch, torch.from_numpy(batch.pixels).to(device)
        return
    module: Any = torch.get_device_module(device)
    copying = module.Stream(device)
    ahead: tuple[Batch, Tensor, Any] | None = None
    for batch in batches:
        with module.stream(copying):
            pixels = upload(batch.pixels, device)
            copied = module.Event()
            copied.record(copying)
        if ahead is not None:
            yield _arrived(*ahead, module)
        ahead = batch, pixels, copied
    if ahead is not None:
        yield _arrived(*ahead, module)


def _arrived(batch: Batch, pixels: Tensor, copied: Any, module: Any) -> tuple[Batch, Tensor]:
    """Make the stream that computes wait for a copy, and keep the copy's memory until that stream has used it."""
    computing = module.current_stream(pixels.device)
    computing.wait_event(copied)
    pixels.record_stream(computing)
    return batch, pixels


def as_host_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a copy of a tensor on the host, once the device has computed it."""
    return np.array(tensor.cpu().numpy())
