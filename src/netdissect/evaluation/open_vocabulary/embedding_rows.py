"""Which rows of an array of image embeddings belong to the images of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts import ConceptData
from netdissect.concepts.broden_files import read_table
from netdissect.concepts.dataset_folder import INDEX_FILE
from netdissect.counted import counted
from netdissect.dissect.reload import data_of
from netdissect.errors import ShapeError
from netdissect.result import RunInfo


def rows_of_run(
    embedded: npt.ArrayLike, info: RunInfo, data_root: ConceptData | str | Path | None = None
) -> npt.NDArray[Any]:
    """Return the embeddings of the images of a run, in their order.

    Parameters
    ----------
    embedded
        (N, D): a row for each image of the run in image order, or for each row of ``index.csv`` of its data set.
    info
        Of the run.
    data_root
        Its data set, if it was moved or its images were chosen in Python. It is read only if the number of rows is not
        that of the run's images.

    Raises
    ------
    ShapeError
        If the number of rows is neither.
    ConceptsError
        If the data set is needed and cannot be read, or has changed.
    """
    array = np.asarray(embedded)
    unknown = info.data.chosen_in_python and not isinstance(data_root, ConceptData)
    if array.ndim != 2 or len(array) == info.data.images or unknown:
        return array  # `unit_vectors` refuses what is wrong
    return rows_of_data(array, data_of(info, data_root))


def rows_of_data(array: npt.NDArray[Any], data: ConceptData) -> npt.NDArray[Any]:
    """Return the embeddings of the images of a data set as they are dissected, in their order.

    Parameters
    ----------
    array
        (N, D): a row for each image in image order, or for each row of ``index.csv``.
    data
        The data set.

    Raises
    ------
    ShapeError
        If the number of rows is neither.
    """
    images = len(data.rows)
    if array.ndim != 2 or len(array) == images:
        return array
    index = data.root / INDEX_FILE
    names = [row["image"] for row in read_table(index, ("image",))]
    if len(array) != len(names):
        first = ", ".join(row.image for row in data.rows[:3])
        raise ShapeError(
            f"the embeddings of images have {counted(len(array), 'rows')} for {counted(images, 'images')}. Expected "
            f"one row for each of the {counted(len(names), 'rows')} of {index}, in that order, of which those of the "
            f"run are taken; or one for each of its {counted(images, 'images')} alone, in the order of that table "
            f"(the first are {first})."
        )
    position = {name: row for row, name in enumerate(names)}
    return np.asarray(array[[position[row.image] for row in data.rows]])
