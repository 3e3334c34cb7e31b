"""The tables of moments of one layer; see `netdissect.result.statistics_schema`."""

from pathlib import Path

import numpy as np
import polars as pl

from netdissect.activations.image_values import unit_blocks
from netdissect.concepts import ConceptData
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.result.statistics_schema import IMAGE_MEANS, MOMENTS, ROW_GROUPS, complete
from netdissect.scoring.cell_moments import HALVES, CellMoments

ROWS = 2**20
"""Rows of the table ``moments`` in memory at a time: 70 MB."""


def image_means_of(moments: LayerMoments, folder: Path) -> pl.LazyFrame:
    """Write the mean activation of each unit on each image, some units at a time: the table ``image_means``."""
    folder.mkdir(exist_ok=True)
    paths: list[Path] = []
    for first, means in unit_blocks(moments.means):
        paths.append(folder / f"image-means-{first:07}.parquet")
        units = np.arange(first, first + len(means))
        frame = pl.DataFrame({"unit": units, "mean_activation": means})
        complete(frame, IMAGE_MEANS).write_parquet(paths[-1], row_group_size=ROW_GROUPS["image_means"])
    return pl.scan_parquet(paths)


def moments_of(cells: CellMoments, data: ConceptData, folder: Path) -> pl.LazyFrame:
    """Write the sums over cells of each unit and concept with masks, some units at a time: the table ``moments``."""
    folder.mkdir(exist_ok=True)
    label_ids = np.flatnonzero((cells.mask_images > 0) & (data.category_of >= 0))
    units, paths = cells.activation.shape[-1], list[Path]()
    step = max(1, ROWS // max(1, 2 * len(label_ids)))
    for first in range(0, units, step):
        paths.append(folder / f"moments-{first:07}.parquet")
        sums = cells.of_concepts(label_ids, data.category_of, slice(first, first + step))
        keys = np.arange(first, min(first + step, units))[:, None, None], label_ids[:, None], np.array(HALVES, object)
        by_unit = [np.transpose(array, (2, 1, 0)) for array in sums]
        columns = np.broadcast_arrays(*keys, *by_unit)
        frame = pl.DataFrame({name: column.ravel() for name, column in zip(MOMENTS, columns, strict=True)})
        complete(frame, MOMENTS).write_parquet(paths[-1])
    return pl.scan_parquet(paths)
