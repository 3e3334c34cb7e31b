"""The result of one run, with everything needed to repeat it.

    RunInfo             inputs, configuration and versions
    LayerResult         tables of one layer: thresholds, scores, units, top images
    Result              a run: its layers and their detectors

Tables are Polars frames. Units are numbered from 0.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.close_matches import did_you_mean
from netdissect.concepts.machine_masks import MachineMasks
from netdissect.config import BASIS_OF, BackendName, DissectConfig, Interpolation, NetworkSource, Rule, one_or_more
from netdissect.counted import counted
from netdissect.errors import ResultError
from netdissect.result.summary import headline, html_summary, text_summary
from netdissect.scoring import DetectorCount, FieldSpans, UnitLabels, count_detectors

SCHEMA_VERSION: Literal[1] = 1
SCHEMA_VERSIONS = (SCHEMA_VERSION,)
"""Versions of the run format that can be read; docs/explanation/checkpoints-sharding-ray.md says what may change."""


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkInfo(_Info):
    """The dissected network."""

    name: str
    digest: str = Field(description="SHA-256 of its structure and weights.")
    size: tuple[int, int] = Field(description="Height and width of its input in pixels.")
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = Field("bilinear", description="Filter with which images were resized to the input.")
    source: NetworkSource | None = Field(None, description="Source to load it from; None: made in Python.")
    generator: bool = Field(False, description="Whether it draws images from latents, and takes none.")


class DataInfo(_Info):
    """The data set of a run."""

    root: str
    digest: str = Field(description="SHA-256 of its tables and of the choice of images.")
    categories: tuple[str, ...]
    images: int
    chosen_in_python: bool = Field(
        False,
        description="Whether Python code chose its images, so that the configuration does not describe the choice.",
    )
    masks: MachineMasks | None = Field(
        None, description="The segmenter whose masks are its labels, and their agreement with human ones; None: people."
    )


class LayerInfo(_Info):
    """One layer."""

    name: str
    type: str
    units: int
    height: int
    width: int
    field: FieldSpans | None = Field(description="None: half-pixel centers were used.")
    field_source: Literal["traced", "assumed"] | None = Field(
        None, description="Whether the receptive field was traced or given by the user; None: image-level units."
    )
    layout: str | None = Field(None, description="Axis layout of its output, such as NCHW, NHWC or tokens:1.")
    layout_source: Literal["traced", "assumed"] | None = Field(
        None, description="Whether the layout was traced or given by the user."
    )

    @property
    def basis_of(self) -> str | None:
        """The layer from whose units its own are computed, if it is virtual; None: it is the network's."""
        return self.type.removeprefix(BASIS_OF) if self.type.startswith(BASIS_OF) else None

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The parts of its geometry that were assumed instead of traced, in words."""
        said = []
        if self.layout_source == "assumed":
            said.append(f"layout {self.layout} was assumed")
        if self.field_source == "assumed":
            axis = None if self.field is None else self.field.vertical
            which = "half-pixel" if axis is None else f"{axis.offset:g},{axis.size:g},{axis.step:g}"
            said.append(f"receptive field {which} was assumed")
        return tuple(said)


class LayoutCheckInfo(_Info):
    """Result of the layout check of one layer; pairs are vertical and horizontal."""

    verdict: Literal["confirmed", "contradicted", "no evidence"]
    reason: Literal["", "outside", "displaced", "stretched", "scattered", "diffuse", "no response", "few cells"] = (
        Field(description="Why not confirmed; see `netdissect.models.receptive_field.layout_check.LayoutCheck`.")
    )
    correlation: tuple[float, float] = Field(description="Of the responses' centers with the spots' centers.")
    slope: tuple[float, float] = Field(description="Pixels that responses move where spots move one.")
    displacement: tuple[float, float] = Field(description="Median of responses less spots, in steps between cells.")
    tolerance: tuple[float, float] = Field(description="Largest displacement that is taken for random, in steps.")
    share: float = Field(description="Effective share of the cells that respond.")
    peak: float = Field(description="The largest response in medians of the map.")
    common: float = Field(description="Share of the responses that occur with any spot of an image.")
    outside: float = Field(description="Steps by which responding cells are outside the image; at most 0: none.")


class BackendCheck(_Info):
    """Comparison of what ran the forward pass with PyTorch in float32, on the first images of a run."""

    difference: float = Field(
        description="Largest difference of activations, as a part of the largest magnitude of their layer."
    )
    reason: str | None = Field(
        None, description="Why PyTorch runs in place of the backend that was asked for; None: it runs."
    )
    images_per_second: dict[str, float] = Field(
        default_factory=dict, description="Of each backend that was tried; empty: the backend was named."
    )
    not_installed: tuple[BackendName, ...] = Field(
        (), description="Backends that auto would have tried if their packages were installed."
    )


class Environment(_Info):
    """Versions, device, threads and kernels, on which the bits of activations depend."""

    netdissect: str
    python: str
    torch: str
    numpy: str
    pillow: str
    device: str
    threads: int
    backend: str = Field("", description="Library that ran the forward pass, and its version; empty: not recorded.")
    kernels: str = Field("", description="Compiled kernels that computed the activations; empty: not recorded.")


class RunInfo(_Info):
    """Inputs, configuration and versions of a run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str = Field(description="UTC, ISO 8601.")
    config: DissectConfig
    network: NetworkInfo
    data: DataInfo
    layers: tuple[LayerInfo, ...]
    environment: Environment
    fdr_limit: float | None = Field(
        None,
        description=(
            "IoU at which at most 5 % of the detectors of the run are expected under the null; None: not measured."
        ),
    )
    fdr_limits: dict[str, float] = Field(
        default_factory=dict, description="The same limit for each layer; empty: not measured."
    )
    layout_checks: dict[str, LayoutCheckInfo] = Field(
        default_factory=dict, description="Check of the stated positions of cells, by layer; empty: not checked."
    )
    backend_check: BackendCheck | None = Field(
        None, description="Comparison of the forward pass with PyTorch in float32; None: it is that."
    )
    nondeterministic: str | None = Field(
        None, description="Accepted difference of the network from itself on one image; None: it is deterministic."
    )
    seconds: dict[str, float] = Field(
        description="Wall time of each stage; of a resumed run that of all its processes, each up to the checkpoint "
        "from which the next one went on."
    )

    def min_iou(self, layer: str) -> float:
        """Return the IoU from which on a unit of a layer is a detector: the configured one or the FDR limit."""
        if self.config.min_iou != "fdr":
            return self.config.min_iou
        # A run may have one limit for all layers.
        of_run = 1.0 if self.fdr_limit is None else self.fdr_limit
        return self.fdr_limits.get(layer, of_run)


@dataclass(frozen=True, repr=False)
class LayerResult:
    """The tables of one layer.

    Attributes
    ----------
    info
        The layer.
    thresholds
        quantile, unit, threshold, max_activation (over the data set), dead (no activation above the threshold:
        a constant, zero or saturated unit, which is no detector).
    units
        One row for each quantile and unit: quantile, unit, label, category, iou, f1, threshold, dead, then for
        each category its best concept as ``<category>-label``, ``-truth``, ``-activation``, ``-intersect``, ``-iou``.
    lazy_scores
        One row for each quantile, unit and concept: quantile, unit, label_id, concept, category, intersection,
        mask_pixels, concept_pixels, iou, f1, max_attainable_iou (of any unit with this concept at this quantile: see
        `netdissect.concepts.attainable_iou`), mask_attainable_iou (of a mask of this size).
    top
        unit, rank (0 is best), image_index, image, max_activation, label_height and label_width (pixels of
        the label maps of the image).
    top_maps
        float32 (U, K, h, w): activation maps of the top images; zeros beyond the number of images.
    statistics
        Tables of statistics by name, such as confidence intervals, as far as the configuration requested them; see
        `netdissect.result.statistics_schema` for their columns.
    """

    info: LayerInfo
    thresholds: pl.DataFrame
    units: pl.DataFrame
    lazy_scores: pl.LazyFrame
    top: pl.DataFrame
    top_maps: npt.NDArray[np.float32]
    statistics: Mapping[str, pl.LazyFrame] = field(default_factory=dict)

    @property
    def scores(self) -> pl.DataFrame:
        """The complete unit x concept table, read on access."""
        return self.lazy_scores.collect()

    def equals(self, other: "LayerResult") -> bool:
        """Tell whether thresholds, labels and top images with their maps are bit for bit those of another layer."""
        return (
            self.thresholds.equals(other.thresholds)
            and self.units.equals(other.units)
            and self.top.equals(other.top)
            and np.array_equal(self.top_maps, other.top_maps)
        )

    def __repr__(self) -> str:
        """Return the size of the layer and the names of its tables."""
        info = self.info
        return (
            f"{info.name}: {counted(info.units, 'units')} of {info.height} x {info.width} cells ({info.type})\n"
            f"tables: thresholds, units, scores, top; top_maps; statistics: {', '.join(self.statistics) or 'none'}"
        )


