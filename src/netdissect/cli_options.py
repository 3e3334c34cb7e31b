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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from netdissect.config_fields import (
    Leaf,
    Values,
    default_value,
    is_list,
    leaves,
    merge_values,
    mistake,
    plain_type,
    put_value,
    type_marks,
)
from netdissect.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


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
        values = merge_values(self.kind, self.defaults if defaults is None else defaults, self.given)
        try:
            return self.kind.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{_mistake(self.kind, error)} See --help for what it takes.") from error


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
                    put_value(given, leaf.path, _read(leaf.field, value))
            command(Typed(model, given, base), **options)

        # By name alone, so that a required option may follow one with a default.
        parameters = [_parameter(leaf, default_value(base, leaf)) for leaf in shared]
        parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def _parameter(leaf: Leaf, default: Any) -> inspect.Parameter:
    import typer  # slow to load, and config.py imports this module

    plain = plain_type(leaf.field.annotation)
    kind: Any = bool if plain is bool else list[str] if is_list(plain) else str
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
        for mark in (*leaf.field.metadata, *type_marks(leaf.field.annotation))
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
    if is_list(plain):
        return _metavar(leaf, plain_type(get_args(plain)[0])) + ",..."  # type: ignore[operator]
    if get_origin(plain) is Literal:
        return "|".join(map(str, get_args(plain)))
    if get_origin(plain) in (Union, UnionType):
        return "|".join(str(_metavar(leaf, plain_type(part))) for part in get_args(plain))
    return {int: "N", float: "X", Path: "PATH"}.get(plain, "TEXT")


def _read(field: FieldInfo, value: Any) -> Any:
    """Return what was typed as pydantic takes it."""
    plain = plain_type(field.annotation)
    optional = NoneType in get_args(field.annotation)
    if optional and plain is not str and value in ("none", ["none"]):
        return None
    if not isinstance(value, list):
        return value
    return tuple(part for text in value for part in ([text] if get_args(plain)[0] is Path else text.split(",")) if part)


def _mistake(kind: type[BaseModel], error: ValidationError) -> str:
    """Say what is wrong with the value of the first option of an error."""
    at = error.errors()[0]["loc"]
    below = [leaf for leaf in leaves(kind) if leaf.path[: len(at)] == at[: len(leaf.path)]]
    leaf = next((leaf for leaf in below if leaf.field.is_required()), below[0] if below else None)
    if leaf is None:
        return mistake(error, ".".join(map(str, at)), ())
    return mistake(error, leaf.flag.partition("/")[0], leaf.path, leaf.option.metavar)
