"""Options of the command line, made from the fields of pydantic models.

    @with_options(RunRequest)
    def run(asked: Typed[RunRequest], out: ...) -> None:
        request = asked.model()

Each field is one option. Its name, type, range, default and help are those of the field, also of fields of nested
models; an `Option` in the field's annotation names it differently, lists it in a panel of its own, makes it a
positional argument or leaves it out. What was typed goes through the validation of the model, so a wrong value is
the same error from the command line, from Python and from a file. Values that were not typed come from `defaults`
(of a command, or of a file that is repeated), and otherwise from the fields. A list takes repeated options and
commas; ``none`` is the value None, except where the field holds a text.

Nothing here loads torch. A command whose model does is imported when it is called or its own help is read.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from netdissect.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Values = Mapping[str, Any]
"""Values of a model's fields by name; those of a nested model are a mapping again."""


@dataclass(frozen=True)
class Option:
    """How a field appears on the command line, where its own name does not say it.

    Attributes
    ----------
    name
        Such as ``--layer`` for the field `layers`.
    metavar
        Which values are typed, where the type of the field does not say it.
    panel
        Heading in the help; on a nested model, that of all its fields.
    argument
        Whether it is positional.
    default
        Words for a default that is another on each machine.
    hidden
        Whether there is no option: the field is set in Python and in files only.
    without
        Of a nested model: fields of it, at any depth, that have no option here.
    """

    name: str | None = None
    metavar: str | None = None
    panel: str | None = None
    argument: bool = False
    default: str | None = None
    hidden: bool = False
    without: tuple[str, ...] = ()


class Leaf(NamedTuple):
    """One option: where its field is, from the outermost model on, and how it appears."""

    path: tuple[str, ...]
    field: FieldInfo
    option: Option

    @property
    def key(self) -> str:
        """The name of its parameter in the function of a command."""
        return "__".join(self.path)

    @property
    def flag(self) -> str:
        """What is typed: ``--batch-size``, ``--force/--no-force``, or the name of an argument."""
        if self.option.argument:
            return self.option.metavar or self.path[-1].upper()
        name = self.option.name or "--" + self.path[-1].replace("_", "-")
        return f"{name}/--no-{name[2:]}" if _plain(self.field.annotation) is bool else name


def leaves(
    model: type[BaseModel], path: tuple[str, ...] = (), panel: str | None = None, without: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Yield the options of a model, those of nested models in their place."""
    for name, field in model.model_fields.items():
        option = next((mark for mark in field.metadata if isinstance(mark, Option)), Option())
        nested = _nested(field)
        if option.hidden or name in without:
            continue
        if nested is not None:
            yield from leaves(nested, (*path, name), option.panel or panel, without + option.without)
        else:
            yield Leaf((*path, name), field, Option(**(vars(option) | {"panel": option.panel or panel})))


@dataclass(frozen=True)
class Typed(Generic[Model]):
    """What was typed for a model, not validated yet.

    Attributes
    ----------
    kind
        The model.
    given
        Values of the options that were typed.
    defaults
        Of the command.
    """

    kind: type[Model]
    given: Values
    defaults: Values

    def model(self, defaults: Values | None = None) -> Model:
        """Make the model of what was typed.

        Parameters
        ----------
        defaults
            Values in place of the command's, such as those of a file that is repeated.

        Raises
        ------
        ConfigError
            If a value is missing or not allowed.
        """
        values = _merged(self.kind, self.defaults if defaults is None else defaults, self.given)
        try:
            return self.kind.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_mistake(self.kind, error)) from error


def with_options(
    model: type[BaseModel], defaults: Values | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a model; what was typed comes as its first argument, a `Typed`.

    Parameters
    ----------
    model
        Its fields are the options; see the module.
    defaults
        Values of the command in place of the fields' defaults.
    """
    shared, base = list(leaves(model)), defaults or {}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _typed, *own = inspect.signature(command, eval_str=True).parameters.values()

        @functools.wraps(command)
        def called(**options: Any) -> None:
            given: dict[str, Any] = {}
            for leaf in shared:
                value = options.pop(leaf.key)
                if value is not None:
                    _put(given, leaf.path, _read(leaf.field, value))
            command(Typed(model, given, base), **options)

        # By name alone, so that a required option may follow one with a default.
        parameters = [_parameter(leaf, _value(base, leaf)) for leaf in shared]
        parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def _parameter(leaf: Leaf, default: Any) -> inspect.Parameter:
    import typer  # slow to load, and config.py imports this module

    plain = _plain(leaf.field.annotation)
    kind: Any = bool if plain is bool else list[str] if _is_list(plain) else str
    text = _help(leaf, default)
    info = (
        typer.Argument(metavar=leaf.flag, help=text, show_default=False)
        if leaf.option.argument
        else typer.Option(
            leaf.flag, metavar=_metavar(leaf, plain), help=text, show_default=False, rich_help_panel=leaf.option.panel
        )
    )
    return inspect.Parameter(
        leaf.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _help(leaf: Leaf, default: Any) -> str:
    """Return the description, the range of a number and the default; what None means is in the description."""
    text = leaf.field.description or ""
    if default is None and not leaf.field.is_required():
        text = text.replace("; None: ", ". None: ").replace("None: ", "Default: ")
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {bound:,}"
        for mark in (*leaf.field.metadata, *_marks(leaf.field.annotation))
        for name, sign in signs.items()
        if isinstance(bound := getattr(mark, name, None), int | float)
    ]
    text += f" Range: {', '.join(limits)}." if limits else ""
    if leaf.field.is_required() and default is None:
        return text + " Required."
    if default is None or default == () or isinstance(default, bool) or leaf.option.argument:
        return text + (" Default: yes." if default is True else "")
    return text + f" Default: {leaf.option.default or _written(default)}."


def _written(value: Any) -> str:
    return ",".join(map(_written, value)) if isinstance(value, list | tuple) else str(value)


def _metavar(leaf: Leaf, plain: Any) -> str | None:
    if leaf.option.metavar is not None or plain is bool:
        return leaf.option.metavar
    if _is_list(plain):
        return _metavar(leaf, _plain(get_args(plain)[0])) + ",..."  # type: ignore[operator]
    if get_origin(plain) is Literal:
        return "|".join(map(str, get_args(plain)))
    if get_origin(plain) in (Union, UnionType):
        return "|".join(str(_metavar(leaf, _plain(part))) for part in get_args(plain))
    return {int: "N", float: "X", Path: "PATH"}.get(plain, "TEXT")


def _plain(annotation: Any) -> Any:
    """Return a type without its annotations, and without None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return _plain(parts[0]) if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007 - of a computed tuple
    return annotation


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield what annotates a type or one of its parts."""
    for mark in getattr(annotation, "__metadata__", ()):
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)
    for part in get_args(annotation):
        yield from _marks(part) if get_origin(annotation) is not Literal else ()


