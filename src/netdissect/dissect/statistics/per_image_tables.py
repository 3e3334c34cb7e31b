"""The per-image tables of one layer: masks and intersections of leading concepts, labels, and error images."""

from pathlib import Path

import numpy as np
import polars as pl

from netdissect.dissect.statistics.error_images import ErrorImages
from netdissect.dissect.statistics.layer_counts import BLOCK, LayerCounts, QuantileCounts
from netdissect.result import statistics_schema as tables
from netdissect.scoring import ImageIntersections, ImageLabelCounts

KEPT_RUN_BYTES = 3  # bytes of one run of mask pixels in the table ``masks``, measured on real layers


def images_of(levels: list[QuantileCounts]) -> dict[str, pl.LazyFrame]:
    """Reduce per-image counts to candidate concepts, block by block on the disk.

    Returns
    -------
    dict of LazyFrame
        ``images``; ``labels``: the labels of each image and their pixels; and ``error_images``.
    """
    folder = levels[0].layer.scratch
    folder.mkdir(exist_ok=True)
    parts: dict[str, list[Path]] = {"images": [], "labels": []}
    error_images: list[pl.DataFrame] = []
    for level in levels:
        errors = ErrorImages(level)
        for block, (presence, masks, _) in enumerate(level.blocks()):
            path = folder / f"images-{level.index}-{block}.parquet"
            images = _image_frame(level, masks)
            images.write_parquet(path)
            parts["images"].append(path)
            labels = _label_frame(level.layer, presence)
            if level.index == 0:
                path = folder / f"labels-{block}.parquet"
                labels.write_parquet(path)
                parts["labels"].append(path)
            errors.update(images, labels)
        error_images.append(errors.table())
    frames = {name: pl.scan_parquet(paths) for name, paths in parts.items()}
    return frames | {"error_images": pl.concat(error_images).lazy()}


def masks_of(layer_counts: LayerCounts) -> pl.LazyFrame:
    """Write the pixels of all masks of a layer, block by block on the disk: the table ``masks``."""
    folder, masks, paths = layer_counts.scratch, layer_counts.masks, list[Path]()
    folder.mkdir(exist_ok=True)
    for first in range(0, masks.images, BLOCK):
        paths.append(folder / f"masks-{first}.parquet")
        _mask_frame(layer_counts, range(first, min(first + BLOCK, masks.images))).write_parquet(paths[-1])
    return pl.scan_parquet(paths)


def _mask_frame(layer_counts: LayerCounts, images: range) -> pl.DataFrame:
    """Return the masks of some images by image, quantile, unit and pixel, whichever engine counted them."""
    masks = [layer_counts.masks.read(image) for image in images]
    run_counts = [of_image.run_counts for of_image in masks]
    index = np.concatenate([np.repeat(each.masks, counts) for each, counts in zip(masks, run_counts, strict=True)])
    units = layer_counts.counts.intersection.shape[1]
    frame = pl.DataFrame(
        {
            "image_index": np.repeat(np.array(images), [len(of_image.starts) for of_image in masks]),
            "quantile": np.array(layer_counts.quantiles)[index // units],
            "unit": index % units,
            "start": np.concatenate([of_image.starts for of_image in masks]),
            "length": np.concatenate([of_image.lengths for of_image in masks]),
        }
    )
    order = np.lexsort((frame["start"], index, frame["image_index"]))
    return tables.complete(frame[order], tables.MASKS)


def _label_frame(layer_counts: LayerCounts, labels: ImageLabelCounts) -> pl.DataFrame:
    """Return the labels of some images, with the pixels of their label maps."""
    pixels = {"pixels": labels.pixels, "image_pixels": layer_counts.image_pixels[labels.image_index]}
    frame = pl.DataFrame({"image_index": labels.image_index, "label_id": labels.label_ids} | pixels)
    return tables.complete(frame, tables.LABELS)


def _image_frame(level: QuantileCounts, masks: ImageIntersections) -> pl.DataFrame:
    """Keep the entries of candidate concepts, and for a mask without any one entry with label id 0."""
    mask_of_entry = masks.mask_index
    leading = level.candidates.index_of(masks.units[mask_of_entry], masks.label_ids) >= 0
    # np.setdiff1d sorts and hashes all entries: 0.9 s for 4 million entries of 438,000 masks; this takes 6 ms.
    without = np.flatnonzero(np.bincount(mask_of_entry[leading], minlength=len(masks.image_index)) == 0)
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
