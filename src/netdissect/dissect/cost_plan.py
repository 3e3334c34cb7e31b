"""The plan of a dissection: passes, stores, memory and disk."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from netdissect.activations import ranks
from netdissect.activations.activation_range import RANGE_IMAGES
from netdissect.activations.topk import BLOCK_SIZE, buffer_capacity
from netdissect.concepts import Size
from netdissect.counted import counted, size_text
from netdissect.dissect.devices import counts_on_device
from netdissect.models import Layer
from netdissect.scoring import FieldSpan, FieldSpans, Upsampler, make_upsampler
from netdissect.scoring.iqr.information_quality import FRACTIONS

if TYPE_CHECKING:
    from netdissect.config import DissectConfig, Execution

StoreKind = Literal["dense", "sparse", "none"]
# Measured on real layers: 8 to 15 % of the dense size at a quantile of 0.005, 38 to 56 % at 0.05.
SPARSE_SHARE, SPARSE_QUANTILE, SPARSE_POWER = 0.16, 0.005, 0.55
# Measured on real layers: 3.1 to 3.9 bytes for each run of mask pixels in the work folder, and 0.23 runs (one cell for
# each label pixel) to 0.48 (7 x 7 to 28 x 28 cells) for each cell of a row of label pixels, times the quantile.
RUN_BYTES, RUNS_OF_CELL = 4, 0.5
ACTIVE_UNITS = 64
"""Units that are taken to be active on a cell where a basis does not bound them: usual in published autoencoders."""


def cells_of(layer: Layer) -> Size:
    """Return the size of a layer's maps; whole-image units have one cell."""
    return layer.grid or Size(1, 1)


def field_of(layer: Layer) -> FieldSpans | None:
    """Return a layer's receptive field as plain numbers; None: half-pixel centers."""
    if layer.field is None:
        return None
    spans = (layer.field.vertical, layer.field.horizontal)
    return FieldSpans(*(FieldSpan(axis.offset, axis.size, axis.step) for axis in spans))


@dataclass(frozen=True)
class LayerPlan:
    """Everything about one layer that is known before the threshold pass.

    Attributes
    ----------
    layer
        The layer.
    source
        Input size of the network.
    images
        Number of images of a pass.
    config
        Protocol and number of top images.
    measured_active
        Units of a sparse layer that are active on a cell, on average over some images; None: not measured.
    """

    layer: Layer
    source: Size
    images: int
    config: "DissectConfig"
    measured_active: float | None = None

    @property
    def sparse(self) -> bool:
        """Whether only the active cells of its maps are kept from the encoder to the counts."""
        return self.layer.sparse

    @property
    def active_units(self) -> float:
        """Units of a sparse layer that are expected to be active on a cell."""
        expected = self.layer.most_active or ACTIVE_UNITS
        return min(expected if self.measured_active is None else self.measured_active, self.layer.units)

    def grid_to(self, segmentation: Size) -> Upsampler:
        """Return the upsampler from the maps of the layer to label maps of this size."""
        anchor = self.config.protocol.anchor
        return make_upsampler(cells_of(self.layer), segmentation, self.source, field_of(self.layer), anchor)

    @property
    def threshold_grid(self) -> Upsampler | None:
        """The upsampler to the maps over which thresholds are taken; None: the maps of the layer."""
        side = self.config.protocol.threshold_grid
        return None if side is None else self.grid_to(Size(side, side))

    @property
    def total(self) -> int:
        """Number of values of a unit over which its threshold is taken."""
        upsampled = self.threshold_grid
        cells = cells_of(self.layer) if upsampled is None else Size(upsampled.rows.pixels, upsampled.columns.pixels)
        return self.images * cells.height * cells.width

    @property
    def keep(self) -> int:
        """Number of largest values of a unit that determine its thresholds."""
        return max(ranks(each, self.total, self.config.protocol.threshold)[1] for each in self._threshold_quantiles)

    @property
    def _threshold_quantiles(self) -> tuple[float, ...]:
        """All quantiles of which a threshold is taken: those that are counted, and those of the information quality."""
        return self.config.quantiles + (FRACTIONS if self.config.statistics.iqr else ())

    @property
    def top_bytes(self) -> int:
        """Bytes of the largest values."""
        return 4 * self.layer.units * (buffer_capacity(self.keep, self.total) + BLOCK_SIZE)

    @property
    def top_image_bytes(self) -> int:
        """Bytes of the maps of the top images."""
        return self.map_bytes(self.config.top_images)

    @property
    def range_bytes(self) -> int:
        """Bytes of the maps of the images over the range of each unit."""
        return self.map_bytes(RANGE_IMAGES)

    def map_bytes(self, images: int) -> int:
        """Return the bytes of the maps of so many images of each unit."""
        cells = cells_of(self.layer)
        values = self.layer.units * images * cells.height * cells.width
        # Cell and value of each active cell, once as they were collected and once in order.
        return 16 * min(values, self.active_values) if self.sparse else 4 * values

    @property
    def active_values(self) -> int:
        """Expected number of values above 0 in all maps of a sparse layer."""
        cells = cells_of(self.layer)
        return round(self.images * cells.height * cells.width * self.active_units)

    @property
    def image_value_bytes(self) -> int:
        """Bytes of the maxima of each image, and of its means where the run keeps them."""
        return 4 * self.images * self.layer.units * (2 if self.config.statistics.moments else 1)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all activations as they are stored: as float32, or those above 0 of a sparse layer."""
        if self.sparse:  # cell and value of each; unit and length of each map
            return 8 * (self.active_values + min(self.active_values, self.images * self.layer.units))
        cells = cells_of(self.layer)
        return 4 * self.images * self.layer.units * cells.height * cells.width

    @property
    def sparse_bytes(self) -> int:
        """Estimated bytes of a sparse store; all activations of a sparse layer, and where a pixel needs many cells."""
        growth = (max(self._threshold_quantiles) / SPARSE_QUANTILE) ** SPARSE_POWER
        share = 1.0 if self.needs_dense or self.sparse else min(SPARSE_SHARE * growth, 1.0)
        return int(self.dense_bytes * share)

    def mask_share(self, quantile: float) -> float:
        """Return the expected share of a unit's pixels that its masks hold: those of a sparse layer may be fewer."""
        return min(quantile, self.active_units / self.layer.units) if self.sparse else quantile

    @property
    def mask_bytes(self) -> int:
        """Estimated bytes of the masks in the work folder, where label maps have half the input's side."""
        rows = self.config.protocol.segmentation_size or self.source.height // 2
        shares = sum(map(self.mask_share, self.config.quantiles[: self.config.mask_quantiles]))
        runs = RUNS_OF_CELL * shares * rows * cells_of(self.layer).width
        return int(RUN_BYTES * runs * self.images * self.layer.units)

    @property
    def needs_dense(self) -> bool:
        """Whether a pixel depends on more than neighboring cells, as in Pillow's reduction of a map."""
        return self.config.protocol.anchor == "half-pixel-pillow"


