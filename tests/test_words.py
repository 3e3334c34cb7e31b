"""The words of names and pages: terms that were given up for those of the field do not come back."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from generated_pages import GENERATE
from netdissect import config
from netdissect.cli.app import app
from netdissect.result import schema, statistics_schema

CHECKOUT = Path(__file__).parents[1]
PAGES = [
    *(path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if not {"_build", "generated"} & {*path.parts}),
    *(
        CHECKOUT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md", "docs/notebook.ipynb")
    ),
]

TERMS = {
    r"(first|second|two) looks?": "threshold pass, counting pass",
    r"beside IoU": "extra metrics",
    r"by chance|chance (alone|gives|level|limit)|limit by chance": "permutation test, null",
    r"how sure": "confidence interval, statistics",
    r"(?<!/)pictures?": "image",
    r"bears? (a|the|its) label|labels? that \w+ bear|borne": "has label",
    r"silent(?= (unit|layer)s?\b)": "dead",
    r"speaks? for": "attribution to a class",
    r"switch(es|ed|ing)?( \w+){0,2} off": "ablate",
    r"taken up|takes? up what": "resumed, reused",
    r"first program": "the authors' Caffe code (2017)",
    r"bare loop": "plain inference loop",
    r"in miniature": "at synthetic scale",
    r"(drawn|small|synthetic) world": "synthetic data set",
    r"squash(ed|es|ing)?": "stretch",
    r"not established": "inconclusive",
}
"""What is not said on a page (a regular expression of whole words), and what is said in its place."""
WORDS = {
    "beside", "bears", "bearing", "borne", "chance", "evidence", "look", "looked", "looks", "miniature", "picture",
    "pictures", "recipe", "silent", "squash", "sure", "tallier", "tally", "told",
}  # fmt: skip
"""Words of which no option, column or public name consists."""
COLUMNS = {
    "number", "row", "on", "unique", "silent", "attainable", "maximum", "low", "high", "chosen_iou", "held_out",
    "chance_iou", "coverage", "detectors_by_chance", "unique_by_chance",
}  # fmt: skip
"""Columns that are called otherwise now."""
ROOMS = (
    "concepts", "models", "synthetic", "activations", "scoring", "result", "plots", "dissect", "training",
    "segmenters", "evaluation", "experiments", "report", "explorer",
)  # fmt: skip


def words(name: str) -> set[str]:
    """Return the words of a name: those between underscores and hyphens, and of CamelCase.

    >>> sorted(words("max_attainable-IoUOfUnits"))
    ['attainable', 'io', 'max', 'of', 'u', 'units']
    """
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)}


def said(term: str, texts: Mapping[str, str]) -> list[str]:
    """Return where a term stands."""
    pattern = re.compile(rf"\b(?:{term})\b", re.IGNORECASE)
    return [f"{name}: {match[0]}" for name, text in texts.items() for match in pattern.finditer(text)]


@pytest.mark.parametrize("term", TERMS)
def test_no_page_says_a_term_that_was_given_up(term: str) -> None:
    texts = {path.relative_to(CHECKOUT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
    assert not said(term, texts), f"say: {TERMS[term]}"


@pytest.fixture(scope="module")
def described() -> dict[str, str]:
    """All help and descriptions of the program."""
    return {page.__name__: page() for page in (GENERATE.commands, GENERATE.configuration, GENERATE.explorer_json)}


@pytest.mark.parametrize("term", TERMS)
def test_no_help_or_description_says_a_term_that_was_given_up(term: str, described: dict[str, str]) -> None:
    assert not said(term, described), f"say: {TERMS[term]}"


def options(command: object) -> Iterator[str]:
    """Yield the names of all options and commands below a command."""
    for name, below in getattr(command, "commands", {}).items():
        yield name
        yield from options(below)
    for parameter in getattr(command, "params", ()):
        yield from (name.lstrip("-") for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--"))


def test_no_command_or_option_is_called_by_a_word_that_was_given_up() -> None:
    assert not [name for name in options(typer.main.get_command(app)) if words(name) & WORDS]


def test_no_field_of_a_configuration_is_called_by_a_word_that_was_given_up() -> None:
    classes = (getattr(config, name) for name in config.__all__)
    models = [one for one in classes if inspect.isclass(one) and issubclass(one, BaseModel)]
    assert not [f"{model.__name__}.{name}" for model in models for name in model.model_fields if words(name) & WORDS]


def test_no_column_of_a_table_is_called_by_a_name_that_was_given_up() -> None:
    tables = [
        table for module in (schema, statistics_schema) for table in vars(module).values() if isinstance(table, dict)
    ]
    assert not {name for table in tables for name in table if name in COLUMNS or words(name) & WORDS}


def public_names() -> Iterator[str]:
    """Yield what can be imported from `netdissect` and its rooms, and the parameters of it."""
    for room in ("netdissect", *(f"netdissect.{name}" for name in ROOMS)):
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            yield f"{room}.{name}"
            thing = getattr(module, name)
            if inspect.isfunction(thing) or (inspect.isclass(thing) and not issubclass(thing, Exception)):
                yield from (f"{room}.{name}({one})" for one in inspect.signature(thing).parameters)


def names_in(path: Path) -> Iterator[str]:
    """Yield the names that a module defines: of functions, classes, parameters and variables."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_no_name_in_the_source_consists_of_a_word_that_was_given_up() -> None:
    things = {"_picture_frame"}  # drawn into scenes
    source = CHECKOUT / "src" / "netdissect"
    defined = {(path.name, name) for path in source.rglob("*.py") for name in names_in(path) if words(name) & WORDS}
    assert not {(path, name) for path, name in defined if name not in things}


def test_no_public_name_or_parameter_is_called_by_a_word_that_was_given_up() -> None:
    wrong = {name for name in public_names() if words(name.partition("netdissect")[2].rpartition(".")[2]) & WORDS}
    assert not wrong
