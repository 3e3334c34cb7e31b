"""Build a network, or a segmenter, by a function of the user's own."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from netdissect.close_matches import did_you_mean
from netdissect.errors import NetworkError
from netdissect.models.generators.generator import latent_input
from netdissect.models.model_zoos import Built
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.run_module import check_module


def build_from_factory(spec: str) -> Built:
    """Call the factory of a network, ``python:package.module:factory``."""
    returned = call_factory(spec, "network", "(torch.nn.Module, Preprocessing)")
    if isinstance(returned, Network):
        returned = (returned.module, returned.preprocessing)
    if isinstance(returned, tuple) and _is_generator(returned):
        check_module(spec, returned[0])
        return returned[0], latent_input(spec, *returned)
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Preprocessing)):
        items = [type(item).__name__ for item in returned] if isinstance(returned, tuple) else []
        found = f"a tuple of {', '.join(items)}" if items else type(returned).__name__
        raise NetworkError(
            f"The factory of {spec!r} returned {found}. Expected a pair (torch.nn.Module, "
            "netdissect.models.Preprocessing), of a generator (torch.nn.Module, latent sampler), or a "
            "netdissect.models.Network."
        )
    check_module(spec, returned[0])
    return returned


def _is_generator(returned: tuple[Any, ...]) -> bool:
    """Tell whether a factory returned a module with its latent sampler, which is a function."""
    return (
        len(returned) == 2
        and isinstance(returned[0], torch.nn.Module)
        and not isinstance(returned[1], (Preprocessing, torch.nn.Module, type))
        and callable(returned[1])
    )


@contextmanager
def _importing_from_working_folder() -> Iterator[None]:
    """Find modules in the working folder, too, after all others: an installed command does not look there."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.reverse()
        sys.path.remove(folder)  # the last one
        sys.path.reverse()


def call_factory(spec: str, noun: str, expected: str) -> object:
    """Return what the factory of ``python:package.module:factory`` returns.

    Parameters
    ----------
    spec
        The specification.
    noun, expected
        What it makes and what it should return, for messages.

    Raises
    ------
    NetworkError
        If there is no such function, or it fails.
    """
    with _importing_from_working_folder():
        return _call(spec, noun, expected)


def _call(spec: str, noun: str, expected: str) -> object:
    path, _, attribute = spec.removeprefix("python:").partition(":")
    if not path or not attribute:
        raise NetworkError(f"The {noun} {spec!r} names no factory. Expected python:package.module:factory.")
    try:
        module = importlib.import_module(path)
    except Exception as error:  # importing runs the user's code
        raise NetworkError(
            f"Module {path!r} of {noun} {spec!r} cannot be imported ({type(error).__name__}: {error}). Expected a "
            "module, named without .py, in the working folder or on Python's path; change to its folder, install it, "
            "or add its folder to PYTHONPATH."
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        known = [name for name in vars(module) if callable(getattr(module, name))]
        raise NetworkError(
            f"Module {path!r} of {noun} {spec!r} has no function {attribute!r}.{did_you_mean(attribute, known)} "
            f"Expected one that returns {expected}."
        )
    try:
        return factory()
    except Exception as error:
        raise NetworkError(
            f"The factory of {spec!r} failed with {type(error).__name__}: {error}. Expected it to return "
            f"{expected} when called without arguments; correct the factory."
        ) from error


def reset_parameters(module: torch.nn.Module, spec: str) -> None:
    """Initialize the weights of a factory's network again, by the reset_parameters of its modules."""
    for name, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif any(True for _ in part.parameters(recurse=False)):
            raise NetworkError(
                f"Network {spec!r} cannot be initialized at random: its module {name!r} ({type(part).__name__}) has "
                "parameters but no reset_parameters(). Add that method, or name a factory that returns the "
                "untrained network and leave --weights out."
            )