@dataclass(frozen=True)
class CostPlan:
    """Stores and engine of a dissection.

    Attributes
    ----------
    layers
        Each layer.
    store
        Which activations are stored between the passes.
    tensor
        Whether plain tensor code on the device replaces the compiled loops.
    spilled
        Names of layers whose largest values go to disk.
    """

    layers: tuple[LayerPlan, ...]
    store: StoreKind
    tensor: bool
    spilled: frozenset[str]

    def __str__(self) -> str:
        images = self.layers[0].images if self.layers else 0
        units = sum(layer.layer.units for layer in self.layers)
        passes = "one forward pass" if self.passes == 1 else f"{self.passes} forward passes"
        config = self.layers[0].config if self.layers else None
        where = "" if config is None else f" on {config.device} in batches of {config.batch_size}"
        return (
            f"{passes}{where} over {counted(images, 'images')} for {counted(units, 'units')} of "
            f"{counted(len(self.layers), 'layers')}; meanwhile about "
            f"{size_text(self.memory_bytes)} in memory, and on disk {size_text(self.disk_bytes)} "
            f"(activation cache: {self.store})"
        ) + (f"; {self.sparse_text}" if self.sparse_text else "")

    @property
    def sparse_text(self) -> str:
        """Which layers are sparse, and what is expected of them; empty: none."""
        sparse = [layer for layer in self.layers if layer.sparse]
        if not sparse:
            return ""
        units = counted(sum(layer.layer.units for layer in sparse), "units")
        fewest, *_, most = sorted(2 * [round(layer.active_units) for layer in sparse])
        of_cell = counted(most, "active units") if fewest == most else f"{fewest} to {most} active units"
        return (
            f"of {counted(len(sparse), 'sparse layers')} with {units} only active cells are kept, expected for "
            f"{of_cell} on each cell"
        )

    @property
    def passes(self) -> int:
        """Number of forward passes over the images."""
        return 2 if self.store == "none" else 1

    @property
    def disk_bytes(self) -> int:
        """Estimated peak size of the work folder."""
        # The values in use, and their copies in the last checkpoint and in the one being written.
        kept = 3 * sum(layer.top_bytes for layer in self.layers if layer.layer.name in self.spilled)
        kept += sum(layer.mask_bytes + layer.image_value_bytes for layer in self.layers)
        if self.store == "none":
            return kept
        return kept + sum(layer.dense_bytes if self.store == "dense" else layer.sparse_bytes for layer in self.layers)

    @property
    def memory_bytes(self) -> int:
        """Bytes of largest values and of the maps of images that are shown, in memory."""
        top = sum(layer.top_bytes for layer in self.layers if layer.layer.name not in self.spilled)
        return top + sum(layer.top_image_bytes + layer.range_bytes for layer in self.layers)


def make_plan(
    layers: Sequence[Layer], source: Size, images: int, config: "DissectConfig", execution: "Execution", folder: Path
) -> CostPlan:
    """Choose stores and engine.

    Parameters
    ----------
    layers
        The layers to dissect.
    source
        Input size of the network.
    images
        Number of images.
    config, execution
        Configuration of the run.
    folder
        Folder of stored activations; the free space of its disk limits them.
    """
    # The active cells of sparse layers are counted on the host.
    tensor = counts_on_device(config, execution.engine) and not all(layer.sparse for layer in layers)
    plans = tuple(LayerPlan(layer, source, images, config) for layer in layers)
    return CostPlan(plans, _store_kind(plans, execution, folder, tensor=tensor), tensor, _spilled(plans, execution))


def _store_kind(plans: Sequence[LayerPlan], execution: "Execution", folder: Path, *, tensor: bool) -> StoreKind:
    if tensor:
        return "none"
    if execution.activation_cache != "auto":
        return execution.activation_cache
    needed = sum(plan.sparse_bytes + plan.mask_bytes + plan.image_value_bytes for plan in plans)
    return "sparse" if shutil.disk_usage(folder).free > 1.5 * needed else "none"


def _spilled(plans: Sequence[LayerPlan], execution: "Execution") -> frozenset[str]:
    """Return the largest layers, as many as needed for the others to fit into memory."""
    budget, spilled = execution.memory_mb * 2**20, set()
    total = sum(plan.top_bytes for plan in plans)
    for plan in sorted(plans, key=lambda plan: plan.top_bytes, reverse=True):
        if total <= budget:
            break
        spilled.add(plan.layer.name)
        total -= plan.top_bytes
    return frozenset(spilled)
