"""Options of a dissection as keywords of functions, with the names, types and defaults of the command line.

    @takes_options
    def dissect(model, data, *, layers=None, config=None, execution=None, **options: Unpack[DissectOptions]):
        config, execution = read_options(dissect, options, ConfigObjects(layers, config, execution))

The fields of `DissectConfig` and `Execution` declare them: signature, help and error messages are made from the fields.
Type checkers and editors read `netdissect.dissect_options`, which ``docs/generate.py`` writes from the same fields.
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from netdissect.config import DissectConfig, Execution, NetworkSource, one_or_more
from netdissect.config_fields import (
    Config,
    Leaf,
    described_parameter,
    is_list,
    leaves,
    merge_values,
    mistake,
    nested_model,
    plain_type,
    put_value,
    suggestion,
)
from netdissect.errors import ConfigError

Function = TypeVar("Function", bound=Callable[..., Any])
AnyConfig = TypeVar("AnyConfig", bound=Config)
OPTION_MODELS: tuple[type[Config], ...] = (DissectConfig, Execution)


class ConfigObjects(NamedTuple):
    """What a dissection is asked for besides single options; these override it.

    Attributes
    ----------
    layers
        Names or globs; they replace those of `config`.
    config, execution
        Objects that hold options; None: the defaults.
    """

    layers: Sequence[str] | str | None = None
    config: DissectConfig | None = None
    execution: Execution | None = None


@functools.cache
def option_leaves() -> Mapping[str, tuple[type[Config], Leaf]]:
    """Return the options by keyword, each with the model that holds it; `layers` is a parameter of its own."""
    return {
        leaf.keyword: (model, leaf) for model in OPTION_MODELS for leaf in leaves(model) if leaf.path != ("layers",)
    }


def takes_options(function: Function) -> Function:
    """Show the options of a dissection in the signature and the docstring of a function that takes them."""
    from netdissect.dissect_options import DissectOptions

    return _show_options(function, {name: leaf for name, (_, leaf) in option_leaves().items()}, DissectOptions)


def takes_fields(model: type[Config], typed: type) -> Callable[[Function], Function]:
    """Show the fields of a model in the signature and the docstring of a function that takes them as keywords."""
    return functools.partial(_show_options, found={leaf.keyword: leaf for leaf in leaves(model)}, typed=typed)


def read_fields(
    function: Callable[..., Any], model: type[AnyConfig], base: AnyConfig | None, options: Mapping[str, Any]
) -> AnyConfig:
    """Return what a function was asked for: its keywords over the fields of its configuration.

    Parameters
    ----------
    function
        Which was called.
    model
        Of the configuration.
    base
        The configuration; None: the defaults.
    options
        By keyword.

    Raises
    ------
    ConfigError
        If there is no option of a name, or a value is wrong.
    """
    of_keyword, given = {leaf.keyword: leaf for leaf in leaves(model)}, dict[str, Any]()
    for name, value in options.items():
        if name not in of_keyword:
            known = [*inspect.signature(function).parameters]
            raise ConfigError(f"{_called(function)} has no option {name!r}. {suggestion(name, known)}")
        put_value(given, of_keyword[name].path, _as_field(of_keyword[name], value))
    return _merged(function, model, base, given, of_keyword)


def _show_options(function: Function, found: Mapping[str, Leaf], typed: type) -> Function:
    signature, types = inspect.signature(function, eval_str=True), get_type_hints(typed)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=leaf.field.get_default(call_default_factory=True),
            annotation=types.get(name, Any),  # of a new field, until docs/generate.py has written its type
        )
        for name, leaf in found.items()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    described = "\n".join(
        described_parameter(name, option_type(leaf.field.annotation), leaf.field) for name, leaf in found.items()
    )
    before, raises, after = inspect.cleandoc(function.__doc__ or "").partition("Raises\n------\n")
    function.__doc__ = f"{before}Other Parameters\n----------------\n{described}\n\n{raises}{after}"
    return function


def read_options(
    function: Callable[..., Any], options: Mapping[str, Any], objects: ConfigObjects
) -> tuple[DissectConfig, Execution]:
    """Return what a function that takes options was asked for: its options over the fields of its config objects.

    Parameters
    ----------
    function
        Which was called.
    options
        By keyword.
    objects
        Layers, configuration and execution.

    Raises
    ------
    ConfigError
        If there is no option of a name, a value is wrong, or no layer is named.
    """
    layers, config, execution = objects
    given: dict[type[Config], dict[str, Any]] = {model: {} for model in OPTION_MODELS}
    for name, value in options.items():
        if name not in option_leaves():
            raise ConfigError(_unknown(function, name))
        model, leaf = option_leaves()[name]
        put_value(given[model], leaf.path, _as_field(leaf, value))
    if layers is not None and not (isinstance(layers, str | Sequence) and all(isinstance(n, str) for n in layers)):
        raise ConfigError(
            f"{_called(function)}: layers is {_in_short(layers)}. Expected names of modules or globs, such as 'layer4' "
            "or ['layer3', 'layer4'], or auto, blocks or mlp; netdissect.list_layers(network) lists the names."
        )
    if layers:
        given[DissectConfig]["layers"] = one_or_more(layers)
    elif config is None:
        raise ConfigError(
            "no layer was named. Pass layers=['layer4'] (names or globs), layers='auto' (the last of each stage), or a "
            "DissectConfig; netdissect.list_layers(network) lists them."
        )
    of_dissection, of_execution = (
        {name: leaf for name, (kind, leaf) in option_leaves().items() if kind is model} for model in OPTION_MODELS
    )
    return (
        _merged(function, DissectConfig, config, given[DissectConfig], of_dissection),
        _merged(function, Execution, execution, given[Execution], of_execution),
    )


def _as_field(leaf: Leaf, value: Any) -> Any:
    """Return a value as its field takes it: one value of a list may come alone."""
    return one_or_more(value) if is_list(plain_type(leaf.field.annotation)) and value is not None else value


def _merged(
    function: Callable[..., Any],
    model: type[AnyConfig],
    base: AnyConfig | None,
    given: Mapping[str, Any],
    found: Mapping[str, Leaf],
) -> AnyConfig:
    if base is not None and not isinstance(base, model):
        raise ConfigError(
            f"{'execution' if model is Execution else 'config'} is {type(base).__name__}, but {_called(function)} "
            f"takes a netdissect.{model.__name__}, or each option as a keyword of its own: {next(iter(found))}=..."
        )
    if base is not None and not given:
        return base
    try:
        return model.model_validate(merge_values(model, {} if base is None else base.model_dump(), given))
    except ValidationError as error:
        at = error.errors()[0]["loc"]
        of_field = (each for each in found.items() if each[1].path == at[: len(each[1].path)])
        name, leaf = next(of_field, ("layers", None))
        metavar = None if leaf is None else leaf.option.metavar
        message = mistake(error, name, ("layers",) if leaf is None else leaf.path, metavar)
        raise ConfigError(f"{_called(function)}: {message} See help({_called(function)[:-2]}).") from None


def _in_short(layers: object) -> str:
    """Return what was given as layers: numbers in full, modules by their class."""
    if isinstance(layers, Sequence):
        return f"a {type(layers).__name__} of {', '.join(sorted({type(one).__name__ for one in layers}))}"
    return repr(layers) if isinstance(layers, int) else f"a {type(layers).__name__}"


def _unknown(function: Callable[..., Any], name: str) -> str:
    """Say that there is no option of a name, and which there are."""
    known = [one for one in inspect.signature(function).parameters if one not in ("model", "data")]
    if name == "threads":
        hint = "Threads are a setting of the process: call torch.set_num_threads first."
    elif name in NetworkSource.model_fields:
        hint = "It belongs to netdissect.load_network."
    elif name in DissectConfig.model_fields:
        inner = nested_model(DissectConfig.model_fields[name])
        names = ", ".join(option for option, (_, leaf) in option_leaves().items() if leaf.path[0] == name)
        hint = f"Pass the fields of {inner.__name__ if inner else name} as keywords of their own: {names}."
    else:
        hint = suggestion(name, known)
    return f"{_called(function)} has no option {name!r}. {hint}"


def _called(function: Callable[..., Any]) -> str:
    return f"netdissect.{function.__name__}()"


def option_type(annotation: Any) -> str:
    """Return the type of an option as Python writes it: a list may be one value, a path a text.

    >>> option_type(tuple[int, ...]), option_type(Path | None)
    ('int | Sequence[int]', 'str | Path | None')
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return option_type(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(option_type, parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(json.dumps, parts))}]"
    if is_list(annotation):
        return f"{option_type(parts[0])} | Sequence[{option_type(parts[0])}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(option_type, parts))}]"
    return {NoneType: "None", Path: "str | Path"}.get(annotation, getattr(annotation, "__name__", str(annotation)))
