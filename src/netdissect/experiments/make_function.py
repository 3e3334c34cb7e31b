"""Make the function of an experiment: ``rotate(model, data, layer="conv5", rotations=5)``.

    experiment_function("rotate") -> rotate(model, data, *, layer, rotations=5, ..., out=None, progress=None)
    run_experiment("rotate", inputs, out, progress) -> ExperimentResult, saved in OUT if there is one

The registry declares it: the fields of an experiment's inputs are the options of its command and the parameters of its
function, with the same names, defaults and descriptions. Positional are what the command takes by position, and the
data set.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from netdissect.config import one_or_more
from netdissect.config_fields import (
    Leaf,
    default_value,
    is_list,
    leaves,
    merge_values,
    mistake,
    plain_type,
    put_value,
    suggestion,
)
from netdissect.errors import ConfigError
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.registry import REGISTRY, Experiment, load_experiment
from netdissect.keywords import option_type
from netdissect.progress import ShowProgress, shown

MODEL = "Network | torch.nn.Module | str"
TYPES = {
    "model": MODEL,
    "models": f"{MODEL} | Sequence[{MODEL}]",
    "network": MODEL,
    "control": MODEL,
    "sources": f"Result | Path | {MODEL} | Sequence[Result | Path | {MODEL}]",
    "data": "ConceptData | str | Path",
}
"""Types of the parameters whose values are checked by what opens them."""
PREPROCESSING = "preprocessing"
COMMON = {
    PREPROCESSING: ("object", "How the input of a bare module is made from an image; see `netdissect.as_network`."),
    "out": ("str | Path | None", "Folder of result and runs; the same call resumes there. None: nothing is kept."),
    "progress": (
        "Progress | bool | None",
        "None or True: bars on a terminal or in a notebook. False: none. Or a function of stage, done and total.",
    ),
}
"""Parameters that are no options, with type and meaning; their default is None."""


class Parameter(NamedTuple):
    """One parameter of the function of an experiment.

    Attributes
    ----------
    name
        As it is called.
    type
        As Python writes it.
    default
        Its value if it is left out.
    required
        Whether it has none.
    meaning
        In words.
    leaf
        The option that it is; None: of `COMMON`.
    """

    name: str
    type: str
    default: object
    required: bool
    meaning: str
    leaf: Leaf | None

    @property
    def positional(self) -> bool:
        """Whether it may be given by position."""
        return self.leaf is not None and (self.leaf.option.argument or self.leaf.path == ("data",))


def run_experiment(name: str, inputs: BaseModel, out: Path | None, progress: ShowProgress = None) -> ExperimentResult:
    """Run an experiment and save its result.

    Parameters
    ----------
    name
        In the registry.
    inputs
        Of this experiment.
    out
        Folder of the result and its runs; None: nothing is kept.
    progress
        Of every stage.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory())) if out is None else out
        result = load_experiment(name).run(inputs, folder, stack.enter_context(shown(progress)))
    if out is not None:
        from netdissect.experiments.result_files import save_experiment_result  # draws figures

        save_experiment_result(result, result_folder(name, out))
    return result


def result_folder(name: str, out: Path) -> Path:
    """Return where the result of an experiment is saved."""
    return out / name if load_experiment(name).in_subfolder else out


def experiment_function(name: str) -> Callable[..., ExperimentResult]:
    """Make the function of an experiment.

    Parameters
    ----------
    name
        In the registry.

    Returns
    -------
    function
        It raises `netdissect.errors.ConfigError` for unknown names and wrong values.
    """
    experiment, parameters = load_experiment(name), experiment_parameters(name)
    title, signature = name.replace("-", "_"), _signature(parameters)

    def function(*args: Any, **given: Any) -> ExperimentResult:
        values = _bound(title, signature, args, given)
        out, progress = values.pop("out", None), values.pop("progress", None)
        inputs = _inputs(title, experiment, parameters, values)
        return run_experiment(name, inputs, None if out is None else Path(out), progress)

    function.__name__ = function.__qualname__ = title
    function.__module__ = __package__
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = _docstring(name, experiment, parameters)
    return function


def experiment_parameters(name: str) -> list[Parameter]:
    """Return the parameters of the function of an experiment: those by position, required ones, its own, all others."""
    experiment = load_experiment(name)
    found = [_parameter(experiment, leaf) for leaf in leaves(experiment.inputs)]
    found.sort(
        key=lambda each: (not each.positional, not each.required, _panel(each) is not None, _panel(each) == "Network")
    )
    common = [Parameter(each, kind, None, False, text, None) for each, (kind, text) in COMMON.items()]
    loads = PREPROCESSING in experiment.inputs.model_fields
    return [*found, *(each for each in common if loads or each.name != PREPROCESSING)]


def _panel(parameter: Parameter) -> str | None:
    return None if parameter.leaf is None else parameter.leaf.option.panel


def _parameter(experiment: Experiment, leaf: Leaf) -> Parameter:
    default = default_value(experiment.defaults, leaf)
    # Arguments of a command have names for its usage line alone.
    name = leaf.path[-1] if leaf.option.argument or leaf.path == ("data",) else leaf.keyword
    required = leaf.field.is_required() and default is None
    kind = option_type(leaf.field.annotation)
    if name in TYPES:
        kind = TYPES[name] if required or default is not None else f"{TYPES[name]} | None"
    return Parameter(name, kind, default, required, leaf.field.description or "", leaf)


def _signature(parameters: list[Parameter]) -> inspect.Signature:
    made = (
        inspect.Parameter(
            each.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if each.positional else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.required else each.default,
        )
        for each in parameters
    )
    return inspect.Signature(list(made), return_annotation=ExperimentResult)


def _bound(title: str, signature: inspect.Signature, args: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name; what is missing is found by the validation."""
    for name in given:
        if name not in signature.parameters:
            raise ConfigError(
                f"netdissect.experiments.{title}() has no option {name!r}. {suggestion(name, signature.parameters)}"
            )
    try:
        return dict(signature.bind_partial(*args, **given).arguments)
    except TypeError as error:
        positional = [each.name for each in signature.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
        raise ConfigError(
            f"netdissect.experiments.{title}() was called with {len(args)} values by position ({error}). Expected "
            f"{', '.join(positional) or 'none'} by position, each once, and all others by name."
        ) from None


def _inputs(title: str, experiment: Experiment, parameters: list[Parameter], values: Mapping[str, Any]) -> BaseModel:
    """Return the validated inputs of a call."""
    leaf_of, given = {each.name: each.leaf for each in parameters}, dict[str, Any]()
    for name, value in values.items():
        leaf = leaf_of[name]
        several = leaf is not None and is_list(plain_type(leaf.field.annotation)) and value is not None
        put_value(given, (name,) if leaf is None else leaf.path, one_or_more(value) if several else value)
    try:
        return experiment.inputs.model_validate(merge_values(experiment.inputs, experiment.defaults, given))
    except ValidationError as error:
        at = error.errors()[0]["loc"]
        name, leaf = next(_options_at(parameters, at), (".".join(map(str, at)), None))
        message = mistake(error, name, leaf.path, leaf.option.metavar) if leaf else mistake(error, name, ())
        raise ConfigError(
            f"netdissect.experiments.{title}(): {message} See help(netdissect.experiments.{title})."
        ) from None


def _options_at(parameters: list[Parameter], at: tuple[int | str, ...]) -> Iterator[tuple[str, Leaf]]:
    """Yield the options of a location in the inputs, or below it."""
    for each in parameters:
        if each.leaf is not None and each.leaf.path[: len(at)] == at[: len(each.leaf.path)]:
            yield each.name, each.leaf


def _docstring(name: str, experiment: Experiment, parameters: list[Parameter]) -> str:
    """Return a docstring as numpydoc has it: what the experiment asks, its parameters, its result."""
    paper = fill(f"The paper: {experiment.paper}", 116)
    listed = "\n".join(
        f"{each.name} : {each.type}{'' if each.required else f', default {each.default!r}'}\n"
        + fill(each.meaning, 116, initial_indent="    ", subsequent_indent="    ")
        for each in parameters
    )
    tables = " and ".join(f"`{table}`" for table in experiment.extra_tables)
    return (
        f"{REGISTRY[name].summary}\n\n{experiment.question}\n\n{paper}\n\nParameters\n----------\n{listed}\n\n"
        "Returns\n-------\nExperimentResult\n"
        f"    Its `table`, `figure`, `conclusion`{f', and `extra_tables` {tables}' if tables else ''}.\n\n"
        "Raises\n------\nNetdissectError\n    Of the kind that `netdissect.errors` names.\n"
    )
