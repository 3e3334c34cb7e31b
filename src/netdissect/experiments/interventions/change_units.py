"""Do units that match a concept cause it? Ablate or insert them in a generator and measure the concept's area.

    run, concept -> units, control sets -> areas of every concept before and after -> effects with intervals

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, section 3.2, and 2020 :cite:p:`bau2020understanding`. Random sets
of equal size and sets of equal activation are not theirs: they measure what changing so many units, or units that are
so active, does to the concept whichever they are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from netdissect.close_matches import did_you_mean
from netdissect.concepts import Size
from netdissect.config import Progress
from netdissect.counted import counted
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConfigError
from netdissect.experiments.effect_sizes import mean_interval
from netdissect.experiments.interventions.ace import Strengths, optimize_strengths
from netdissect.experiments.interventions.areas import AreaMeter, Changes
from netdissect.experiments.interventions.intervene_config import InterveneConfig
from netdissect.experiments.interventions.unit_choice import (
    Units,
    UnitSets,
    check_others,
    choose_units,
    control_sets,
    number_of,
    overlapping_units,
)
from netdissect.models import Generator, Layer, resolve_layers
from netdissect.result import Result
from netdissect.segmenters import Segmenter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MAP_SIDE = 8
NAMED_LABELS = 20
"""Labels of a segmenter that an error lists."""


@dataclass(frozen=True)
class Intervention:
    """What an intervention did.

    Attributes
    ----------
    config
        What was done.
    layer
        The layer.
    units
        The units that were changed; in several sets where each was changed alone.
    table
        A row for each set of units and each concept, the one that was asked for first: set (number of the set),
        concept, category, before and after (mean share of the image), effect (after less before), control_effect
        (mean over random sets of equal size), matched_effect (units of equal mean activation), excess (effect less
        control_effect). The 95 % intervals of these means over samples: ci, control, matched and excess, each with
        _low and _high.
    map
        With `map_samples`: row, column (of the cell), y, x (its center in pixels), effect, ci_low, ci_high of the first
        set of units, inserted there. Empty otherwise.
    strengths
        With units ``ace:N``: unit, strength and iou, the strongest first. Empty otherwise.
    epochs
        With units ``ace:N``: epoch, loss, heldout_loss and penalty; see `Strengths`. Empty otherwise.
    """

    config: InterveneConfig
    layer: str
    units: tuple[tuple[int, ...], ...]
    table: pl.DataFrame
    map: pl.DataFrame
    strengths: pl.DataFrame
    epochs: pl.DataFrame


def change_units(
    result: Result,
    generator: Generator,
    segmenter: Segmenter,
    samples: Ints,
    config: InterveneConfig,
    *,
    progress: Progress | None = None,
    work: WorkDir | None = None,
) -> Intervention:
    """Ablate or insert units of a generator and measure the area of every concept.

    Parameters
    ----------
    result
        A dissection of the generator.
    generator
        That of the run.
    segmenter
        Labels the pixels of its output.
    samples : int64 (N, 2)
        Seeds and indices.
    config
        Which units, and how.
    progress
        Called with the samples done.
    work
        Keeps what is done; None: an interrupted call begins anew.

    Raises
    ------
    ConfigError
        If the segmenter has no such concept, the layer no such units, or no sample shows the concept that is ablated.
    SegmenterError
        If strengths are to be optimized, and the segmenter has no differentiable scores.
    """
    name = _only_layer(result, config.layer)
    layer = resolve_layers(generator, [name], result.info.config.assumed)[0]
    concept = _concept_index(segmenter, config.concept)
    strongest, cells = number_of(config.units, "ace"), _cells(config, layer, generator.latent_input.size, len(samples))
    chosen = () if strongest is not None else choose_units(config.units, result, name, config.concept)
    strengths = epochs = pl.DataFrame()
    with generator.prepared():
        meter = AreaMeter(generator, layer, segmenter, torch.from_numpy(samples), config.batch_size)
        if config.how == "ablate" and not meter.any_shows(concept, progress):
            raise ConfigError(
                f"none of {len(samples)} samples shows {config.concept!r}, so nothing can be ablated. Expected a "
                "concept that the generator draws; take more --samples, or insert its units."
            )
        if strongest is not None:
            check_others(strongest, layer.units)
            ious = overlapping_units(result, name, config.concept)
            found = optimize_strengths(meter, concept, _ious(ious, layer), config.ace, config.seed, progress, work)
            strengths, epochs = _strengths(found, ious), found.epochs
            chosen = _strongest(strengths, strongest, config.concept)
        sets = control_sets(chosen, meter.mean_activations(), config.random_sets, config.seed)
        changes = Changes(layer, cells, _values(result, name, meter, config))
        areas = meter.areas(changes, [(), *sets.chosen, *sets.matched, *sets.random], progress, work)
        mapped = _map(meter, changes, sets.chosen[0], concept, config, progress)
    table = _table(areas, sets, segmenter, concept)
    return Intervention(config, name, sets.chosen, table, mapped, strengths, epochs)


def _ious(overlapping: pl.DataFrame, layer: Layer) -> Floats:
    """Return the IoU of each unit of a layer, float64 (U,)."""
    ious = np.zeros(layer.units)
    ious[overlapping["unit"].to_numpy()] = overlapping["iou"].to_numpy()
    return ious


def _strengths(found: Strengths, overlapping: pl.DataFrame) -> pl.DataFrame:
    frame = pl.DataFrame({"unit": np.arange(len(found.strengths)), "strength": found.strengths})
    ious = overlapping.with_columns(pl.col("unit").cast(pl.Int64))
    return (
        frame.join(ious, on="unit", how="left")
        .with_columns(pl.col("iou").fill_null(0.0))
        .sort("strength", "unit", descending=[True, False])
    )


def _strongest(strengths: pl.DataFrame, count: int, concept: str) -> tuple[Units, ...]:
    units = strengths.filter(pl.col("strength") > 0)["unit"].to_list()
    if len(units) < count:
        raise ConfigError(
            f"{len(units)} units have a strength above 0 for {concept!r}, but the strongest {count} are asked for. "
            "Expected fewer, such as ace:1."
        )
    return (tuple(units[:count]),)


def _table(areas: Floats, sets: UnitSets, segmenter: Segmenter, concept: int) -> pl.DataFrame:
    """Return the table of an `Intervention` of areas (1 + 2 K + R, N, C): nothing, chosen, matched, random sets."""
    count = len(sets.chosen)
    before, changes = areas[0], areas[1:] - areas[0]
    random = changes[2 * count :].mean(axis=0)
    order = [concept, *(index for index in range(areas.shape[2]) if index != concept)]
    rows = []
    for number in range(count):
        effect, matched = changes[number], changes[count + number]
        for index in order:
            label = segmenter.labels[index]
            rows.append(
                {"set": number, "concept": label.concept, "category": label.category}
                | {"before": float(before[:, index].mean()), "after": float(areas[1 + number, :, index].mean())}
                | _interval("effect", effect[:, index], "ci")
                | _interval("control_effect", random[:, index], "control")
                | _interval("matched_effect", matched[:, index], "matched")
                | _interval("excess", effect[:, index] - random[:, index], "excess")
            )
    return pl.DataFrame(rows)


def _interval(name: str, values: Floats, prefix: str) -> dict[str, float]:
    interval = mean_interval(values.tolist())
    return {name: interval.mean, f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}


def _map(
    meter: AreaMeter, changes: Changes, units: tuple[int, ...], concept: int, config: InterveneConfig,
    progress: Progress | None,
) -> pl.DataFrame:  # fmt: skip
    """Insert units at places all over the layer's map, in turn."""
    count, grid, size = min(config.map_samples, len(meter.samples)), meter.layer.grid, meter.generator.latent_input.size
    if count < 2 or grid is None:
        return pl.DataFrame()
    few = AreaMeter(meter.generator, meter.layer, meter.segmenter, meter.samples[:count], meter.batch_size)
    before, rows = few.areas(changes, [()])[0, :, concept], []
    places = [(row, column) for row in _places(grid.height) for column in _places(grid.width)]
    for done, (row, column) in enumerate(places, start=1):
        there = Changes(meter.layer, np.tile([[row, column]], (count, 1)), changes.values)
        after = few.areas(there, [units])[0, :, concept]
        center = {"y": (row + 0.5) * size.height / grid.height, "x": (column + 0.5) * size.width / grid.width}
        rows.append({"row": row, "column": column} | center | _interval("effect", after - before, "ci"))
        if progress:
            progress("map", done, len(places))
    return pl.DataFrame(rows)


