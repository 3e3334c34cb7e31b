"""Reference pages that follow from the program: commands, configuration, tables of a run, JSON, Python.

Each function returns one page in Markdown. ``python docs/generate.py`` writes them to `reference/generated/`; a test
compares what is there.
"""

import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import fill, indent
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from bibliography import bibliography
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from python_page import python

from netdissect import config, keywords
from netdissect.cli.app import app
from netdissect.compose_config import ComposeConfig
from netdissect.config_fields import Leaf, leaves, summary
from netdissect.evaluation.dictionaries.basis_metrics import BASIS_METRICS
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig
from netdissect.evaluation.evaluate_config import EvaluateConfig
from netdissect.evaluation.open_vocabulary.label_config import LabelConfig
from netdissect.experiments import functions
from netdissect.experiments.make_function import Parameter, experiment_parameters
from netdissect.experiments.registry import REGISTRY, load_experiment
from netdissect.keywords import option_leaves, option_type
from netdissect.result import schema, statistics_schema
from netdissect.result.formulas import formula_schema
from netdissect.result.result import RunInfo
from netdissect.scoring.metrics import METRICS, Metric
from netdissect.segment_config import SegmentConfig

DOCS = Path(__file__).parent
FOLDER = DOCS / "reference" / "generated"


def write() -> None:
    """Write all generated pages; a page that is the same already is left alone."""
    FOLDER.mkdir(exist_ok=True)
    for page in PAGES:
        path, text = FOLDER / f"{page.__name__}.md", page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; bars and line ends within cells are escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def prose(text: str | None) -> str:
    """Return a docstring or help text as one line of Markdown: what is marked up as code keeps one backtick."""
    return " ".join((text or "").replace("``", "`").split())


# Commands


