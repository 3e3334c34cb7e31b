"""Packages that only parts of the program need: they come with an extra."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from netdissect.errors import MissingExtraError


def need(module: str, extra: str, user: str, *, without: Sequence[str] = ()) -> Any:
    """Import a module that an extra installs.

    Parameters
    ----------
    module
        For example ``pycocotools.mask``.
    extra
        Which extra of netdissect installs it.
    user
        What needs it; the message begins with it.
    without
        Optional modules that it must not find, such as one that sends what it is used for to its makers.

    Raises
    ------
    MissingExtraError
        If it cannot be imported; names the extra.
    """
    hidden = [name for name in without if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Expected it to come with an extra: pip install 'netdissect[{extra}]'."
        ) from error
    finally:
        for name in hidden:
            del sys.modules[name]
