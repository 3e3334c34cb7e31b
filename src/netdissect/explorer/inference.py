"""Inference on single images: networks are loaded on first use and run in one thread, off the event loop.

The last processed images are kept in memory and never written to disk.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.dissect.image_maps import image_maps, run_layers
from netdissect.errors import NetworkError, RequestError
from netdissect.explorer.networks.run_network import network_for
from netdissect.explorer.run_registry import OpenRun
from netdissect.models import Layer, Network
from netdissect.result import LayerInfo

T = TypeVar("T")
Maps = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
NetworkInput = npt.NDArray[Any]
"""An image of the size of the network's input, uint8 (C, H, W); of a generator a sample's seed and index, int64."""

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
    network_input
        See `NetworkInput`.
    maps
        float32 (U, h, w) of each layer.
    label_size
        Size of its label maps; None: the image is not in the data set.
    """

    id: str
    pixels: Pixels
    network_input: NetworkInput
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

    async def run(self, work: Callable[[], T]) -> T:
        """Call a function in the inference thread.

        Raises
        ------
        RequestError
            If the queue is full.
        """
        if self._queued > MAX_QUEUED:
            raise RequestError(f"{self._queued} images are queued already. Try again in a few seconds.", 503)
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._queued -= 1

    async def run_image(
        self, run: OpenRun, prepare: Callable[[], tuple[Pixels, NetworkInput]], label_size: Size | None = None
    ) -> ProcessedImage:
        """Run a network on one image, and keep the result.

        Parameters
        ----------
        run
            The run whose network to use.
        prepare
            Returns the image as displayed, uint8 (H, W, 3), and as input of the network.
        label_size
            Size of its label maps; None: it has none.
        """

        def work() -> ProcessedImage:
            displayed, network_input = prepare()
            maps = {name: batch[0] for name, batch in self.maps(run, network_input[None]).items()}
            return ProcessedImage(secrets.token_urlsafe(12), displayed, network_input, maps, label_size)

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

    def maps(self, run: OpenRun, inputs: NetworkInput) -> dict[str, Maps]:
        """Return the activation maps of each layer, float32 (B, U, h, w), for a batch of inputs.

        Call it in the inference thread.
        """
        network, layers = self.network(run)
        return image_maps(network, layers, inputs, run.result.info.config)

    def network(self, run: OpenRun) -> tuple[Network, tuple[Layer, ...]]:
        """Return the prepared network of a run and the run's layers in it.

        Call it in the inference thread.
        """
        if run.id not in self._networks:
            network, eval_mode = network_for(run), ExitStack()
            layers = run_layers(network, run.result.info)
            eval_mode.enter_context(network.prepared())
            self._networks[run.id] = network, layers, eval_mode
            while len(self._networks) > KEPT_NETWORKS:
                self._networks.popitem(last=False)[1][2].close()
        self._networks.move_to_end(run.id)
        return self._networks[run.id][:2]


def refuse_other_basis(layer: LayerInfo, what: str) -> None:
    """Refuse a virtual layer where units of the network itself are needed.

    Raises
    ------
    NetworkError
        That its units cannot be `what`: ablated, changed.
    """
    if layer.basis_of is not None:
        raise NetworkError(
            f"{layer.name} is another basis of {layer.basis_of}: its units are no units of the network and cannot be "
            f"{what}. Choose {layer.basis_of}."
        )
