"""Packages that only some sources need."""

import importlib
from typing import Any

from netdissect.errors import SourceError


def need(module: str, extra: str, kind: str) -> Any:
    """Import `module`.

    Raises
    ------
    SourceError
        If it is not installed; says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceError(
            f"{kind}: sources need the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Expected it to come with an extra: pip install 'netdissect[{extra}]'."
        ) from error