def _places(cells: int) -> list[int]:
    """Return at most eight cells at even distances."""
    count = min(cells, MAP_SIDE)
    return [(2 * index + 1) * cells // (2 * count) for index in range(count)]


def _cells(config: InterveneConfig, layer: Layer, size: Size, samples: int) -> Ints | None:
    if config.how == "ablate":
        if config.at is not None:
            raise ConfigError(
                "a place was given (--at), but units are ablated everywhere. Expected --how insert with it."
            )
        return None
    grid = cells_of(layer)
    if config.at is None:
        return np.random.default_rng(config.seed).integers((0, 0), tuple(grid), (samples, 2))
    x, y = config.at
    if not (0 <= x < size.width and 0 <= y < size.height):
        raise ConfigError(
            f"units are to be inserted at {x},{y}, outside the output of {size.width} x {size.height} pixels. Expected "
            "X,Y from 0,0 at the top left."
        )
    return np.tile([[y * grid.height // size.height, x * grid.width // size.width]], (samples, 1))


def _values(result: Result, layer: str, meter: AreaMeter, config: InterveneConfig) -> Floats:
    """Return the value with which each unit is inserted: by default its threshold at the run's first quantile."""
    if config.insert_quantile is not None:
        if config.how == "ablate":
            raise ConfigError("--insert-quantile was given, but units are ablated. Expected --how insert with it.")
        return meter.exceeded_values(config.insert_quantile)
    thresholds = result.layer(layer).thresholds.filter(quantile=result.info.config.protocol.quantiles[0])
    return thresholds.sort("unit")["threshold"].cast(pl.Float64).to_numpy()


def _concept_index(segmenter: Segmenter, concept: str) -> int:
    names = [label.concept for label in segmenter.labels]
    if concept not in names:
        more = f" and {len(names) - NAMED_LABELS} more" if len(names) > NAMED_LABELS else ""
        raise ConfigError(
            f"the segmenter {segmenter.spec!r} has no label {concept!r}.{did_you_mean(concept, names)} Expected one of "
            f"its {counted(len(names), 'labels')}: {', '.join(names[:NAMED_LABELS])}{more}."
        )
    return names.index(concept)


def _only_layer(result: Result, layer: str | None) -> str:
    if layer is None and len(result.layers) > 1:
        raise ConfigError(
            f"the run has {len(result.layers)} layers: {', '.join(result.layers)}. Expected the one whose units are "
            "changed: --layer."
        )
    return result.layer(next(iter(result.layers)) if layer is None else layer).info.name