def leaf_commands(command: Any, path: tuple[str, ...] = ("netdissect",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its words."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from leaf_commands(below, (*path, name))


def commands() -> str:
    """Return the page of all commands and options."""
    parts = ["# Commands\n\nEvery command, argument and option. `netdissect COMMAND -h` prints the same.\n"]
    for words, command in leaf_commands(typer.main.get_command(app)):
        context = command.make_context(words[-1], [], resilient_parsing=True)
        parts.append(f"## {' '.join(words[1:])}\n\n{inspect.cleandoc(command.help or '')}\n")
        usage = " ".join([*words, *command.collect_usage_pieces(context)])
        parts.append(f"```text\n{usage}\n```\n")
        panels: dict[str, list[tuple[str, ...]]] = {}
        for parameter in command.params:
            if "--help" not in parameter.opts and not getattr(parameter, "hidden", False):
                panel = parameter.rich_help_panel or ""
                panels.setdefault(panel, []).append(_parameter(parameter, context))
        for panel, rows in panels.items():
            title = f"**{panel}**\n\n" if panel else ""
            parts.append(title + table(("option", "value", "default", "meaning"), rows))
    return "\n".join(parts)


def _parameter(parameter: Any, context: Any) -> tuple[str, ...]:
    """Return one row: names, values, default and help of an argument or option."""
    names = " ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    kind = parameter.metavar or parameter.display_type(context).strip("<>").removesuffix(" range")
    bounds = [f" {sign} {bound}" for sign, bound in ((">=", parameter.min), ("<=", parameter.max)) if bound is not None]
    help_text, default = _split_default(prose(getattr(parameter, "help", "")))
    default = _shown_default(parameter, context) or default
    if parameter.param_type_name == "argument":
        return (f"`{kind}`", "argument", default, help_text)
    value = f"`{kind.removeprefix('list[').removesuffix(']')}{','.join(bounds)}`"
    if parameter.is_flag:
        value = ""
    elif parameter.multiple:
        value += ", repeats"
    return (names, value, default, help_text)


def _split_default(text: str) -> tuple[str, str]:
    """Take the default out of a help text that states it: options made of fields do, as unset they are None."""
    if " Required." in text:
        return text.replace(" Required.", ""), "required"
    found = re.search(r" Default: (.+?)\.(?= |$)", text)
    return (text.replace(found[0], ""), found[1]) if found else (text, "")


def _shown_default(parameter: Any, context: Any) -> str:
    """Return the default of an option as typer knows it; a flag without a negation is off."""
    default = parameter.get_default(context)
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False):
        return "yes" if default else ""
    return "" if default in (None, (), []) else f"`{default}`"


# Configuration


def configuration() -> str:
    """Return the page of everything that `config.json` and `run.json` hold."""
    parts = [
        "# Configuration and run.json\n\n"
        "Fields of the configuration of a run, in the order of `config.json`. In Python they are arguments of the "
        "class of the same name. The last sections are what `run.json` records.\n"
    ]
    models = (
        config.RunRequest,
        ComposeConfig,
        SegmentConfig,
        EvaluateConfig,
        EvaluateBasesConfig,
        LabelConfig,
        config.DissectConfig, config.Protocol, config.StatisticsConfig, config.Assumed, config.Execution,
        config.NetworkSource, *_below(RunInfo),
    )  # fmt: skip
    parts += [model_section(model) for model in dict.fromkeys(models)]
    return "\n".join(parts)


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and those that its fields hold."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                yield from _below(kind)


def model_section(model: type[BaseModel]) -> str:
    """Return a section: the fields of a model."""
    rows = [
        (f"`{name}`", f"`{_field_type(field)}`", _default(field), prose(field.description))
        for name, field in model.model_fields.items()
    ]
    return f"## {model.__name__}\n\n{prose(summary(model))}\n\n" + table(("field", "type", "default", "meaning"), rows)


def _field_type(field: Any) -> str:
    """Return the type of a field with its limits, which are those of a number, not of None."""
    kind = type_name(field.annotation)
    return kind.removesuffix(" or None") + _limits(field.metadata) + (" or None" if kind.endswith(" or None") else "")


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return f"`{field.default_factory.__name__}()`"
    return "" if field.default is PydanticUndefined else f"`{field.default!r}`"


def type_name(kind: Any) -> str:
    """Return a type as a reader writes it: literals as their values, choices joined by "or", limits as in algebra."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is Annotated:
        return type_name(parts[0]) + _limits(parts[1:])
    if origin in (Union, UnionType):
        return " or ".join(map(type_name, parts))
    if origin is not None:
        inner = ", ".join("..." if part is Ellipsis else type_name(part) for part in parts)
        return f"{origin.__name__}[{inner}]"
    return "None" if kind is NoneType else str(getattr(kind, "__name__", kind))


def _limits(metadata: Iterable[Any]) -> str:
    """Return the limits that annotations or a field set on a number."""
    found = [inner for one in metadata for inner in getattr(one, "metadata", [one])]
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [f" {sign} {getattr(one, name)}" for one in found for name, sign in signs.items() if hasattr(one, name)]
    return ",".join(limits)


# Tables of a run


def described_columns() -> dict[str, dict[str, str]]:
    """Return what each column of each table means, as `reference/columns.toml` and the registry of metrics say."""
    found: dict[str, dict[str, str]] = tomllib.loads((DOCS / "reference" / "columns.toml").read_text(encoding="utf-8"))
    scores = f"layers/NAME/{schema.STATISTICS_FOLDER}/scores.parquet"
    found[scores] |= {metric.name: _meaning(metric) for metric in METRICS}
    return found


def _meaning(metric: Metric[Any]) -> str:
    return f"{metric.meaning[0].upper()}{metric.meaning[1:]}."


def table_schemas() -> dict[str, dict[str, Any]]:
    """Return the columns and types of each table of a run, by its path below the run folder."""
    layer = "layers/NAME/"
    statistics = f"{layer}{schema.STATISTICS_FOLDER}/"
    return {
        "concepts.parquet": dict(schema.CONCEPTS),
        f"{layer}thresholds.parquet": dict(schema.THRESHOLDS),
        f"{layer}units.parquet": dict(schema.UNITS)
        | {f"CATEGORY-{part}": kind for part, kind in schema.COLUMNS_OF_EACH_CATEGORY.items()},
        f"{layer}scores.parquet": dict(schema.SCORES),
        f"{layer}top.parquet": dict(schema.TOP),
        f"{statistics}units.parquet": dict(statistics_schema.UNITS),
        f"{statistics}scores.parquet": dict(statistics_schema.SCORES),
        f"{statistics}counts.parquet": dict(statistics_schema.COUNTS),
        f"{statistics}null_counts.parquet": dict(statistics_schema.NULL_COUNTS),
        f"{statistics}replicates.parquet": dict(statistics_schema.REPLICATES),
        f"{statistics}sensitivity.parquet": dict(statistics_schema.SENSITIVITY),
        f"{statistics}images.parquet": dict(statistics_schema.IMAGES),
        f"{statistics}labels.parquet": dict(statistics_schema.LABELS),
        f"{statistics}masks.parquet": dict(statistics_schema.MASKS),
        f"{statistics}histogram.parquet": dict(statistics_schema.HISTOGRAM),
        f"{statistics}firing_map.parquet": dict(statistics_schema.FIRING_MAP),
        f"{statistics}activation_range.parquet": dict(statistics_schema.ACTIVATION_RANGE),
        f"{statistics}image_maxima.parquet": dict(statistics_schema.IMAGE_MAXIMA),
        f"{statistics}image_means.parquet": dict(statistics_schema.IMAGE_MEANS),
        f"{statistics}moments.parquet": dict(statistics_schema.MOMENTS),
        f"{statistics}linear_explanations.parquet": dict(statistics_schema.LINEAR_EXPLANATIONS),
        f"{statistics}iqr.parquet": dict(statistics_schema.IQR),
        "formulas/label-sets-DIGEST/label_sets.parquet": dict(formula_schema.LABEL_SETS),
        "formulas/label-sets-DIGEST/image_label_sets.parquet": dict(formula_schema.IMAGE_LABEL_SETS),
        "formulas/label-sets-DIGEST/mask_rows-N.parquet": dict(formula_schema.MASK_ROWS),
        "formulas/label-sets-DIGEST/ranges-N.parquet": dict(formula_schema.RANGES),
        "formulas/formulas-DIGEST/formulas.parquet": dict(formula_schema.FORMULAS),
        "formulas/range-formulas-DIGEST/formulas.parquet": dict(formula_schema.RANGE_FORMULAS),
        "formulas/formulas-DIGEST/permuted.parquet": dict(formula_schema.PERMUTED),
    }


def tables() -> str:
    """Return the page of the columns of all tables."""
    described = described_columns()
    parts = [
        "# Tables of a run\n\nColumns of every Parquet file of a run folder. [Files of a run](../run-folder.md) says "
        "what the files are, and when they are there.\n"
    ]
    for name, columns in table_schemas().items():
        meanings = described[name]
        if set(columns) != set(meanings) - {"_"}:
            differing = set(columns) ^ (set(meanings) - {"_"})
            raise ValueError(f"reference/columns.toml and the schema of {name} differ in {differing}")
        rows = [(f"`{column}`", f"`{kind}`", meanings[column]) for column, kind in columns.items()]
        parts.append(f"## {name}\n\n{meanings['_']}\n\n" + table(("column", "type", "meaning"), rows))
    return "\n".join(parts)


def metrics() -> str:
    """Return the page of the metrics besides IoU."""
    rows = [(f"`{metric.name}`", metric.title, metric.source, metric.meaning) for metric in METRICS]
    of_bases = [
        (f"`{metric.name}`", metric.title, metric.meaning, metric.interval or "-", metric.source)
        for metric in BASIS_METRICS
    ]
    return "".join(
        (
            "# Metrics\n\nWhat `--extra-metrics` measures, for the ten concepts of highest IoU of each unit. "
            "[Extra metrics](../../explanation/metrics.md) explains them.\n\n",
            table(("column", "title", "computed from", "meaning"), rows),
            "\n## Metrics of bases\n\nWhat `netdissect evaluate-bases` measures; see [Compare bases of a "
            "layer](../../howto/compare-bases.md). The columns `NAME_ci_low` and `NAME_ci_high` are the ends of a 95 % "
            "interval.\n\n",
            table(("column", "title", "meaning", "interval over", "source"), of_bases),
        )
    )


# Experiments


def experiment_list() -> str:
    """Return the page of all experiments, from their registry."""
    rows = []
    for name in REGISTRY:
        experiment = load_experiment(name)
        tables = ", ".join(f"`{table}`" for table in ("table", *experiment.extra_tables))
        rows.append((f"[{name}](../experiments.md#{name})", experiment.question, experiment.paper, tables))
    calls = [(f"`netdissect experiment {name}`", f"`{_call(name)}`") for name in REGISTRY]
    return (
        "# All experiments\n\nIn the order of the paper.\n\n"
        + table(("experiment", "question", "finding of the paper", "tables"), rows)
        + "\n## From the shell and from Python\n\nEach command has a function of `netdissect.experiments`. Its first "
        "parameters are listed here; its other parameters are named as the options of the command.\n\n"
        + table(("command", "function"), calls)
    )


def _call(name: str) -> str:
    """Return a call of the function of an experiment with what it cannot do without, and what comes by position."""
    parameters = experiment_parameters(name)
    named = [f"{each.name}=..." for each in parameters if each.required and not each.positional]
    return f"{name.replace('-', '_')}({', '.join([*(each.name for each in parameters if each.positional), *named])})"


# The explorer


def openapi() -> dict[str, Any]:
    """Return the OpenAPI description of the explorer's addresses."""
    explorer = FastAPI(title="netdissect explorer")
    routes = importlib.import_module("netdissect.explorer.routes")
    for module in pkgutil.iter_modules(routes.__path__, f"{routes.__name__}."):
        router = getattr(importlib.import_module(module.name), "router", None)
        if router is not None:
            explorer.include_router(router)
    return explorer.openapi()


def explorer_json() -> str:
    """Return the page of the explorer's JSON."""
    described = openapi()
    parts = [
        "# JSON of the explorer\n\nEvery address of `netdissect serve`, its parameters and what it answers. A running "
        "explorer describes the same at `/openapi.json`.\n"
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## {method.upper()} {path}\n\n{prose(operation.get('description'))}\n")
            rows = [_json_parameter(one) for one in operation.get("parameters", ())]
            if rows:
                parts.append(table(("parameter", "in", "type", "default", "meaning"), rows))
            if "requestBody" in operation:
                parts.append(f"Body: {_body(operation['requestBody']['content'])}.\n")
            parts.append(_answers(operation["responses"]))
    parts.append("## Models\n")
    for name, model in described["components"]["schemas"].items():
        rows = [
            (f"`{field}`", _linked(_json_type(one)), prose(one.get("description")))
            for field, one in model.get("properties", {}).items()
        ]
        parts.append(f"### {name}\n\n{prose(model.get('description'))}\n\n" + table(("field", "type", "meaning"), rows))
    return "\n".join(parts)


def _json_parameter(one: dict[str, Any]) -> tuple[str, ...]:
    """Return one row: name, place, type, default and meaning of a parameter."""
    kind = f"`{_json_type(one['schema'])}`"
    return (f"`{one['name']}`", one["in"], kind, _json_default(one), prose(one.get("description")))


def _json_type(kind: dict[str, Any]) -> str:
    """Return the type of a JSON value in words."""
    if "$ref" in kind:
        return str(kind["$ref"]).rpartition("/")[2]
    if "anyOf" in kind:
        return " or ".join(_json_type(one) for one in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        return " or ".join(repr(value) for value in kind.get("enum", [kind.get("const")]))
    if kind.get("type") == "array":
        inner = kind.get("items", {}) or {"anyOf": kind.get("prefixItems", [{}])[:1]}
        return f"array of {_json_type(inner)}"
    if kind.get("type") == "object" and isinstance(kind.get("additionalProperties"), dict):
        return f"object of {_json_type(kind['additionalProperties'])}"
    return str(kind.get("type", "any"))


def _linked(text: str) -> str:
    """Return a type in code; the last word, if it is a model, as a link to its section."""
    before, _, last = text.rpartition(" ")
    return f"`{text}`" if not last[:1].isupper() else f"{before} [{last}](#{last.lower()})".strip()


def _json_default(parameter: dict[str, Any]) -> str:
    if parameter.get("required"):
        return "required"
    default = parameter["schema"].get("default")
    return "" if default is None else f"`{default!r}`"


def _body(content: dict[str, Any]) -> str:
    models = {kind: _linked(_json_type(one["schema"])) for kind, one in content.items() if one.get("schema")}
    return ", ".join(models[kind] if kind == "application/json" else f"`{kind}`" for kind in content)


def _answers(responses: dict[str, Any]) -> str:
    rows = [(status, _body(one.get("content", {})), prose(one["description"])) for status, one in responses.items()]
    return table(("status", "content", "meaning"), rows)


PAGES = (commands, configuration, tables, metrics, experiment_list, explorer_json, python, bibliography)
"""Functions that return a page; each is written under its own name."""


# Types of keywords

EXPERIMENT_STUB = Path(functions.__file__).with_suffix(".pyi")


def experiment_stub() -> str:
    """Return the stub from which type checkers and editors read the functions of the experiments."""
    text = (
        '"""The functions of all experiments for type checkers and editors. Written by ``docs/generate.py``."""\n'
        "# fmt: off\n\nfrom collections.abc import Sequence\nfrom pathlib import Path\nfrom typing import Literal\n\n"
        "import torch\nfrom polars import DataFrame\n\n"
        + "".join(f"from netdissect.{home} import {name}\n" for home, name in STUB_IMPORTS.items())
    )
    for title, name in functions.NAMES.items():
        parameters = experiment_parameters(name)
        positional = [_stub_parameter(each) for each in parameters if each.positional]
        others = [_stub_parameter(each) for each in parameters if not each.positional]
        listed = indent(fill(", ".join([*positional, "*", *others]), 116, break_on_hyphens=False), "    ")
        text += f"\ndef {title}(\n{listed},\n) -> ExperimentResult: ...\n"
    return text


STUB_IMPORTS = {
    "concepts": "ConceptData",
    "config": "Progress",
    "experiments.outcome": "ExperimentResult",
    "experiments.training_dynamics.snapshots": "Snapshot",
    "models": "Network",
    "result": "Result",
    "training.classification_data": "LabeledImages",
    "training.task_images": "TaskImages",
}


def _stub_parameter(parameter: Parameter) -> str:
    return f"{parameter.name}: {parameter.type}{'' if parameter.required else ' = ...'}"


SOURCE = Path(keywords.__file__).parent


def dissect_options() -> str:
    """Return the module from which type checkers and editors read the options of a dissection."""
    found = {name: leaf for name, (_, leaf) in option_leaves().items()}
    meaning = "Keywords of `netdissect.dissect` and of the functions that take the same options."
    return _typed_dict_source("Options of a dissection", "DissectOptions", meaning, found)


def compose_options() -> str:
    """Return the module from which type checkers and editors read the options of formulas."""
    found = {leaf.keyword: leaf for leaf in leaves(ComposeConfig)}
    return _typed_dict_source("Options of formulas", "ComposeOptions", "Keywords of `netdissect.compose`.", found)


def segment_options() -> str:
    """Return the module from which type checkers and editors read the options of segmentations."""
    found = {leaf.keyword: leaf for leaf in leaves(SegmentConfig)}
    return _typed_dict_source("Options of segmentations", "SegmentOptions", "Keywords of `netdissect.segment`.", found)


def evaluate_options() -> str:
    """Return the module from which type checkers and editors read the options of scores of labels."""
    found = {leaf.keyword: leaf for leaf in leaves(EvaluateConfig)}
    meaning = "Keywords of `netdissect.evaluate` and `netdissect.sanity_checks`."
    return _typed_dict_source("Options of scores of labels", "EvaluateOptions", meaning, found)


def label_options() -> str:
    """Return the module from which type checkers and editors read the options of words."""
    found = {leaf.keyword: leaf for leaf in leaves(LabelConfig)}
    return _typed_dict_source("Options of words", "LabelOptions", "Keywords of `netdissect.label`.", found)


def _typed_dict_source(title: str, name: str, meaning: str, found: Mapping[str, Leaf]) -> str:
    fields = "\n".join(
        f"    {keyword}: {option_type(leaf.field.annotation)}\n" + _attribute_docstring(leaf.field.description or "")
        for keyword, leaf in found.items()
    )
    path = "from pathlib import Path\n" if "Path" in fields else ""
    literal = "Literal, " if "Literal" in fields else ""
    return (
        f'"""{title} for type checkers and editors. Written by ``docs/generate.py``: do not edit."""\n\n'
        f"from collections.abc import Sequence\n{path}from typing import {literal}TypedDict\n\n\n"
        f'class {name}(TypedDict, total=False):\n    """{meaning}"""\n\n{fields}'
    )


def _attribute_docstring(text: str) -> str:
    return indent(fill(f'"""{text}"""', 116), "    ") + "\n"


if __name__ == "__main__":
    write()
    EXPERIMENT_STUB.write_text(experiment_stub(), encoding="utf-8")
    for path, module in {
        "dissect_options.py": dissect_options,
        "dissect/compose/compose_options.py": compose_options,
        "dissect/segment/segment_options.py": segment_options,
        "evaluation/evaluate_options.py": evaluate_options,
        "evaluation/open_vocabulary/label_options.py": label_options,
    }.items():
        (SOURCE / path).write_text(module(), encoding="utf-8")
