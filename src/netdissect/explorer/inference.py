"""Inference on single images: networks are loaded on first use and run in one thread, off the event loop.

The last processed images are kept in memory and never written to disk.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from netdissect.concepts import Size
from netdissect.dissect.reload import network_of, why_not_loaded
from netdissect.errors import NetworkError, RequestError
from netdissect.explorer.run_registry import OpenRun
from netdissect.models import ActivationRecorder, Layer, Network, exact_patterns, resolve_layers

T = TypeVar("T")
Maps = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

KEPT_IMAGES = 16
KEPT_NETWORKS = 4
MAX_QUEUED = 8
"""Forward passes that may wait for the one in progress; a further one is refused."""


@dataclass(frozen=True)
class ProcessedImage:
    """An image and the activations of one run's layers on it.

    Attributes
    ----------
    id
        Random, so that it cannot be guessed.
    pixels
        uint8 (H, W, 3), as displayed.
    maps
        float32 (U, h, w) of each layer.
    label_size
        Size of its label maps; None: the image is not in the data set.
    """

    id: str
    pixels: Pixels
    maps: Mapping[str, Maps]
    label_size: Size | None = None


class InferenceWorker:
    """Runs the networks of an explorer, in one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="netdissect-inference")
        self._queued = 0
        self._networks: OrderedDict[str, tuple[Network, tuple[Layer, ...], ExitStack]] = OrderedDict()
        self._images: OrderedDict[tuple[str, str], ProcessedImage] = OrderedDict()

    def close(self) -> None:
        """Let the forward pass in progress end, and cancel the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for _, _, eval_mode in self._networks.values():
            eval_mode.close()
        self._networks.clear()

    async def run(self, work: Callable[[], T], *, patient: bool = False) -> T:
        """Call a function in the inference thread.

        Parameters
        ----------
        work
            The function.
        patient
            Wait however long the queue is.

        Raises
        ------
        RequestError
            If the queue is full and `patient` is false.
        """
        if self._queued > MAX_QUEUED and not patient:
            raise RequestError(f"{self._queued} images are queued already. Try again in a few seconds.", 503)
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._queued -= 1

    async def run_image(
        self, run: OpenRun, prepare: Callable[[], tuple[Pixels, Pixels]], label_size: Size | None = None
    ) -> ProcessedImage:
        """Run a network on one image, and keep the result.

        Parameters
        ----------
        run
            The run whose network to use.
        prepare
            Returns the image as displayed, uint8 (H, W, 3), and as input of the network, uint8 (C, H, W).
        label_size
            Size of its label maps; None: it has none.
        """

        def work() -> ProcessedImage:
            displayed, network_input = prepare()
            maps = {name: batch[0] for name, batch in self.maps(run, network_input[None]).items()}
            return ProcessedImage(secrets.token_urlsafe(12), displayed, maps, label_size)

        image = await self.run(work)
        self._images[run.id, image.id] = image
        while len(self._images) > KEPT_IMAGES:
            self._images.popitem(last=False)
        return image

    def get(self, run: OpenRun, image_id: str) -> ProcessedImage:
        """Return a processed image by its id.

        Raises
        ------
        RequestError
            If it is not kept, or no longer.
        """
        if (run.id, image_id) not in self._images:
            raise RequestError(f"the image {image_id!r} is not kept: only the last {KEPT_IMAGES} are. Send it again.")
        self._images.move_to_end((run.id, image_id))
        return self._images[run.id, image_id]

    def maps(self, run: OpenRun, pixels: Pixels) -> dict[str, Maps]:
        """Return the activation maps of each layer, float32 (B, U, h, w), for images uint8 (B, C, H, W).

        Call it in the inference thread.
        """
        network, layers = self._network(run)
        images = network.preprocessing.normalize(torch.from_numpy(pixels).to(network.device))
        low = run.result.info.config.precision == "bfloat16"
        with (
            ActivationRecorder(network, layers) as recorder,
            torch.autocast(network.device.type, torch.bfloat16, enabled=low),
        ):
            recorded = recorder(images)
        return {name: values.float().cpu().contiguous().numpy() for name, values in recorded.items()}

    def _network(self, run: OpenRun) -> tuple[Network, tuple[Layer, ...]]:
        if run.id not in self._networks:
            network, eval_mode = _load(run), ExitStack()
            layers = _layers(network, run)
            eval_mode.enter_context(network.prepared())
            self._networks[run.id] = network, layers, eval_mode
            while len(self._networks) > KEPT_NETWORKS:
                self._networks.popitem(last=False)[1][2].close()
        self._networks.move_to_end(run.id)
        return self._networks[run.id][:2]


def unavailable_reason(run: OpenRun) -> str | None:
    """Return why a run's network cannot be loaded again; None: there is no known reason."""
    if run.network is not None:
        return None
    reason = why_not_loaded(run.result.info.network.source)
    if reason is None:
        return None
    return (
        f"{reason[0].upper()}{reason[1:]}. Pass it, or its module: "
        f"netdissect.serve([run], networks={{'{run.name}': module}})."
    )


def _load(run: OpenRun) -> Network:
    reason = unavailable_reason(run)
    if reason is not None:
        raise NetworkError(reason)
    return network_of(run.result.info, run.network)


def _layers(network: Network, run: OpenRun) -> tuple[Layer, ...]:
    found: Sequence[Layer] = resolve_layers(network, exact_patterns(run.result.layers), run.result.info.config.assumed)
    return tuple(found)
