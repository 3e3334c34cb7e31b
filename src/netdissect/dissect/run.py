"""One dissection, from a network and a data set to a result.

    first look    forward -> Collector of each layer -> thresholds, top images, stored activations
    second look   stored activations (or forward again) -> Tallier of each layer
    tables        -> Result

Both looks write checkpoints; the same call goes on from the last one. What a batch holds depends on its
number alone, so an interrupted run gives the same integers as an unbroken one.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2.
"""

import platform
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netdissect.concepts import ConceptData, Labels, Size
from netdissect.config import DissectConfig, Execution, Progress
from netdissect.dissect.collect import Collector, LayerGrids, field_of, open_store
from netdissect.dissect.folder import WorkFolder, refuse_other
from netdissect.dissect.forward import Activations, Source, forward, stored
from netdissect.errors import ConfigError
from netdissect.models import Layer, Network, resolve_layers
from netdissect.result import (
    DataInfo,
    Environment,
    LayerInfo,
    LayerResult,
    NetworkInfo,
    Result,
    RunInfo,
    load_result,
    save_result,
)
from netdissect.result.files import RUN_FILE
from netdissect.result.tables import concept_table, score_table, threshold_table, top_table, unit_table
from netdissect.score import ImageLabels, Tallier, Truth
from netdissect.sweep import ahead

Arrays = dict[str, npt.NDArray[Any]]


