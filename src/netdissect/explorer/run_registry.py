"""The runs that an explorer serves, by an id for use in URLs."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import polars as pl
import torch

from netdissect.concepts import Size
from netdissect.config import one_or_more
from netdissect.errors import ConfigError, RequestError
from netdissect.explorer.queries.decoder_neighbors import Directions, decoder_directions
from netdissect.explorer.threshold_curves import ThresholdCurves
from netdissect.explorer.unit_words import NO_WORDS, UnitWords
from netdissect.models import Network
from netdissect.plots.example_images import image_folder
from netdissect.report.layer_tables import NumberedRun, number_runs
from netdissect.result import LayerResult, Result, load_result
from netdissect.segmenters import Segmenter

T = TypeVar("T")
GivenNetwork = Mapping[str, Network | torch.nn.Module] | Network | torch.nn.Module
"""The network or module of a single run, or those of several by the names of their runs."""
GivenSegmenter = Mapping[str, Segmenter] | Segmenter
"""The segmenter of a single run of a generator, or those of several by the names of their runs."""


@dataclass(eq=False)
class OpenRun:
    """One run that is served.

    Attributes
    ----------
    numbered
        Its position, title and data set, as the pages number them.
    id
        Lower-case letters, digits and hyphens.
    name
        Name of its folder, or of the network if the result is in memory.
    network
        Given by the user, perhaps as a module; None: loaded again on first use.
    folder
        The run folder as the user named it; None: the result is in memory.
    words
        Words of its units from a label file, and the search by any word.
    segmenter
        Of a run of a generator, given by the user; None: loaded as its samples record it.
    """

    numbered: NumberedRun
    id: str
    name: str
    network: Network | torch.nn.Module | None = None
    folder: Path | None = None
    words: UnitWords = NO_WORDS
    segmenter: Segmenter | None = None

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._curves: dict[str, ThresholdCurves] = {}
        self._directions: dict[str, Directions | None] = {}
        self.digest = hashlib.sha256(self.result.info.model_dump_json().encode()).hexdigest()

    @property
    def result(self) -> Result:
        """Result of the run."""
        return self.numbered.result

    def layer(self, index: int) -> LayerResult:
        """Return a layer by its index.

        Raises
        ------
        RequestError
            If there is none.
        """
        layers = list(self.result.layers.values())
        if not 0 <= index < len(layers):
            raise RequestError(
                f"the run {self.name!r} has no layer {index}: it has {len(layers)} "
                f"({', '.join(self.result.layers)}), counted from 0."
            )
        return layers[index]

    def curves(self, layer: LayerResult) -> ThresholdCurves:
        """Return the threshold curves of a layer."""
        with self._lock:
            if layer.info.name not in self._curves:
                info = self.result.info
                self._curves[layer.info.name] = ThresholdCurves(layer, info.config.protocol, info.data.images)
            return self._curves[layer.info.name]

    def directions(self, layer: LayerResult) -> Directions | None:
        """Return the decoder directions of a layer; see `decoder_directions`."""
        with self._lock:
            if layer.info.name not in self._directions:
                self._directions[layer.info.name] = decoder_directions(self.result, layer.info)
            return self._directions[layer.info.name]

    @property
    def images(self) -> Path:
        """Folder of the data set's images."""
        return image_folder(self.result.info.data.root, self.numbered.data_root)

    def image(self, index: int) -> tuple[str, Size]:
        """Return file name and size of the label maps of an image, by its index in the data set.

        Raises
        ------
        RequestError
            If neither a table of the run nor the index of the data set names it.
        """
        if index in self._named_images:
            return self._named_images[index]
        data = self.numbered.dataset
        if data is None or index >= len(data):
            raise RequestError(f"no table of the run {self.name!r} names the image {index}.")
        return data.rows[index].image, data.rows[index].size

    @cached_property
    def _named_images(self) -> dict[int, tuple[str, Size]]:
        columns = ("image_index", "image", "label_height", "label_width")
        frames = [layer.top.lazy() for layer in self.result.layers.values()]
        statistics = [layer.statistics for layer in self.result.layers.values()]
        frames += [tables["activation_range"] for tables in statistics if "activation_range" in tables]
        rows = pl.concat([frame.select(columns) for frame in frames]).unique().collect().iter_rows()
        return {index: (name, Size(height, width)) for index, name, height, width in rows}


class RunRegistry:
    """Runs by id, in the order given."""

    def __init__(self, runs: Sequence[OpenRun]) -> None:
        self._runs = {run.id: run for run in runs}

    @classmethod
    def open(
        cls,
        runs: Sequence[str | Path | Result] | str | Path | Result,
        data_root: str | Path | None = None,
        network: GivenNetwork | None = None,
        segmenter: GivenSegmenter | None = None,
    ) -> "RunRegistry":
        """Read runs.

        Parameters
        ----------
        runs
            Folders, or results in memory.
        data_root
            The data set's folder, if it has moved.
        network
            The network of a single run, or its module. Of several: by the path of the run folder as given, the run's
            name or its id.
        segmenter
            The same of segmenters.

        Raises
        ------
        ResultError
            If a folder holds no finished run.
        ConfigError
            If `runs` is empty, a key of `network` or `segmenter` names no run, or one is given for several runs.
        """
        if not runs:
            raise ConfigError("no run was given. Expected folders written by 'netdissect run'.")
        named: Any = runs
        several: tuple[str | Path | Result, ...] = one_or_more(named)
        networks: dict[str, Network | torch.nn.Module] = _by_name(network, several, "network")
        segmenters = _by_name(segmenter, several, "segmenter")
        results = [run if isinstance(run, Result) else load_result(run) for run in several]
        names = [run.info.network.name if isinstance(run, Result) else Path(run).resolve().name for run in several]
        opened: list[OpenRun] = []
        for run, name, numbered in zip(several, names, number_runs(results, names, data_root), strict=True):
            run_id = _unique(_slug(name), [each.id for each in opened])
            keys = _name_of(run), name, run_id
            folder = None if isinstance(run, Result) else Path(run)
            given = _take(segmenters, keys)
            opened.append(OpenRun(numbered, run_id, name, _take(networks, keys), folder, segmenter=given))
        for what, unused in (("networks", networks), ("segmenters", segmenters)):
            if unused:
                raise ConfigError(
                    f"{what} were given for {', '.join(map(repr, unused))}, which are not runs of this explorer. "
                    f"Expected names among {', '.join(each.name for each in opened)}."
                )
        return cls(opened)

    def __iter__(self) -> Iterator[OpenRun]:
        return iter(self._runs.values())

    def __getitem__(self, run_id: str) -> OpenRun:
        if run_id not in self._runs:
            raise RequestError(f"there is no run {run_id!r}. Expected one of {', '.join(self._runs)}.")
        return self._runs[run_id]


def _name_of(run: str | Path | Result) -> str:
    return run.info.network.name if isinstance(run, Result) else str(run)


def _by_name(given: Mapping[str, T] | T | None, runs: Sequence[str | Path | Result], what: str) -> dict[str, T]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    if len(runs) > 1:
        raise ConfigError(
            f"one {what} was given for {len(runs)} runs. Expected {what}={{'{_name_of(runs[0])}': {what}}}, which "
            "says whose it is."
        )
    return {_name_of(runs[0]): given}


def _take(given: dict[str, T], keys: Sequence[str]) -> T | None:
    """Remove and return what was given under one of some names; None: nothing was."""
    return next((given.pop(key) for key in keys if key in given), None)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def _unique(name: str, taken: Sequence[str]) -> str:
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
