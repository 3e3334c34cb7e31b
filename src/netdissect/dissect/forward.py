"""Activations of all layers, batch by batch: from the network, or from the stores of the threshold pass."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations import ActivationStore, Batch
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.activations.transfers import uploaded
from netdissect.concepts import ConceptData
from netdissect.dissect.devices import number_format, torch_device
from netdissect.dissect.sparse.encoders import SparseEncoders
from netdissect.errors import ActivationError, ConfigError
from netdissect.models import ActivationRecorder, Layer, Network
from netdissect.models.backends import BackendSettings
from netdissect.models.checkpoints import missing_weights

if TYPE_CHECKING:
    from netdissect.activations import ImageReader
    from netdissect.config import DissectConfig, Execution
    from netdissect.result import BackendCheck


ALL_FINITE = 2**63 - 1
UNREAD_BATCHES = 64
"""Batches on a device of which the host does not know whether they are finite: it waits for the device to learn it."""


class Activations(NamedTuple):
    """One batch: image indices, int64 (B,), and maps of each layer, float32 (B, U, h, w), on its device.

    Maps of a layer that was asked for sparse are on the host.
    """

    rows: npt.NDArray[np.int64]
    maps: Mapping[str, Tensor | SparseMaps]

    def dense(self, layer: str) -> Tensor:
        """Return the maps of a layer, float32 (B, U, h, w)."""
        return as_dense(self.maps[layer])

    @property
    def start(self) -> int:
        """Index of the first image."""
        return int(self.rows[0])


class StoredMaps(Mapping[str, Tensor | SparseMaps]):
    """Maps of some batches by layer, read from its store on access, in the thread that accesses them.

    Parameters
    ----------
    stores
        Of each layer.
    batch
        Index of the first batch.
    images
        Number of images of each batch; one number for sparse layers.
    """

    def __init__(self, stores: Mapping[str, ActivationStore | SparseStore], batch: int, images: Sequence[int]) -> None:
        self._stores = stores
        self._batch = batch
        self._images = images

    def __getitem__(self, layer: str) -> Tensor | SparseMaps:
        maps = self._stores[layer].read(self._batch, *self._images)
        return maps if isinstance(maps, SparseMaps) else torch.from_numpy(maps)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)


class DissectionInputs(NamedTuple):
    """Everything a forward pass needs, and the check of the backend that runs it."""

    network: Network
    data: ConceptData
    layers: Sequence[Layer]
    config: "DissectConfig"
    execution: "Execution"
    images: "ImageReader"
    backend_check: "BackendCheck | None" = None

    @classmethod
    def of(
        cls,
        network: Network,
        data: ConceptData,
        layers: Sequence[Layer],
        config: "DissectConfig",
        execution: "Execution",
    ) -> Self:
        """Add the reader of the images, which remembers what it knows of their files, or of what takes their place."""
        from netdissect.activations import ImageReader  # whose cache needs pydantic, unlike the forward pass
        from netdissect.models.stored_activations.stored_network import StoredActivations

        if network.draws:
            from netdissect.activations.sample_reader import SampleReader

            return cls(network, data, layers, config, execution, SampleReader(data, network.preprocessing))
        if isinstance(network, StoredActivations):
            from netdissect.activations.sample_reader import StoredRowReader

            reader = StoredRowReader(data, network.preprocessing, rows=network.rows)
            return cls(network, data, layers, config, execution, reader)
        cache = execution.cache_folder if execution.image_cache else None
        return cls(network, data, layers, config, execution, ImageReader(data, network.preprocessing, cache))

    def with_config(self, **fields: Any) -> "DissectionInputs":
        """Return a copy with other fields of its configuration."""
        return self._replace(config=self.config.model_copy(update=fields))


def forward(
    source: DissectionInputs,
    starts: range,
    check: "FiniteCheck | None" = None,
    sparse: Collection[str] = (),
) -> Iterator[Activations]:
    """Run the network over the batches that begin at the image indices `starts`; see `batch_starts`.

    Parameters
    ----------
    source
        Network, data and configuration.
    starts
        First image of each batch.
    check
        What a checkpoint of the pass reads before it is written; None: there are no checkpoints.
    sparse
        Names of virtual layers whose maps are `SparseMaps`.

    Raises
    ------
    ActivationError
        If a layer gives NaN or infinity.
    ConfigError
        If the device does not exist here.
    """
    batches = source.images.batches(starts, workers=source.execution.threads)
    check = FiniteCheck(source) if check is None else check
    encoders = SparseEncoders.of(source.network, source.layers, sparse)
    for batch, recorded_maps in recorded(source._replace(layers=encoders.recorded), batches):
        with number_format(torch_device(source.config.device), source.config):
            maps = encoders(recorded_maps)
        check.add(maps, batch.start)
        yield Activations(np.arange(batch.start, batch.start + len(batch.pixels)), maps)
    check.refuse()


def recorded(source: DissectionInputs, batches: Iterable[Batch]) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Run the network over any images and return the outputs of its layers, finite or not."""
    network, config = source.network, source.config
    device = torch_device(config.device)
    preprocessing = network.preprocessing
    backend = backend_settings(config, source.execution)
    with network.prepared(device), ActivationRecorder(network, source.layers, backend=backend) as recorder:
        for batch, pixels in uploaded(batches, device):
            images = preprocessing.normalize(pixels)
            with number_format(device, config):
                maps = recorder(images)
            yield batch, {name: values.float().contiguous() for name, values in maps.items()}


