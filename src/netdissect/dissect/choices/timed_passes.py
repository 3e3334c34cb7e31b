"""Forward passes on one batch, with the time they take."""

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations import Batch
from netdissect.dissect.devices import torch_device
from netdissect.dissect.forward import DissectionInputs, recorded

REPEATS = 3


class TimedPasses(NamedTuple):
    """Images per second of the fastest pass after a first one, and the activations of the last by layer."""

    images_per_second: float
    maps: dict[str, Tensor]


def timed_passes(source: DissectionInputs, pixels: npt.NDArray[np.uint8], repeats: int = REPEATS) -> TimedPasses:
    """Run a network several times on one batch, after a first time that may also compile.

    Parameters
    ----------
    source
        Network, layers and configuration; data are not read.
    pixels : uint8 (B, C, H, W)
        Images of the size of its input.
    repeats
        Passes after the first one; with 0 this is the one that is timed.
    """
    device = torch_device(source.config.device)
    seconds: list[float] = []
    maps: dict[str, Tensor] = {}
    try:
        begin = time.perf_counter()
        for _batch, found in recorded(source, [Batch(0, pixels)] * (repeats + 1)):
            wait_for(device)
            seconds.append(time.perf_counter() - begin)
            begin, maps = time.perf_counter(), found
    finally:
        if device.type != "cpu":
            torch.get_device_module(device).empty_cache()
    return TimedPasses(len(pixels) / min(seconds[min(1, repeats) :]), maps)


def wait_for(device: torch.device) -> None:
    """Wait until a device has computed what it was given."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
