"""The per-image tables of one layer: masks and intersections of leading concepts, and labels."""

from pathlib import Path

import numpy as np
import polars as pl

from netdissect.dissect.statistics.layer_counts import QuantileCounts
from netdissect.result import statistics_schema as tables
from netdissect.scoring import ImageIntersections


def images_of(levels: list[QuantileCounts]) -> dict[str, pl.LazyFrame]:
    """Reduce per-image counts to candidate concepts, block by block on the disk.

    Returns
    -------
    dict of LazyFrame
        ``images``, and ``labels``: the labels of each image and their pixels.
    """
    folder = levels[0].layer.scratch
    folder.mkdir(exist_ok=True)
    parts: dict[str, list[Path]] = {"images": [], "labels": []}
    for level in levels:
        for block, (presence, masks, _) in enumerate(level.blocks()):
            path = folder / f"images-{level.index}-{block}.parquet"
            _image_frame(level, masks).write_parquet(path)
            parts["images"].append(path)
            if level.index == 0:
                path = folder / f"labels-{block}.parquet"
                frame = pl.DataFrame(dict(zip(tables.LABELS, presence[1:], strict=True)))
                tables.complete(frame, tables.LABELS).write_parquet(path)
                parts["labels"].append(path)
    return {name: pl.scan_parquet(paths) for name, paths in parts.items()}


def _image_frame(level: QuantileCounts, masks: ImageIntersections) -> pl.DataFrame:
    """Keep the entries of candidate concepts, and for a mask without any one entry with label id 0."""
    mask_of_entry, pair_of = masks.mask_index, level.candidates.pair_index
    leading = pair_of[masks.units[mask_of_entry], masks.label_ids] >= 0
    without = np.setdiff1d(np.arange(len(masks.image_index)), mask_of_entry[leading])
    mask = np.concatenate([mask_of_entry[leading], without])
    order = np.argsort(mask, kind="stable")
    mask, no_pixels = mask[order], np.zeros(len(without), np.int64)
    frame = pl.DataFrame(
        {
            "image_index": masks.image_index[mask],
            "quantile": np.full(len(mask), level.quantile),
            "unit": masks.units[mask],
            "label_id": np.concatenate([masks.label_ids[leading], no_pixels])[order],
            "intersection": np.concatenate([masks.intersections[leading], no_pixels])[order],
            "mask_pixels": masks.mask_pixels[mask],
        }
    )
    return tables.complete(frame, tables.IMAGES)
