"""Find the batch size at which a network takes most images per second, by doubling.

    measured images per second: 16: 210, 32: 240, 64: 244  -> 32, because 64 is not 5 % faster

The bits of activations depend on the batch size. It is measured only where ``batch_size="auto"`` asks for it, before
the first batch, and recorded in the configuration of the run.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from traceback import clear_frames

from netdissect.counted import counted
from netdissect.dissect.choices.timed_passes import timed_passes
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.models.run_module import is_out_of_memory

logger = logging.getLogger(__name__)

FIRST = 4
GAIN = 1.05
"""A doubled batch is kept if it takes this many times the images per second."""


def find_batch_size(source: DissectionInputs) -> int:
    """Measure a network on images of noise and return the batch size to use.

    Parameters
    ----------
    source
        Network, layers and configuration; its batch size is not read, and PyTorch runs it, whatever its backend.

    Raises
    ------
    ConfigError
        If even the smallest batch does not fit into memory.
    """
    # Which backend runs is chosen afterwards, for batches of this size.
    eager = source.with_config(backend="eager")
    size, rates = double_batch(lambda size: _images_per_second(eager, size), len(source.data))
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


@contextmanager
def explained_out_of_memory(source: DissectionInputs) -> Iterator[None]:
    """Where memory runs out in this block, measure which batch size fits, and raise an error that names it.

    Raises
    ------
    ConfigError
        If memory runs out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # which hold the tensors of the batch that did not fit
        config = source.config
        fitting = largest_that_fits(lambda size: _images_per_second(source, size), config.images_per_batch)
        remedy = (
            "not even one image fits: another device, or fewer layers"
            if fitting is None
            else f"--batch-size {fitting}, which fits, as was measured now; since last bits depend on it, with another "
            "--out, or with --force instead of what this run has computed"
        )
        raise ConfigError(
            f"a batch of {config.images_per_batch} images does not fit into the memory of device {config.device!r} "
            f"(forward pass, thresholds and counts of {counted(len(source.layers), 'layers')}). Expected {remedy}."
        ) from error


def largest_that_fits(rate_of: Callable[[int], float], failed: int) -> int | None:
    """Return a batch size that fits where `failed` did not; None if there is none.

    Half of the largest whose forward pass fits among half of `failed`, a quarter, and so on: thresholds and counts also
    need memory.

    Parameters
    ----------
    rate_of
        Runs a forward pass of a batch size.
    failed
        The batch size that did not fit.

    Examples
    --------
    >>> largest_that_fits(float, 64)
    16
    """
    size = failed // 2
    while size:
        try:
            rate_of(size)
        except Exception as error:  # each device has its own class
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return max(size // 2, 1)
    return None


def _doubled(size: int) -> Iterator[int]:
    while True:
        yield size
        size *= 2


def _images_per_second(source: DissectionInputs, size: int) -> float:
    """Return the images per second of the fastest of a few batches."""
    pixels = source.network.preprocessing.noise(size).numpy()
    return timed_passes(source.with_config(batch_size=size), pixels).images_per_second
