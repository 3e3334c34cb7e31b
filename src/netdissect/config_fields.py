"""Fields of configurations: what options, keywords, errors and help texts are made from.

    class WidthConfig(Config):
        widths: Annotated[tuple[int, ...], Option("--width")] = Field((8, 16), description="Numbers of units.")

A field is declared once. The command line makes an option of it (`netdissect.cli_options`), functions take it as a
keyword (`netdissect.keywords`), and the class describes it in its docstring.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import cleandoc
from textwrap import fill
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from netdissect.close_matches import did_you_mean
from netdissect.errors import ConfigError

Values = Mapping[str, Any]
"""Values of a model's fields by name; those of a nested model are a mapping again."""


class Config(BaseModel):
    """Base class of configurations: frozen, without other fields, and with errors of netdissect.

    Raises
    ------
    ConfigError
        If a field does not exist, is missing, or has a wrong value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _not_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse True and False for numbers: pydantic takes True for 1."""
        if isinstance(value, bool) and not takes_bool(cls.model_fields[info.field_name or ""].annotation):
            raise ValueError("a number or a name was expected, and True and False are neither")
        return value

    if not TYPE_CHECKING:  # checkers make the signature of each class from its fields

        def __init__(self, /, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(_python_mistake(type(self), error)) from None

        # Files and the command line validate without it, and say where the value is from.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """List the fields in the docstring and in the signature."""
        own = cls.__dict__.get("__doc__") or f"{cls.__name__}."
        described = (
            described_parameter(name, type_text(field.annotation), field) for name, field in cls.model_fields.items()
        )
        cls.__doc__ = f"{cleandoc(own)}\n\nParameters\n----------\n" + "\n".join(described)
        signature, types = inspect.signature(cls), get_type_hints(cls)  # pydantic's shows what annotates the types
        parameters = [one.replace(annotation=types[name]) for name, one in signature.parameters.items()]
        cls.__signature__ = signature.replace(parameters=parameters)


def summary(model: type[BaseModel]) -> str:
    """Return the docstring of a model without the list of its fields."""
    return cleandoc(model.__doc__ or "").partition("\n\nParameters\n")[0]


def described_parameter(name: str, type_name: str, field: FieldInfo) -> str:
    """Return the entry of a field in the list of parameters of a docstring, as numpydoc has it."""
    default = repr(field.default) if field.default_factory is None else f"{field.default_factory.__name__}()"
    head = f"{name} : {type_name}" + ("" if field.is_required() else f", default {default}")
    return f"{head}\n" + fill(field.description or "", 110, initial_indent="    ", subsequent_indent="    ")


def type_text(annotation: Any) -> str:
    """Return a type as Python writes it, without what annotates it.

    >>> type_text(Annotated[int, "at least 1"] | Literal["auto"] | None)
    "int | Literal['auto'] | None"
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is Ellipsis else type_text(part) for part in parts)}]"
    return "None" if annotation is NoneType else str(getattr(annotation, "__name__", annotation))


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
    def keyword(self) -> str:
        """The name of the option in Python: ``batch_size``."""
        return (self.option.name or self.path[-1]).removeprefix("--").replace("-", "_")

    @property
    def flag(self) -> str:
        """What is typed: ``--batch-size``, ``--force/--no-force``, or the name of an argument."""
        if self.option.argument:
            return self.option.metavar or self.path[-1].upper()
        name = "--" + self.keyword.replace("_", "-")
        return f"{name}/--no-{name[2:]}" if plain_type(self.field.annotation) is bool else name


def leaves(
    model: type[BaseModel], path: tuple[str, ...] = (), panel: str | None = None, without: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Yield the options of a model, those of nested models in their place."""
    for name, field in model.model_fields.items():
        option = next((mark for mark in field.metadata if isinstance(mark, Option)), Option())
        inner = nested_model(field)
        if option.hidden or name in without:
            continue
        if inner is not None:
            yield from leaves(inner, (*path, name), option.panel or panel, without + option.without)
        else:
            yield Leaf((*path, name), field, Option(**(vars(option) | {"panel": option.panel or panel})))


def plain_type(annotation: Any) -> Any:
    """Return a type without its annotations, and without None."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return plain_type(parts[0]) if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007 - of a computed tuple
    return annotation


def takes_bool(annotation: Any) -> bool:
    """Return whether a field of this type may be True or False.

    >>> takes_bool(bool | None), takes_bool(Annotated[int, "at least 0"] | Literal["auto"])
    (True, False)
    """
    return annotation in (bool, Any) or (
        get_origin(annotation) is not Literal and any(map(takes_bool, get_args(annotation)))
    )


def type_marks(annotation: Any) -> Iterator[Any]:
    """Yield what annotates a type or one of its parts."""
    for mark in getattr(annotation, "__metadata__", ()):
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)
    for part in get_args(annotation):
        yield from type_marks(part) if get_origin(annotation) is not Literal else ()


def is_list(plain: Any) -> bool:
    """Return whether a type is a tuple of any length."""
    return get_origin(plain) is tuple and get_args(plain)[-1] is Ellipsis


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is one, or one or None."""
    plain = plain_type(field.annotation)
    return plain if isinstance(plain, type) and issubclass(plain, BaseModel) else None


def put_value(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value at a path of nested mappings."""
    *outer, last = path
    for name in outer:
        values = values.setdefault(name, {})
    values[last] = value


def default_value(defaults: Values, leaf: Leaf) -> Any:
    """Return what a field is if no value is given for it."""
    found: Any = defaults
    for name in leaf.path:
        if not isinstance(found, Mapping) or name not in found:
            return None if leaf.field.is_required() else leaf.field.get_default(call_default_factory=True)
        found = found[name]
    return found


def merge_values(kind: type[BaseModel], defaults: Values, given: Values) -> dict[str, Any]:
    """Put what was typed over the defaults; a model may say itself how, in `merge_options`."""
    nested = {name: nested_model(field) for name, field in kind.model_fields.items()}
    inner = {
        name: merge_values(model, defaults.get(name) or {}, value)
        for name, value in given.items()
        if (model := nested.get(name)) is not None
    }
    merge = getattr(kind, "merge_options", None)
    return merge(defaults, given) if merge else {**defaults, **given, **inner}


def suggestion(name: str, known: Iterable[str], meant: str | None = None) -> str:
    """Return the words that suggest what was meant by a name that is not known, and list the known ones.

    >>> suggestion("layer", ["layers", "split"])
    'Did you mean layers=...? Known: layers, split.'
    """
    known = list(known)
    meant = meant or next((f"{close}=..." for close in get_close_matches(name, known, n=1)), None)
    return (f"Did you mean {meant}? " if meant else "") + f"Known: {', '.join(known)}."


def mistake(error: ValidationError, name: str, path: tuple[int | str, ...], metavar: str | None = None) -> str:
    """Say what is wrong with the value of the first field of an error, with one message for each type that it may have.

    Parameters
    ----------
    error
        Of a model.
    name
        What the user calls the field.
    path
        Where the field is.
    metavar
        Of its `Option`: which values it takes, where its type does not say it.
    """
    first = error.errors()[0]
    if first["type"] == "missing":
        return f"{name} is missing."
    same = [each for each in error.errors() if path and each["loc"][: len(path)] == path]
    same = [each for each in same if each["type"] != "too_short"]  # it follows when an element of a tuple is wrong
    messages = [each["msg"].removeprefix("Value error, ") for each in same or [first]]
    message = " or ".join(
        dict.fromkeys(text if i == 0 else text.removeprefix("Input should be ") for i, text in enumerate(messages))
    )
    if first["type"] == "string_pattern_mismatch" and metavar is not None:
        message = f"expected {metavar}"
    message = message[0].lower() + message[1:]
    words = [
        word for each in same or [first] for word in re.findall("'(.*?)'", each.get("ctx", {}).get("expected", ""))
    ]
    return f"{name} cannot be {first['input']!r}: {message}.{did_you_mean(first['input'], words)}"


def _python_mistake(kind: type[BaseModel], error: ValidationError) -> str:
    """Say what is wrong with the arguments of a model; a name that does not exist comes before one that is missing."""
    unknown = next((each for each in error.errors() if each["type"] == "extra_forbidden"), None)
    if unknown is not None:
        *outer, name = map(str, unknown["loc"])
        model = _model_at(kind, outer)
        inner = next((leaf for leaf in leaves(model) if name in (leaf.path[-1], leaf.keyword)), None)
        meant = None if inner is None else _written(model, inner.path)
        return f"{model.__name__} has no field {name!r}. {suggestion(name, model.model_fields, meant)}"
    path = _field_path(kind, error.errors()[0]["loc"])
    return f"{mistake(error, '.'.join(path), path)} See help({kind.__name__})."


def _written(model: type[BaseModel], path: tuple[str, ...]) -> str:
    """Return how a field of a nested model is written: ``protocol=Protocol(quantiles=...)``."""
    name, *rest = path
    inner = nested_model(model.model_fields[name])
    return f"{name}={inner.__name__}({_written(inner, tuple(rest))})" if rest and inner else f"{name}=..."


def _model_at(kind: type[BaseModel], path: Iterable[str]) -> type[BaseModel]:
    for name in path:
        kind = nested_model(kind.model_fields[name]) or kind
    return kind


def _field_path(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the beginning of a location that names fields; the rest are elements and types of a value."""
    path: list[str] = []
    model: type[BaseModel] | None = kind
    for part in map(str, location):
        if model is None or part not in model.model_fields:
            break
        path.append(part)
        model = nested_model(model.model_fields[part])
    return tuple(path)
