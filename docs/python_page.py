"""The reference of all public Python names as a page of Markdown, from signatures and numpydoc docstrings."""

import importlib
import inspect
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from bibliography import linked
from pydantic import BaseModel

import netdissect

logging.getLogger("griffe").setLevel(logging.ERROR)  # it misses types in docstrings that stand in the signature

SOURCE = Path(netdissect.__file__).parents[1]
BUILDING_BLOCKS = ("netdissect.scoring", "netdissect.activations", "netdissect.report", "netdissect.explorer")
LINE = 100
KINDS = griffe.DocstringSectionKind


def python() -> str:
    """Return the page of all public names, by the shortest path under which they are imported."""
    parts = [
        "# Python\n\nAll public names, where they are imported from. "
        "[Call netdissect from Python](../../howto/call-from-python.md) shows how they go together.\n"
    ]
    for module, things in public_names().items():
        parts.append(f"## {module}\n\n{docstring(importlib.import_module(module).__doc__)}")
        parts += [section(f"{module}.{name}", thing) for name, thing in things.items()]
    return "\n".join(parts)


def public_modules() -> list[str]:
    """Return the modules whose names are public: the package, those that it names itself, and those for building on."""
    own = [thing.__name__ for name in netdissect.__all__ if inspect.ismodule(thing := getattr(netdissect, name))]
    return list(dict.fromkeys(["netdissect", *own, *BUILDING_BLOCKS]))


def public_names() -> dict[str, dict[str, Any]]:
    """Return the things of each public module by name; what several modules name is in the first of them."""
    seen: set[int] = set()
    found = {}
    for module in public_modules():
        home = importlib.import_module(module)
        things = {name: getattr(home, name) for name in sorted(_listed(home), key=str.lower)}
        found[module] = {name: thing for name, thing in things.items() if id(thing) not in seen}
        seen |= {id(thing) for thing in things.values()}
    return found


def _listed(module: Any) -> list[str]:
    """Return the names that a module lists, or those that it defines; modules have sections of their own."""
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == module.__name__]
    listed = getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]
    return [name for name in listed if not inspect.ismodule(getattr(module, name))]


# Sections


def section(path: str, thing: Any) -> str:
    """Return the section of a class, function or constant; a class with its documented methods."""
    heading, name = f"### {path}\n", path.rpartition(".")[2]
    if not hasattr(thing, "__qualname__"):
        shown = repr(thing)
        return f"{heading}\nOf type `{type(thing).__name__}`" + (f": `{shown}`.\n" if len(shown) < LINE else ".\n")
    source = _sources()[thing.__module__.removeprefix("netdissect.")][thing.__qualname__]
    if not inspect.isclass(thing):
        return "\n".join([heading, signature(name, source, vars(thing).get("__signature__")), _docstring_of(thing)])
    if issubclass(thing, BaseModel | BaseException):
        return "\n".join([heading, _docstring_of(thing)])
    parts = [f"#### {name}.{one}\n\n{_member(one, member)}" for one, member in _members(source)]
    return "\n".join([heading, signature(name, source), _docstring_of(thing), *parts])


@cache
def _sources() -> Any:
    return griffe.load("netdissect", search_paths=[str(SOURCE)])


def _members(source: Any) -> Iterator[tuple[str, Any]]:
    """Yield the documented public methods and properties that a class defines itself, in their order."""
    for name, member in source.members.items():
        if not name.startswith("_") and member.docstring and (member.is_function or "property" in member.labels):
            yield name, member


def _member(name: str, member: Any) -> str:
    text = docstring(member.docstring.value)
    return text if "property" in member.labels else f"{signature(name, member)}\n{text}"


def signature(name: str, source: Any, made: inspect.Signature | None = None) -> str:
    """Return a call with types and defaults as a block of code; one parameter in a line if it is long.

    Parameters
    ----------
    name
        What is called.
    source
        The function or class, as Griffe reads it.
    made
        The signature of a function whose keywords are made from fields of a configuration.
    """
    parameters = list(_written(made.parameters.values()) if made else _written(source.parameters))
    returned = f" -> {source.returns}" if source.is_function and source.returns else ""
    text = f"{name}({', '.join(parameters)}){returned}"
    if len(text) > LINE:
        text = f"{name}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){returned}"
    return f"```python\n{text}\n```\n"


def _written(parameters: Any) -> Iterator[str]:
    """Yield parameters of Griffe or of the module `inspect` as they are written, with a star before keywords."""
    star = False
    for one in parameters:
        if one.name in ("self", "cls"):
            continue
        ours = isinstance(one, inspect.Parameter)
        kind = (one.kind.description if ours else one.kind.value).removesuffix("-only")
        prefix = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        if kind == "keyword" and not star:
            yield "*"
        star |= kind == "keyword" or prefix == "*"
        annotation, default = _made(one) if ours else (one.annotation, None if prefix else one.default)
        yield f"{prefix}{one.name}" + (f": {annotation}" if annotation else "") + (f" = {default}" if default else "")


def _made(one: inspect.Parameter) -> tuple[str, str]:
    """Return type and default of a parameter as they are written."""
    annotation = one.annotation if isinstance(one.annotation, str) else inspect.formatannotation(one.annotation)
    short = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", annotation)
    short = re.sub(r"Optional\[(.*)\]$", r"Union[\1, None]", short)
    choices = re.sub(r"Union\[(.*)\]$", lambda found: _joined(found[1]), short)
    return (
        "" if one.annotation is one.empty else choices.replace("NoneType", "None"),
        "" if one.default is one.empty else repr(one.default),
    )


def _joined(choices: str) -> str:
    """Return the choices of a union, which are separated by the commas outside of brackets, joined by bars."""
    return re.sub(r",\s*(?![^\[]*\])", " | ", choices)


# Docstrings


def _docstring_of(thing: Any) -> str:
    return docstring(inspect.getdoc(thing))


def docstring(text: str | None) -> str:
    """Return a numpydoc docstring as Markdown: lists of names in bold, examples as code."""
    parts = griffe.Docstring(linked(inspect.cleandoc(text or ""))).parse("numpy")
    return "\n".join(f"{_part(part).strip()}\n" for part in parts)


def _part(part: Any) -> str:
    if part.kind is KINDS.text:
        return str(part.value)
    if part.kind is KINDS.admonition:
        return f"**{part.title}**\n\n{part.value.description}"
    if part.kind is KINDS.examples:
        blocks = [text if kind is KINDS.text else f"```pycon\n{text}\n```" for kind, text in part.value]
        return "**Examples**\n\n" + "\n\n".join(blocks)
    return f"**{part.kind.value.title()}**\n\n" + "\n".join(_entry(one) for one in part.value)


def _entry(one: Any) -> str:
    """Return a parameter, attribute, returned value or error as an item of a list."""
    name = getattr(one, "name", None)
    head = [f"**`{name}`**"] if name else []
    head += [f"`{one.annotation}`"] if one.annotation else []
    meaning = "\n  ".join(one.description.strip().splitlines())
    return f"- {', '.join(head)}: {meaning}"
