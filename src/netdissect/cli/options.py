"""Options that several commands share, written once."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")


def with_options_of(make: Callable[..., Made]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `make`, and hand it what `make` returns as its first argument.

    Parameters
    ----------
    make
        Its parameters are annotated as options or arguments of the command line.
    """
    shared = list(inspect.signature(make).parameters.values())

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _made, *own = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def called(**options: Any) -> None:
            rest = {parameter.name: options.pop(parameter.name) for parameter in own}
            command(make(**options), **rest)

        # By name alone, so that a required option may follow one with a default.
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*shared, *own)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate
