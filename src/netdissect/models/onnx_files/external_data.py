"""Values of tensors in other files than that of their graph: where they are, checked before anything is opened."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netdissect.errors import NetdissectError, NetworkError
from netdissect.models.onnx_files.translation import DTYPES
from netdissect.paths import check_regular, contained


@dataclass(frozen=True)
class ExternalData:
    """Where the values of a tensor are.

    Attributes
    ----------
    file
        In the folder of the graph or below it.
    offset, length
        In bytes.
    """

    file: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """Return the values."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.length)


def external_data(tensor: Any, path: Path, error: type[NetdissectError] = NetworkError) -> ExternalData | None:
    """Return where the values of a ``TensorProto`` are; None: in the graph.

    Parameters
    ----------
    tensor
        Of the graph.
    path
        Of its file.
    error
        What is raised.

    Raises
    ------
    NetdissectError
        If the other file is missing, leads out of the folder, or does not hold as much as the tensor takes.
    """
    if tensor.data_location != tensor.EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    named = entries.get("location", "")
    file = contained(path.parent, named, path, error)
    dtype = DTYPES.get(tensor.data_type)
    try:
        check_regular(file)
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
        offset = int(entries.get("offset", 0))
        rest = size - offset
        takes = int(entries.get("length", rest)) if dtype is None else math.prod(tensor.dims) * dtype.itemsize
        length = int(entries.get("length", takes))
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise error(
            f"{path} keeps its weights in the file {named!r}, which cannot be read ({reason}). Expected it in the "
            f"folder {path.parent}; download or export both files again, and keep them together."
        ) from fault
    if offset < 0 or length != takes or not 0 <= length <= rest:
        raise error(
            f"The weight {tensor.name!r} of {path} takes {takes:,} bytes, and it is said to be {length:,} bytes at "
            f"{offset:,} of {file.name}, which has {size:,}. One of the files is damaged or of another export: "
            "download or export both again."
        )
    return ExternalData(file, offset, length)
