"""Quadrants of objects as parts: top, left, bottom and right half of each connected component.

Source: the program of Bau et al. 2020 :cite:p:`bau2020understanding`, segmenter ``netpqc``: the bounding box of a
component is cut in the middle, so that each pixel is in the top or bottom half and in the left or right half. Pixels
that touch at a corner are connected. That program leaves out the last component of each image; here none is left out.
"""

import numpy as np
from scipy import ndimage

from netdissect.segmenters.segmenter import LabelMaps

SUFFIXES = ("t", "b", "l", "r")
"""In this order the halves are numbered."""
TOUCHING = np.ones((3, 3), dtype=np.int64)


def quadrant_maps(labels: LabelMaps, count: int) -> LabelMaps:
    """Return the halves of the connected components of each label.

    Parameters
    ----------
    labels : int32 (h, w)
        Label ids from 1 to `count`; 0 is unlabeled.
    count
        Number of labels.

    Returns
    -------
    int32 (2, h, w)
        Top and bottom halves, then left and right ones: half k of `SUFFIXES` of label i is ``k * count + i``.
    """
    halves = np.zeros((2, *labels.shape), np.int32)
    for label in np.unique(labels[labels > 0]).tolist():
        components, _ = ndimage.label(labels == label, TOUCHING)
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
            mask = components[rows, columns] == number
            height, width = mask.shape
            # The middle of rows r .. r + height - 1 is (2 r + height) // 2.
            lower = np.arange(rows.start, rows.stop) >= (2 * rows.start + height) // 2
            right = np.arange(columns.start, columns.stop) >= (2 * columns.start + width) // 2
            halves[0, rows, columns][mask] = (label + count * lower[:, None] + 0 * right)[mask]
            halves[1, rows, columns][mask] = (label + count * (2 + right) + 0 * lower[:, None])[mask]
    return halves
