"""False positives and false negatives of the units of a layer, with their masks: the table ``error_images``.

    counts of single images, block by block -> ErrorImages.update -> ErrorImages.table, which reads the masks

A page shows some images of each unit. Which ones is known once all images are counted and every unit has its label;
the masks of these images are copied from the files of the counting pass.
"""

import numpy as np
import polars as pl

from netdissect.concepts import Size
from netdissect.dissect.statistics.layer_counts import QuantileCounts
from netdissect.result.statistics_schema import ERROR_IMAGES, complete
from netdissect.scoring.mask_runs import check_runs

IMAGES_OF_UNIT = 8
"""False positives, and false negatives, of each unit."""
SEARCHED_IMAGES = 200
"""Images searched for false negatives of a concept: those with most of its pixels."""

INTEGERS = pl.Int64


class ErrorImages:
    """The false positives and false negatives of a layer among the images so far.

    A false positive is an image in which the category of the unit's label is annotated and the unit is active, on no
    pixel of the label; a false negative is an image with the label on which the unit is not active. Those with most
    pixels, of the mask or of the label, are kept.

    Parameters
    ----------
    level
        Counts of the layer at the quantile of the masks; its labels are those of the units.
    """

    def __init__(self, level: QuantileCounts) -> None:
        concepts = [(concept.label_id, concept.category) for concept in level.data.concepts]
        self._concepts = pl.DataFrame(concepts, schema={"label_id": INTEGERS, "category": pl.String}, orient="row")
        labels = {"unit": np.arange(len(level.labels)), "label_id": level.labels}
        self._level = level
        self._units = pl.DataFrame(labels).join(self._concepts, on="label_id")
        # Made here: polars starts its threads with the first table, and a process that forks later must not have them.
        none = pl.DataFrame(schema=dict.fromkeys(("unit", "image_index", "pixels"), INTEGERS))
        self._false_positives, self._misses = none, none
        self._searched = none.rename({"unit": "label_id"})

    def update(self, images: pl.DataFrame, labels: pl.DataFrame) -> None:
        """Add some images: their rows of the tables ``images``, at the quantile of the masks, and ``labels``."""
        images, labels = (frame.with_columns(pl.selectors.integer().cast(INTEGERS)) for frame in (images, labels))
        of_image = ["unit", "image_index"]
        hits = images.filter(pl.col("intersection") > 0).join(self._units, on=["unit", "label_id"], how="semi")
        active = images.select(*of_image, pixels="mask_pixels").unique()
        without = active.join(hits, on=of_image, how="anti").join(self._units, on="unit")
        annotated = labels.join(self._concepts, on="label_id").select("image_index", "category").unique()
        wrong = without.join(annotated, on=["image_index", "category"])
        self._false_positives = _with_most_pixels(self._false_positives, wrong, IMAGES_OF_UNIT)
        # An image that is not among those with most pixels of a label now is not among them later.
        self._searched = _with_most_pixels(self._searched, labels, SEARCHED_IMAGES)
        searched = labels.join(self._searched, on=["label_id", "image_index"], how="semi")
        missed = self._units.join(searched, on="label_id").join(hits, on=of_image, how="anti")
        self._misses = _with_most_pixels(self._misses, missed, IMAGES_OF_UNIT)

    def images(self) -> pl.DataFrame:
        """Return the false positives and false negatives: unit, type, image_index, pixels; most pixels first."""
        searched = self._units.join(self._searched, on="label_id").select("unit", "image_index")
        missed = self._misses.join(searched, on=["unit", "image_index"], how="semi")
        types = (("false negative", missed), ("false positive", self._false_positives))
        frame = pl.concat(images.with_columns(pl.lit(name).alias("type")) for name, images in types)
        return frame.sort("unit", "type", "pixels", "image_index", descending=[False, False, True, False])

    def table(self) -> pl.DataFrame:
        """Return the table ``error_images``: `images` with the masks of the units on them.

        Raises
        ------
        ResultError
            If a file of masks is damaged.
        """
        frame, masks, rows = self.images(), self._level.layer.masks, []
        num_units = len(self._level.labels)
        num_masks, first = self._level.layer.config.mask_quantiles * num_units, self._level.index * num_units
        for image_index, units in frame.group_by("image_index").agg("unit").sort("image_index").iter_rows():
            runs, size = masks.read(image_index), self._size(image_index)
            check_runs(runs, num_masks, size)
            texts = runs.texts([first + unit for unit in units])
            rows += [(image_index, unit, *size, texts.get(first + unit, "")) for unit in set(units)]
        keys = ("image_index", "unit", "label_height", "label_width")
        read = pl.DataFrame(rows, schema=dict.fromkeys(keys, INTEGERS) | {"mask": pl.String}, orient="row")
        joined = frame.join(read, on=keys[:2], maintain_order="left").with_columns(quantile=self._level.quantile)
        return complete(joined, ERROR_IMAGES)

    def _size(self, image_index: int) -> Size:
        side, size = self._level.layer.config.protocol.segmentation_size, self._level.data.rows[image_index].size
        return size if side is None else Size(side, side)


def _with_most_pixels(known: pl.DataFrame, more: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the images with most pixels of each unit or label, the first column."""
    of = known.columns[0]
    ordered = pl.concat([known, more.select(known.columns)]).sort(
        of, "pixels", "image_index", descending=[False, True, False]
    )
    return ordered.group_by(of, maintain_order=True).head(count)
