"""Packages that only parts of the program need: they come with an extra."""

import importlib
from typing import Any

from netdissect.errors import MissingExtraError


def need(module: str, extra: str, user: str) -> Any:
    """Import a module that an extra installs.

    Parameters
    ----------
    module
        For example ``pycocotools.mask``.
    extra
        Which extra of netdissect installs it.
    user
        What needs it; the message begins with it.

    Raises
    ------
    MissingExtraError
        If it cannot be imported; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Expected it to come with an extra: pip install 'netdissect[{extra}]'."
        ) from error