def dissect(
    network: Network,
    concepts: ConceptData | str | Path,
    config: DissectConfig | None = None,
    *,
    layers: Sequence[str] | None = None,
    out: str | Path | None = None,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Result:
    """Score every unit of the chosen layers against every concept.

    Parameters
    ----------
    network
        Any module with its preprocessing.
    concepts
        A data set in Broden's layout, or its folder.
    config
        What to measure. None: the paper's protocol.
    layers
        Names or globs of the layers, in place of those of `config`.
    out
        Run folder. A finished run of the same inputs there is returned as it is, an interrupted one goes on;
        one of other inputs is refused. None: nothing is kept.
    execution
        How to carry it out.
    progress
        Called with the stage and the number of images done and in all.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = _with_layers(config, layers)
    if not isinstance(concepts, ConceptData):
        concepts = ConceptData.open(
            concepts, categories=config.categories, split=config.split, limit=config.limit, seed=config.seed
        )
    resolved = resolve_layers(network, config.layers)
    run = Path(out) if out is not None else None
    identity = _identity(network, concepts, resolved, config)
    if run is not None and (run / RUN_FILE).exists():
        finished = load_result(run)
        refuse_other(run, _identity_of(finished.info), identity)
        return finished
    execution = execution or Execution()
    work = WorkFolder(run, identity, execution.checkpoint_seconds)
    result = _Run(Source(network, concepts, resolved, config, execution), work, progress).result()
    if run is not None:
        save_result(result, run)
    work.remove()
    return result


def _with_layers(config: DissectConfig | None, layers: Sequence[str] | None) -> DissectConfig:
    if layers is None and config is None:
        raise ConfigError(
            "no layer was named. Pass layers=['layer4'] (names or globs), or a DissectConfig; "
            "netdissect.list_layers(network) lists them."
        )
    if layers is None and config is not None:
        return config
    values = {} if config is None else config.model_dump(exclude={"layers"})
    return DissectConfig(layers=tuple(layers or ()), **values)


@dataclass
class _Run:
    """The two looks at the data, and what they share."""

    source: Source
    work: WorkFolder
    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        preprocessing = self.source.network.preprocessing
        protocol = self.source.config.protocol
        self.grids = {layer.name: LayerGrids(layer, preprocessing.size, protocol) for layer in self.source.layers}
        _warn_of_missing_fields(self.source.layers, protocol.anchor)

    def result(self) -> Result:
        collectors = self._collectors()
        with self._timed("first look"):
            self._first_look(collectors)
        with self._timed("second look"):
            truth, talliers = self._second_look(collectors)
        return self._tables(collectors, truth, talliers)

    def _collectors(self) -> dict[str, Collector]:
        config, images = self.source.config, len(self.source.data)
        kind = self._store_kind()
        collectors = {}
        for layer in self.source.layers:
            store = open_store(self.work.file(layer.name), layer, config.protocol, kind)
            collectors[layer.name] = Collector(layer, self.grids[layer.name], images, config, store)
        return collectors

    def _store_kind(self) -> str:
        """Choose what to keep: sparse, unless the disk lacks room for it."""
        kind = self.source.execution.store
        if kind != "auto":
            return kind
        cells = sum(layer.units * _cells(layer).height * _cells(layer).width for layer in self.source.layers)
        # A sparse store takes 15 to 30 % of the dense size; half leaves a margin.
        needed = cells * len(self.source.data) * 4 // 2
        return "sparse" if shutil.disk_usage(self.work.path).free > needed else "none"

    def _first_look(self, collectors: dict[str, Collector]) -> None:
        saved = self.work.load("collect")
        done = int(saved["batches"]) if saved else 0
        if saved:
            for name, collector in collectors.items():
                collector.restore(_below(name, saved))

        def state() -> Arrays:
            parts = {name: collector.state() for name, collector in collectors.items()}
            return _joined(parts) | {"batches": np.array(done)}

        for batch in self._reported("first look", forward(self.source, done)):
            for name, collector in collectors.items():
                collector.update(batch.maps[name], batch.rows)
            done += 1
            self.work.save("collect", state)
        self.work.save("collect", state, now=True)

    def _second_look(self, collectors: dict[str, Collector]) -> tuple[Truth, dict[str, Tallier]]:
        data, protocol = self.source.data, self.source.config.protocol
        truth = Truth.zeros(data)
        talliers = {
            name: Tallier(
                data, collector.top_values.thresholds(protocol.quantiles, protocol.threshold), protocol.restriction
            )
            for name, collector in collectors.items()
        }
        stores = {name: collector.store for name, collector in collectors.items() if collector.store is not None}
        batches = stored(self.source, stores) if stores else forward(self.source)
        labels = ahead(self._labels, range(len(data)), self.source.execution.workers, 64)
        for batch in self._reported("second look", batches):
            for index in range(len(batch.rows)):
                image = next(labels)
                truth.update(image)
                segmentation = Size(*image.planes.shape[1:])
                for name, tallier in talliers.items():
                    tallier.update(batch.maps[name][index], image, self.grids[name].to(segmentation))
        return truth, talliers

    def _labels(self, row: int) -> ImageLabels:
        protocol = self.source.config.protocol
        labels: Labels = self.source.data.labels(row)
        if protocol.segmentation_size is not None:
            labels = labels.resized(Size(protocol.segmentation_size, protocol.segmentation_size))
        return ImageLabels.of(labels, self.source.data, protocol.duplicates)

    def _reported(self, stage: str, batches: Iterator[Activations]) -> Iterator[Activations]:
        total = len(self.source.data)
        for batch in batches:
            yield batch
            if self.progress:
                self.progress(stage, batch.start + len(batch.rows), total)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - start, 3)

    def _tables(self, collectors: dict[str, Collector], truth: Truth, talliers: dict[str, Tallier]) -> Result:
        data, config = self.source.data, self.source.config
        quantiles = config.protocol.quantiles
        layers = {}
        for layer in self.source.layers:
            collector, tally = collectors[layer.name], talliers[layer.name].tally
            rows, maxima, maps = collector.top_images.ranked()
            limits = collector.top_values.thresholds(quantiles, config.protocol.threshold)
            thresholds = threshold_table(limits, maxima[:, 0], quantiles)
            layers[layer.name] = LayerResult(
                info=_layer_info(layer),
                thresholds=thresholds,
                units=unit_table(data, truth, tally, thresholds),
                lazy_scores=score_table(data, truth, tally, quantiles).lazy(),
                top=top_table(rows, maxima, data),
                top_maps=maps,
            )
        return Result(self._info(), concept_table(data, truth, quantiles[0]), layers)

    def _info(self) -> RunInfo:
        network, data, layers, config, _ = self.source
        return RunInfo(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=config,
            network=_network_info(network),
            data=_data_info(data),
            layers=tuple(_layer_info(layer) for layer in layers),
            environment=_environment(config.device),
            seconds=self.seconds,
        )


def _cells(layer: Layer) -> Size:
    return layer.grid or Size(1, 1)


def _layer_info(layer: Layer) -> LayerInfo:
    height, width = _cells(layer)
    return LayerInfo(
        name=layer.name, kind=layer.kind, units=layer.units, height=height, width=width, field=field_of(layer)
    )


def _network_info(network: Network) -> NetworkInfo:
    preprocessing = network.preprocessing
    return NetworkInfo(
        name=network.name,
        digest=network.digest,
        size=tuple(preprocessing.size),
        mean=preprocessing.mean,
        std=preprocessing.std,
    )


def _data_info(data: ConceptData) -> DataInfo:
    return DataInfo(
        root=str(data.root.resolve()), digest=data.digest, categories=data.categories, images=len(data.rows)
    )


def _environment(device: str) -> Environment:
    return Environment(
        netdissect=version("netdissect"),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        pillow=version("pillow"),
        device=device,
        threads=torch.get_num_threads(),
    )


def _identity(network: Network, data: ConceptData, layers: Sequence[Layer], config: DissectConfig) -> dict[str, Any]:
    """Return what decides a result, as JSON values: where the data lie does not."""
    return {
        "network": _network_info(network).model_dump(mode="json"),
        "data": _data_info(data).model_dump(mode="json", exclude={"root"}),
        "layers": [_layer_info(layer).model_dump(mode="json") for layer in layers],
        "config": config.model_dump(mode="json"),
    }


def _identity_of(info: RunInfo) -> dict[str, Any]:
    return {
        "network": info.network.model_dump(mode="json"),
        "data": info.data.model_dump(mode="json", exclude={"root"}),
        "layers": [layer.model_dump(mode="json") for layer in info.layers],
        "config": info.config.model_dump(mode="json"),
    }


def _warn_of_missing_fields(layers: Sequence[Layer], anchor: str) -> None:
    missing = [layer.name for layer in layers if layer.field is None and layer.grid is not None]
    if missing and anchor.startswith("receptive-field"):
        warnings.warn(
            f"no receptive field could be traced for {', '.join(missing)}: half-pixel centers are used there, as if "
            "the map covered the image evenly.",
            stacklevel=4,
        )


def _joined(parts: dict[str, Arrays]) -> Arrays:
    return {f"{name}/{key}": array for name, arrays in parts.items() for key, array in arrays.items()}


def _below(name: str, arrays: Arrays) -> Arrays:
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
