"""Find the batch size at which a network takes most images per second, by doubling.

    measured images per second: 16: 210, 32: 240, 64: 244  -> 32, because 64 is not 5 % faster

The bits of activations depend on the batch size. It is measured only where ``batch_size="auto"`` asks for it, before
the first batch, and recorded in the configuration of the run.
"""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import takewhile

import numpy as np
import torch

from netdissect.activations import Batch
from netdissect.dissect.devices import torch_device
from netdissect.dissect.forward import DissectionInputs, recorded
from netdissect.errors import ConfigError
from netdissect.models.run_module import is_out_of_memory

logger = logging.getLogger(__name__)

FIRST = 4
GAIN = 1.05
"""A doubled batch is kept if it takes this many times the images per second."""
REPEATS = 3


def find_batch_size(source: DissectionInputs) -> int:
    """Measure a network on images of noise and return the batch size to use.

    Parameters
    ----------
    source
        Network, layers and configuration; its batch size is not read.

    Raises
    ------
    ConfigError
        If even the smallest batch does not fit into memory.
    """
    device = torch_device(source.config.device)
    size, rates = double_batch(lambda size: _images_per_second(source, size, device), len(source.data))
    measured = ", ".join(f"{tried}: {rate:.3g}" for tried, rate in rates.items())
    logger.info("batch size %d on %s; images per second measured: %s", size, source.config.device, measured)
    return size


def double_batch(rate_of: Callable[[int], float], images: int) -> tuple[int, dict[int, float]]:
    """Return the batch size at which doubling ends, and the images per second of each size that was tried.

    Parameters
    ----------
    rate_of
        Images per second at a batch size. An error that tells of memory ends the search; others are raised.
    images
        In all; no batch is larger, but for the first.

    Returns
    -------
    int, dict of int to float
        The last size that took 5 % more images per second than the one before. Where memory ended the search, half of
        the largest that fitted, because thresholds and counts also need memory; the smallest is never halved.

    Raises
    ------
    ConfigError
        If the first size does not fit into memory.

    Examples
    --------
    >>> double_batch({4: 100.0, 8: 150.0, 16: 155.0}.__getitem__, 1000)
    (8, {4: 100.0, 8: 150.0, 16: 155.0})
    """
    rates: dict[int, float] = {}
    for size in takewhile(lambda size: size == FIRST or size <= images, _doubled(FIRST)):
        try:
            rates[size] = rate_of(size)
        except Exception as error:  # each device has its own class
            if not is_out_of_memory(error):
                raise
            if not rates:
                raise ConfigError(
                    f"a batch of {FIRST} images does not fit into memory. Expected a smaller --batch-size, a device "
                    "with more memory, or fewer layers."
                ) from error
            return max(size // 4, FIRST), rates
        if size > FIRST and rates[size] < GAIN * rates[size // 2]:
            return size // 2, rates
    return max(rates), rates


def _doubled(size: int) -> Iterator[int]:
    while True:
        yield size
        size *= 2


def _images_per_second(source: DissectionInputs, size: int, device: torch.device) -> float:
    """Return the images per second of the fastest of a few batches after a first one, which may also compile."""
    preprocessing = source.network.preprocessing
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size, preprocessing.channels, *preprocessing.size), dtype=np.uint8)
    of_size = source._replace(config=source.config.model_copy(update={"batch_size": size}))
    seconds = []
    try:
        begin = time.perf_counter()
        for _ in recorded(of_size, [Batch(0, pixels)] * (REPEATS + 1)):
            _wait_for(device)
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
    finally:
        if device.type != "cpu":
            torch.get_device_module(device).empty_cache()
    return size / min(seconds[1:])


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
