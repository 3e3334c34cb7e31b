"""The inputs of a run (network, data, layers) and the versions on which its bits depend."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from netdissect.concepts import ConceptData
from netdissect.concepts.machine_masks import read_machine_masks
from netdissect.config import DissectConfig, Progress
from netdissect.dissect.cost_plan import cells_of, field_of
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.work_dir.loaded_kernels import kernels
from netdissect.models import Layer, Network
from netdissect.models.backends import library_version
from netdissect.result import DataInfo, Environment, LayerInfo, NetworkInfo, RunInfo

CHECKPOINT_FORMAT = 2
"""Of the arrays of unfinished runs and shards. Loops that add to arrays of another shape write beyond their ends."""


def layer_info(layer: Layer) -> LayerInfo:
    """Describe a layer."""
    height, width = cells_of(layer)
    return LayerInfo(
        name=layer.name,
        type=layer.type,
        units=layer.units,
        height=height,
        width=width,
        field=field_of(layer),
        field_source=layer.field_source,
        layout=None if layer.layout is None else layer.layout.name,
        layout_source=None if layer.layout is None else layer.layout.source,
    )


def network_info(network: Network) -> NetworkInfo:
    """Describe a network; its digest identifies the weights."""
    preprocessing = network.preprocessing
    return NetworkInfo(
        name=network.name,
        digest=network.digest,
        size=tuple(preprocessing.size),
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
        source=network.source,
        generator=network.draws,
    )


def data_info(data: ConceptData, progress: Progress | None = None) -> DataInfo:
    """Describe a data set; its digest identifies images and labels."""
    return DataInfo(
        root=str(data.root.resolve()), digest=data.find_digest(progress), categories=data.categories,
        images=len(data.rows), chosen_in_python=data.subset is None, masks=read_machine_masks(data.root),
    )  # fmt: skip


def environment(config: DissectConfig) -> Environment:
    """Describe what else activations depend on: versions, device, threads and kernels."""
    return Environment(
        netdissect=version("netdissect"),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        pillow=version("pillow"),
        device=config.device,
        threads=torch.get_num_threads(),
        backend=library_version(config.backend),
        kernels=kernels(config.device),
    )


def describe(source: DissectionInputs, progress: Progress | None = None) -> RunInfo:
    """Describe a run that begins now; `progress` follows the files of the data set if they have to be read."""
    network, data, layers, config = source[:4]
    return RunInfo(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config,
        network=network_info(network),
        data=data_info(data, progress),
        layers=tuple(layer_info(layer) for layer in layers),
        environment=environment(config),
        backend_check=source.backend_check,
        seconds={},
    )


def run_identity(info: RunInfo) -> dict[str, Any]:
    """Return what determines a result, as JSON values, without the paths of data, weights and bases.

    The digest of the network is also that of its bases, and layers are named by them.
    """
    return {
        "network": info.network.model_dump(mode="json", exclude={"source"}),
        "data": info.data.model_dump(mode="json", exclude={"root", "masks"}),
        "layers": [layer.model_dump(mode="json") for layer in info.layers],
        "config": info.config.model_dump(mode="json", exclude={"bases"}),
    }


def bitwise_fingerprint(info: RunInfo) -> dict[str, Any]:
    """Return `run_identity` with what the bits of activations, versions and threads, and checkpoints depend on."""
    made_by = {"environment": info.environment.model_dump(mode="json"), "checkpoint_format": CHECKPOINT_FORMAT}
    return run_identity(info) | made_by
