"""Networks that look at single images: loaded when first needed, one forward pass at a time, off the event loop.

Images that were looked at are kept in memory, a few of them, and never written.
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
from netdissect.models import ActivationRecorder, Layer, Network, resolve_layers

T = TypeVar("T")
Maps = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

KEPT_IMAGES = 16
KEPT_NETWORKS = 4
WAITING = 8
"""Forward passes that may wait for the one under way; a further one is refused."""


@dataclass(frozen=True)
class ProcessedImage:
    """An image and what every layer of one run's network made of it.

    Attributes
    ----------
    id
        Cannot be guessed.
    pixels
        uint8 (H, W, 3), as it is shown.
    maps
        float32 (U, h, w) of each layer.
    labels
        Size of its label maps; None: it is none of the data set's.
    """

    id: str
    pixels: Pixels
    maps: Mapping[str, Maps]
    labels: Size | None = None


class InferenceWorker:
    """Looks at images for all runs of an explorer."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="netdissect-sight")
        self._under_way = 0
        self._networks: OrderedDict[str, tuple[Network, tuple[Layer, ...], ExitStack]] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str], ProcessedImage] = OrderedDict()

    def close(self) -> None:
        """Let the pass under way end and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for _, _, prepared in self._networks.values():
            prepared.close()
        self._networks.clear()

    async def run(self, work: Callable[[], T], *, patient: bool = False) -> T:
        """Do some work in the one thread that networks run in.

        Parameters
        ----------
        work
            Called there.
        patient
            Wait however many wait already.

        Raises
        ------
        RequestError
            If too many wait already.
        """
        if self._under_way > WAITING and not patient:
            raise RequestError(f"{self._under_way} images are waiting already. Try again in a few seconds.", 503)
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._under_way -= 1

    async def look(
        self, run: OpenRun, prepare: Callable[[], tuple[Pixels, Pixels]], labels: Size | None = None
    ) -> ProcessedImage:
        """Look at one image and keep it.

        Parameters
        ----------
        run
            Whose network looks.
        prepare
            Gives the image as it is shown, uint8 (H, W, 3), and as the network takes it, uint8 (C, H, W).
        labels
            Size of its label maps; None: it has none.
        """

        def work() -> ProcessedImage:
            pixels, taken = prepare()
            maps = self.maps(run, taken[None])
            seen = {name: each[0] for name, each in maps.items()}
            return ProcessedImage(secrets.token_urlsafe(12), pixels, seen, labels)

        seen = await self.run(work)
        self._seen[run.id, seen.id] = seen
        while len(self._seen) > KEPT_IMAGES:
            self._seen.popitem(last=False)
        return seen

    def seen(self, run: OpenRun, image: str) -> ProcessedImage:
        """Return an image that was looked at.

        Raises
        ------
        RequestError
            If it is not kept (any more).
        """
        if (run.id, image) not in self._seen:
            raise RequestError(
                f"the image {image!r} is not kept (any more): the last {KEPT_IMAGES} are. Send it again."
            )
        self._seen.move_to_end((run.id, image))
        return self._seen[run.id, image]

    def maps(self, run: OpenRun, pixels: Pixels) -> dict[str, Maps]:
        """Return activations, float32 (B, U, h, w) of each layer, of images, uint8 (B, C, H, W); in the thread."""
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
            network, prepared = _load(run), ExitStack()
            layers = _layers(network, run)
            prepared.enter_context(network.prepared())
            self._networks[run.id] = network, layers, prepared
            while len(self._networks) > KEPT_NETWORKS:
                self._networks.popitem(last=False)[1][2].close()
        self._networks.move_to_end(run.id)
        return self._networks[run.id][:2]


def why_not(run: OpenRun) -> str | None:
    """Say why a run's network cannot be loaded again; None: it can be tried."""
    if run.network is not None:
        return None
    reason = why_not_loaded(run.result.info.network.source)
    if reason is None:
        return None
    return f"{reason[0].upper()}{reason[1:]}. Give it: netdissect.serve([run], networks={{'{run.name}': network}})."


def _load(run: OpenRun) -> Network:
    reason = why_not(run)
    if reason is not None:
        raise NetworkError(reason)
    return network_of(run.result.info, run.network)


def _layers(network: Network, run: OpenRun) -> tuple[Layer, ...]:
    found: Sequence[Layer] = resolve_layers(network, tuple(run.result.layers), run.result.info.config.assumed)
    return tuple(found)