@dataclass(frozen=True)
class LayerCount:
    """Detectors of one layer at one quantile; quantile None: not stated by a published table."""

    layer: str
    quantile: float | None
    count: DetectorCount


@dataclass(frozen=True)
class RunOrigin:
    """The files of a result and their state when it was opened, because some tables are read later.

    Attributes
    ----------
    folder
        Folder of the run.
    stamps
        Inode, size and modification time of each file, by its name in the folder; None: it does not exist.
    """

    folder: Path
    stamps: Mapping[str, tuple[int, int, int] | None]

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> "RunOrigin":
        """Record the state of files."""
        return cls(folder, {name: _stamp(folder / name) for name in names})

    def changed(self) -> str | None:
        """Return the name of a file that has changed; None if none has."""
        return next((name for name, stamp in self.stamps.items() if _stamp(self.folder / name) != stamp), None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True, repr=False)
class Result:
    """One finished run.

    Attributes
    ----------
    info
        Inputs, configuration and versions.
    concepts
        label_id, concept, category, images, concept_pixels, pixel_share (share of the pixels of images annotated in
        its category), max_attainable_iou (at the first quantile of the run), and the same at 0.02.
    layers
        By name, in order of execution.
    origin
        The files of the result; None: it was made in memory.
    """

    info: RunInfo
    concepts: pl.DataFrame
    layers: dict[str, LayerResult] = field(default_factory=dict)
    origin: RunOrigin | None = field(default=None, repr=False, compare=False)

    @property
    def folder(self) -> Path | None:
        """Folder of the run; None: it was made in memory."""
        return None if self.origin is None else self.origin.folder

    def check_unchanged(self) -> None:
        """Check that the files of this result have not changed since it was opened.

        Raises
        ------
        ResultError
            If one was replaced, changed or removed: tables read now would belong to another run.
        """
        name = None if self.origin is None else self.origin.changed()
        if self.origin is not None and name is not None:
            raise ResultError(
                f"{self.origin.folder / name} was replaced, changed or removed since the run was opened: tables read "
                "before and now would not belong together. Open the run again."
            )

    @cached_property
    def same_as(self) -> Mapping[str, str]:
        """Layers whose results are bit for bit those of an earlier layer: name -> name of the first such layer.

        Both are listed, as when a module returns its input or a graph has one value twice. Counts over layers take the
        first alone. A layer of the network is not the same as a virtual one.
        """
        found: dict[str, str] = {}
        earlier: list[LayerResult] = []
        for name, layer in self.layers.items():
            comparable = (each for each in earlier if each.info.basis_of is None or layer.info.basis_of is not None)
            first = next((each for each in comparable if layer.equals(each)), None)
            if first is None:
                earlier.append(layer)
            else:
                found[name] = first.info.name
        return found

    @property
    def units(self) -> pl.DataFrame:
        """All units of all layers, with a column ``layer``."""
        return _stack({name: layer.units for name, layer in self.layers.items()})

    @property
    def scores(self) -> pl.DataFrame:
        """All scores of all layers, with a column ``layer``."""
        return _stack({name: layer.scores for name, layer in self.layers.items()})

    def detectors(self, rule: Rule = "top-label", min_iou: float | None = None) -> tuple[LayerCount, ...]:
        """Count detectors of each layer at each quantile.

        Parameters
        ----------
        rule
            ``top-label`` or ``per-category``; see `netdissect.scoring.DetectorCount`.
        min_iou
            None: the run's own, for each layer.
        """
        levels = {name: self.info.min_iou(name) if min_iou is None else min_iou for name in self.layers}
        return tuple(
            LayerCount(name, quantile, count_detectors(self.unit_labels(name, quantile), rule, level))
            for name, level in levels.items()
            for quantile in self.info.config.protocol.quantiles
        )

    def layer(self, name: str) -> LayerResult:
        """Return one layer.

        Raises
        ------
        ResultError
            If the run has no such layer.
        """
        if name not in self.layers:
            raise ResultError(
                f"the run has no layer {name!r}; it has {', '.join(self.layers)}.{did_you_mean(name, self.layers)} "
                "Name one of them."
            )
        return self.layers[name]

    def _repr_html_(self) -> str:
        """Show the run in a notebook as a table: count and best units of each layer."""
        return html_summary(self)

    def __repr__(self) -> str:
        """Return the run in at most five lines."""
        try:
            return text_summary(self)
        except (OSError, pl.exceptions.PolarsError):  # tables that are read on access, of files that were removed
            return f"{headline(self)}; its files were changed or removed since it was opened"

    def unit_labels(self, layer: str, quantile: float) -> UnitLabels:
        """Return the best concepts of one layer's units at one of the run's quantiles."""
        units = self.layer(layer).units.filter(pl.col("quantile") == quantile)
        return unit_labels(units, self.info.data.categories)


