"""The runs that an explorer shows, by a name that can stand in an address."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

from netdissect.concepts import Size
from netdissect.config import one_or_more
from netdissect.errors import ConfigError, RequestError
from netdissect.explorer.threshold_curves import LayerCurves
from netdissect.models import Network
from netdissect.plots.example_images import image_folder
from netdissect.result import LayerResult, Result, load_result


@dataclass(eq=False)
class OpenRun:
    """One run that is shown.

    Attributes
    ----------
    id
        Lower-case letters, digits and hyphens.
    name
        Of its folder, or as given.
    result
        What it found.
    images
        Folder of the data set's images.
    network
        Given in Python; None: it is loaded again when it is needed.
    """

    id: str
    name: str
    result: Result
    images: Path
    network: Network | None = None

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._curves: dict[str, LayerCurves] = {}
        self.digest = hashlib.sha256(self.result.info.model_dump_json().encode()).hexdigest()

    def layer(self, index: int) -> LayerResult:
        """Return a layer by its place.

        Raises
        ------
        RequestError
            If there is none.
        """
        layers = list(self.result.layers.values())
        if not 0 <= index < len(layers):
            raise RequestError(
                f"the run {self.name!r} has no layer number {index}: it has {len(layers)} "
                f"({', '.join(self.result.layers)}), counted from 0."
            )
        return layers[index]

    def curves(self, layer: LayerResult) -> LayerCurves:
        """Return what is known of a layer's thresholds."""
        with self._lock:
            if layer.info.name not in self._curves:
                info = self.result.info
                self._curves[layer.info.name] = LayerCurves(layer, info.config.protocol, info.data.images)
            return self._curves[layer.info.name]

    @cached_property
    def image_names(self) -> dict[int, str]:
        """The images that the tables of top images name, by index row."""
        named: dict[int, str] = {}
        for layer in self.result.layers.values():
            named |= dict(layer.top.select("image_index", "image").unique().rows())
        return named

    @cached_property
    def label_sizes(self) -> dict[int, Size]:
        """Sizes of the label maps of these images, by index row."""
        sizes: dict[int, Size] = {}
        for layer in self.result.layers.values():
            rows = layer.top.select("image_index", "label_height", "label_width").unique().iter_rows()
            sizes |= {row: Size(height, width) for row, height, width in rows}
        return sizes


class RunRegistry:
    """Runs by their id, in the order given."""

    def __init__(self, runs: Sequence[OpenRun]) -> None:
        self._runs = {run.id: run for run in runs}

    @classmethod
    def open(
        cls,
        runs: Sequence[str | Path | Result],
        data_root: str | Path | None = None,
        networks: Mapping[str, Network] | None = None,
    ) -> "RunRegistry":
        """Read runs.

        Parameters
        ----------
        runs
            Folders, or results in memory.
        data_root
            The data set's folder, if it has moved.
        networks
            Networks that cannot be loaded again, by the run's folder as given, its name or its id.

        Raises
        ------
        ResultError
            If a folder holds no finished run.
        ConfigError
            If there is no run, or a network belongs to none.
        """
        if not runs:
            raise ConfigError("no run was named. Expected folders written by 'netdissect run'.")
        given = dict(networks or {})
        opened: list[OpenRun] = []
        for run in one_or_more(runs):
            result = run if isinstance(run, Result) else load_result(run)
            name = result.info.network.name if isinstance(run, Result) else Path(run).resolve().name
            named = _unique(_slug(name), [each.id for each in opened])
            keys = [key for key in (str(run) if not isinstance(run, Result) else name, name, named) if key in given]
            network = given.pop(keys[0]) if keys else None
            opened.append(OpenRun(named, name, result, image_folder(result.info.data.root, data_root), network))
        if given:
            raise ConfigError(
                f"networks were given for {', '.join(map(repr, given))}, which are no runs here. Expected names among "
                f"{', '.join(each.name for each in opened)}."
            )
        return cls(opened)

    def __iter__(self) -> Iterator[OpenRun]:
        return iter(self._runs.values())

    def __getitem__(self, name: str) -> OpenRun:
        if name not in self._runs:
            raise RequestError(f"there is no run {name!r} here. Expected one of {', '.join(self._runs)}.")
        return self._runs[name]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def _unique(name: str, taken: Sequence[str]) -> str:
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
