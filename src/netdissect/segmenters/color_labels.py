"""The colors of pixels, beside the labels of a segmenter: data sets of samples have both, and so do measured areas."""

from dataclasses import replace

import numpy as np

from netdissect.concepts import Size
from netdissect.concepts.colors import COLOR_NAMES, name_colors
from netdissect.segmenters.segmenter import Images, LabelMaps, Segmenter, SegmentLabel

CATEGORY = "color"


def with_colors(segmenter: Segmenter) -> Segmenter:
    """Return the segmenter with one more channel, in which each pixel has the name of its color.

    Its 11 labels come after those of the segmenter. Names are those of `netdissect.concepts.colors.name_colors`; a
    label map of another size than the image has the color at the center of each cell, as in a data set. Colors
    have no scores: `module` is that of the segmenter.
    """
    before = len(segmenter.labels)
    colors = tuple(SegmentLabel(name, CATEGORY) for name in COLOR_NAMES)

    def label_maps(images: Images, size: Size) -> LabelMaps:
        rows, columns = (
            (2 * np.arange(cells) + 1) * pixels // (2 * cells)
            for cells, pixels in zip(size, images.shape[1:3], strict=True)
        )
        named = name_colors(images[:, rows[:, None], columns]).astype(np.int32) + before
        return np.concatenate([segmenter.label_maps(images, size), named[:, None]], axis=1)

    return replace(segmenter, labels=(*segmenter.labels, *colors), label_maps=label_maps)
