"""Read arrays from NumPy files of others without running code."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.paths import check_regular

NO_ARRAY = (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, TokenError)
"""What NumPy raises for a file that is no array: it evaluates the header as Python text."""


def read_array(path: Path) -> npt.NDArray[Any]:
    """Map the one array of a file of `numpy.save`; memory is taken when it is read.

    Raises
    ------
    OSError, EOFError, ValueError
        If it is no such file, is shorter than its header says, or holds objects; NumPy's message on these says how to
        unpickle them, which runs code of others.
    """
    check_regular(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError):
        raise
    except NO_ARRAY as error:
        reason = str(error)
        if "pickle" in reason or "objects" in reason:
            reason = "it is no file of numpy.save, or one of objects, which are not unpickled"
        raise ValueError(reason) from error
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive of several arrays")  # noqa: TRY004 - as for other content
    return array