def _is_list(plain: Any) -> bool:
    return get_origin(plain) is tuple and get_args(plain)[-1] is Ellipsis


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    plain = _plain(field.annotation)
    return plain if isinstance(plain, type) and issubclass(plain, BaseModel) else None


def _read(field: FieldInfo, value: Any) -> Any:
    """Return what was typed as pydantic takes it."""
    plain = _plain(field.annotation)
    optional = NoneType in get_args(field.annotation)
    if optional and plain is not str and value in ("none", ["none"]):
        return None
    if not isinstance(value, list):
        return value
    return tuple(part for text in value for part in ([text] if get_args(plain)[0] is Path else text.split(",")) if part)


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *outer, last = path
    for name in outer:
        values = values.setdefault(name, {})
    values[last] = value


def _value(defaults: Values, leaf: Leaf) -> Any:
    """Return what a field is if nothing is typed."""
    found: Any = defaults
    for name in leaf.path:
        if not isinstance(found, Mapping) or name not in found:
            return None if leaf.field.is_required() else leaf.field.get_default(call_default_factory=True)
        found = found[name]
    return found


def _merged(kind: type[BaseModel], defaults: Values, given: Values) -> dict[str, Any]:
    """Put what was typed over the defaults; a model may say itself how, in `merge_options`."""
    nested = {name: _nested(field) for name, field in kind.model_fields.items()}
    inner = {
        name: _merged(model, defaults.get(name) or {}, value)
        for name, value in given.items()
        if (model := nested.get(name)) is not None
    }
    merge = getattr(kind, "merge_options", None)
    return merge(defaults, given) if merge else {**defaults, **given, **inner}


def _mistake(kind: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    at = first["loc"]
    leaf = next((leaf for leaf in leaves(kind) if leaf.path[: len(at)] == at[: len(leaf.path)]), None)
    option = leaf.flag.partition("/")[0] if leaf else ".".join(map(str, at))
    if first["type"] == "missing":
        return f"{option} is missing. See --help for what it takes."
    same = [error for error in error.errors() if leaf is None or error["loc"][: len(leaf.path)] == leaf.path]
    messages = [each["msg"].removeprefix("Value error, ") for each in same or [first]]  # one for each kind of value
    message = " or ".join(
        dict.fromkeys(text if i == 0 else text.removeprefix("Input should be ") for i, text in enumerate(messages))
    )
    if first["type"] == "string_pattern_mismatch" and leaf is not None and leaf.option.metavar is not None:
        message = f"expected {leaf.option.metavar}"
    message = message[0].lower() + message[1:]
    return f"{option} cannot be {first['input']!r}: {message}. See --help for what it takes."