def backend_settings(config: "DissectConfig", execution: "Execution") -> BackendSettings:
    """Return what runs the forward pass of a run.

    Raises
    ------
    ConfigError
        If it is ``auto``, and no run has chosen one.
    """
    if config.backend == "auto":
        raise ConfigError(
            "the backend 'auto' is chosen when a run begins, and was not chosen here. Expected --backend eager, "
            "compile, onnxruntime or openvino."
        )
    return BackendSettings(config.backend, config.images_per_batch, config.precision, execution.cache_folder)


def stored(
    source: DissectionInputs,
    stores: Mapping[str, ActivationStore | SparseStore],
    starts: range,
    done: int = 0,
    at_once: int = 1,
) -> Iterator[Activations]:
    """Read the stored activations of the batches at `starts`, from the `done`-th batch on, `at_once` joined."""
    for number in range(done, len(starts), at_once):
        sizes = [min(starts.step, len(source.data) - start) for start in starts[number : number + at_once]]
        first = starts[number]
        yield Activations(np.arange(first, first + sum(sizes)), StoredMaps(stores, number, sizes))


class FiniteCheck:
    """Refuses NaN and infinity: on a CPU with the batch, on other devices some batches later.

    Parameters
    ----------
    source
        Network, data and configuration.
    """

    def __init__(self, source: DissectionInputs) -> None:
        self._source = source
        self._first: dict[str, Tensor] = {}  # image * units + unit of the first that is not finite
        self._unread = 0
        self._at_once = torch.device(source.config.device).type == "cpu"

    def add(self, maps: Mapping[str, Tensor | SparseMaps], start: int) -> None:
        """Look at a batch whose first image is image `start`."""
        # A sum is finite only if all values are, and takes less time than both extremes. Sparse maps are on the host.
        on_host = {name for name, of_layer in maps.items() if self._at_once or isinstance(of_layer, SparseMaps)}
        if on_host and torch.stack([_sum(maps[name]) for name in on_host]).isfinite().all():
            maps = {name: of_layer for name, of_layer in maps.items() if name not in on_host}
        if not maps:
            return
        for name, values in ((name, as_dense(of_layer)) for name, of_layer in maps.items()):
            low, high = values.flatten(2).aminmax(dim=2)
            index = torch.arange(low.numel(), device=values.device).view_as(low) + start * values.shape[1]
            first = index.masked_fill(low.isfinite() & high.isfinite(), ALL_FINITE).min()
            self._first[name] = torch.minimum(first, self._first.get(name, first))
        self._unread += 1
        if self._at_once or self._unread >= UNREAD_BATCHES:
            self.refuse()

    def refuse(self) -> None:
        """Wait for the device and raise if a batch was not finite.

        Raises
        ------
        ActivationError
            With the first layer that gave NaN or infinity, and the first image and unit there.
        """
        # One by one: those of sparse layers are on the host.
        found = [int(first) for first in self._first.values()] if self._unread else []
        self._unread = 0
        for name, first in zip(self._first, found, strict=bool(found)):
            if first == ALL_FINITE:
                continue
            units = next(layer.units for layer in self._source.layers if layer.name == name)
            index, unit = divmod(first, units)
            image = self._source.data.rows[index].image
            raise ActivationError(
                f"layer {name!r} gives NaN or infinity, first in unit {unit} on {image}. A threshold needs finite "
                f"activations: {_remedy(self._source.network, name, image)}."
            )


def as_dense(maps: Tensor | SparseMaps) -> Tensor:
    """Return maps as one tensor, float32 (B, U, h, w)."""
    return torch.from_numpy(maps.dense()) if isinstance(maps, SparseMaps) else maps


def _sum(maps: Tensor | SparseMaps) -> Tensor:
    return torch.tensor(maps.values.sum()) if isinstance(maps, SparseMaps) else maps.sum()


def _remedy(network: Network, layer: str, image: str) -> str:
    from netdissect.models.stored_activations.stored_network import StoredActivations

    if isinstance(network, StoredActivations):
        return (
            f"{network.where(layer, image)} holds them, or numbers beyond float32. Store this image again, or leave it "
            "out of the files, their list and the data set"
        )
    missing = missing_weights(network.module)
    if not missing:
        return "check the weights and the preprocessing (mean, std), or use --precision float32"
    return (
        f"the weights {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''} are NaN or not in the checkpoint; "
        "dissect layers that do not need them, or name another checkpoint"
    )