def check_is_run(*runs: object) -> None:
    """Refuse what is no result of a run, such as its folder.

    Raises
    ------
    ResultError
        If one of them is no `Result`.
    """
    for run in runs:
        if isinstance(run, (str, os.PathLike)):
            raise ResultError(
                f"{os.fspath(run)!r} is a path. Expected a finished run: netdissect.load_result({os.fspath(run)!r})."
            )
        if not isinstance(run, Result):
            raise ResultError(
                f"A {type(run).__name__} is no finished run. Expected a Result, which netdissect.dissect returns and "
                "netdissect.load_result(folder) reads."
            )


def runs_given(results: Result | Iterable[Result]) -> list[Result]:
    """Return one run or several as a list.

    Raises
    ------
    ResultError
        If one of them is no `Result`.
    """
    given: Any = results
    runs = list(one_or_more(given))
    check_is_run(*runs)
    return runs


def unit_labels(units: pl.DataFrame, categories: Sequence[str]) -> UnitLabels:
    """Read the best concepts of each category out of a table of units."""
    shape = (len(units), 0)
    names = [units[f"{category}-label"].fill_null("").to_numpy() for category in categories]
    scores = [units[f"{category}-iou"].fill_null(0.0).to_numpy() for category in categories]
    return UnitLabels(
        tuple(categories),
        np.stack(names, axis=1).astype(object) if names else np.empty(shape, object),
        np.stack(scores, axis=1).astype(np.float64) if scores else np.empty(shape),
    )


def _stack(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frame.select(pl.lit(name).alias("layer"), pl.all()) for name, frame in frames.items())
