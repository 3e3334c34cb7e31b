"""The tables ``activation_range`` and ``image_maxima`` of one layer; see `netdissect.result.statistics_schema`."""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.activations.activation_range import IMAGES_OF_BAND, PERCENTILES, needed_cells
from netdissect.activations.image_values import sample_images
from netdissect.activations.sparse.unit_maps import UnitMaps
from netdissect.concepts import ConceptData
from netdissect.config import Protocol
from netdissect.dissect.layer_state import Maps, ThresholdResult
from netdissect.result.statistics_schema import ACTIVATION_RANGE, IMAGE_MAXIMA, complete
from netdissect.result.tables import top_table

BLOCK_VALUES = 2**22
"""Values of maps from which the table is made at a time."""


def activation_tables(
    result: ThresholdResult, range_maps: Maps | UnitMaps, data: ConceptData, protocol: Protocol
) -> dict[str, pl.LazyFrame]:
    """Make both tables.

    Parameters
    ----------
    result
        Of the threshold pass.
    range_maps
        Maps of the images over the range of each unit, float32 (U, S, h, w).
    data, protocol
        Of the run.
    """
    # Pillow's filter reaches further than the neighbors: there the activation cache keeps all cells.
    all_cells = protocol.anchor == "half-pixel-pillow"
    lowest, step = result.thresholds.min(axis=0), max(1, BLOCK_VALUES // max(1, math.prod(range_maps.shape[1:])))
    parts = []
    for first in range(0, len(range_maps), step):
        part = slice(first, first + step)
        maps = range_maps[part]
        needed = np.ones(maps.shape, bool) if all_cells else needed_cells(maps, lowest[part])
        images = top_table(result.range_index[part], result.range_maxima[part], data)
        parts.append(_activation_range(images, maps, needed).with_columns(pl.col("unit") + first))
    return {
        "activation_range": pl.concat(parts).lazy(),
        "image_maxima": _image_maxima(result.image_maxima, len(data)).lazy(),
    }


def _activation_range(images: pl.DataFrame, maps: Maps, needed: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Add percentiles, and the cells of the maps on which masks depend, to a table of images of some units."""
    band = pl.col("rank") // IMAGES_OF_BAND
    images = images.with_columns(
        band.replace_strict(dict(enumerate(PERCENTILES)), default=None, return_dtype=pl.Float64).alias("percentile"),
        pl.col("rank") % IMAGES_OF_BAND,
        map=pl.col("unit").cast(pl.Int64) * maps.shape[1] + pl.col("rank"),
    )
    index, cell = np.nonzero(needed.reshape(maps.shape[0] * maps.shape[1], -1))
    # Maps of shards were added to zeros: -0.0 became 0.0.
    values = maps.reshape(maps.shape[0] * maps.shape[1], -1)[index, cell] + np.float32(0)
    cells = pl.DataFrame({"map": index, "cells": cell.astype(np.uint32), "activations": values})
    # Of one sorted key a group is a slice; the latents of an autoencoder have some thousand cells each.
    by_image = cells.set_sorted("map").group_by("map", maintain_order=True).all()
    joined = images.join(by_image, on="map", how="left", maintain_order="left").drop("map")
    empty = pl.lit(pl.Series([[]]))
    lists = pl.col("cells").cast(pl.List(pl.UInt32)), pl.col("activations").cast(pl.List(pl.Float32))
    return complete(joined.with_columns(column.fill_null(empty) for column in lists), ACTIVATION_RANGE)


def _image_maxima(maxima: Maps, data_images: int) -> pl.DataFrame:
    """List the maxima of each unit in a sample of the images."""
    units, images = maxima.shape
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(units, dtype=np.int32), images),
            "image_index": np.tile(sample_images(data_images, units).astype(np.int32), units),
            "max_activation": maxima.ravel(),
        }
    )
    return complete(frame, IMAGE_MAXIMA)
