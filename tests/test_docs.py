"""The documentation: every page is reachable, every command parses, every Python example names what there is."""

import ast
import importlib
import inspect
import json
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import netdissect
from generated_pages import GENERATE, PYTHON_PAGE
from netdissect.cli.app import app

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
GENERATED = DOCS / "reference" / "generated"
FENCE = re.compile(r"^```(\w+)?.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


PAGES = sorted(path for path in DOCS.rglob("*.md") if GENERATED not in path.parents and "_build" not in path.parts)
TEXTS = [*PAGES, CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "benchmarks" / "RESULTS.md"]


def blocks(text: str, *languages: str) -> list[str]:
    """Return the code blocks of a page in some languages."""
    return [body for language, body in FENCE.findall(text) if language in languages]


def named(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


# Pages


def test_every_page_is_linked_once_from_the_index() -> None:
    listed = re.findall(r"^- \[.+\]\((.+)\)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    written = [path.relative_to(DOCS).as_posix() for path in PAGES if path.name != "index.md"]
    generated = [f"reference/generated/{page.__name__}.md" for page in GENERATE.PAGES]
    assert sorted(listed) == sorted([*written, *generated])


def test_every_page_is_plain_markdown() -> None:
    """Roles and directives of Sphinx are not shown by what shows Markdown in a repository."""
    found = {named(path): re.findall(r"\{[a-z:]+\}`|^```\{.*|^:::.*", path.read_text("utf-8"), re.M) for path in TEXTS}
    assert not {name: roles for name, roles in found.items() if roles}


def test_every_link_of_a_page_outside_the_documentation_leads_to_a_file() -> None:
    for page in (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).exists()]
        assert not missing, page


def test_every_experiment_has_its_section() -> None:
    text = (DOCS / "reference" / "experiments.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (\S+)$", text, re.MULTILINE))
    assert sections == {words[2] for words in COMMANDS if words[:2] == ("netdissect", "experiment")}


# Generated reference


@pytest.mark.parametrize("page", GENERATE.PAGES, ids=lambda page: page.__name__)
def test_a_generated_page_is_current(page: Any) -> None:
    text = page()
    assert text.startswith("# ")
    assert "None|" not in text
    written = (GENERATED / f"{page.__name__}.md").read_text(encoding="utf-8")
    assert written == text, "the program has changed: python docs/generate.py writes the pages anew"


PUBLIC = {
    f"{module}.{name}": thing for module, names in PYTHON_PAGE.public_names().items() for name, thing in names.items()
}


def test_the_python_page_has_every_public_name_where_it_says_and_no_others() -> None:
    sections = re.findall(r"^### (netdissect\S+)$", GENERATE.python(), re.MULTILINE)
    for path in sections:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is PUBLIC[path]
    modules = {name for name in netdissect.__all__ if isinstance(getattr(netdissect, name), ModuleType)}
    assert {f"netdissect.{name}" for name in set(netdissect.__all__) - modules} <= set(sections)
    assert {getattr(netdissect, name).__name__ for name in modules} <= set(PYTHON_PAGE.public_modules())


def documented_parameters(docstring: str | None) -> set[str]:
    """Return the names below the heading Parameters of a docstring."""
    text = inspect.cleandoc(docstring or "")
    found = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-{3,}$|\Z)", text, re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^([\w*].*?)(?: : .*)?$", found[1], re.MULTILINE) if found else []
    return {name for head in heads for name in head.split(", ")}


def wrong_parameters(code: str) -> dict[str, set[str]]:
    """Return the names that docstrings of functions call parameters though they are none."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            known = {one.arg for one in arguments}
            known |= {f"*{node.args.vararg.arg}"} if node.args.vararg else set()
            known |= {f"**{node.args.kwarg.arg}"} if node.args.kwarg else set()
            if unknown := documented_parameters(ast.get_docstring(node)) - known:
                found[node.name] = unknown
    return found


def test_docstrings_name_parameters_that_there_are() -> None:
    sources = sorted((CHECKOUT / "src").rglob("*.py"))
    wrong = {named(path): wrong_parameters(path.read_text(encoding="utf-8")) for path in sources}
    assert not {path: names for path, names in wrong.items() if names}
    docstring = "F.\n\n    Parameters\n    ----------\n    x, z : int\n        A.\n    *y\n        B.\n    "
    example = f'def f(x, *y):\n    """{docstring}"""'
    assert wrong_parameters(example) == {"f": {"z"}}


def test_the_page_on_installation_names_every_extra_that_a_user_needs() -> None:
    text = (DOCS / "howto" / "install.md").read_text(encoding="utf-8")
    named_there = {name for row in re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE) for name in INLINE.findall(row)}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named_there == set(project["optional-dependencies"]) - {"docs", "dev"}


def test_every_option_has_help() -> None:
    without = [
        (" ".join(words), parameter.name)
        for words, command in COMMANDS.items()
        for parameter in command.params
        if not (getattr(parameter, "help", None) or "").strip()
    ]
    assert not without


def test_a_column_without_a_description_stops_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    described = GENERATE.described_columns()
    del described["concepts.parquet"]["concept"]
    monkeypatch.setattr(GENERATE, "described_columns", lambda: described)
    with pytest.raises(ValueError, match=r"concepts\.parquet differ in \{'concept'\}"):
        GENERATE.tables()


# Commands

COMMANDS: dict[tuple[str, ...], Any] = dict(GENERATE.leaf_commands(typer.main.get_command(app)))


def command_lines(text: str) -> Iterator[str]:
    """Yield every call of netdissect in the shell blocks and inline code of a page."""
    for block in blocks(text, "sh", "console", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            quoted = re.search(r'"(netdissect [^"]+)"', line)
            yield from ([quoted[1]] if quoted else [line.removeprefix("$ ")] if "netdissect " in line else [])
    prose = FENCE.sub("", text)
    yield from (code for code in INLINE.findall(prose) if code.startswith("netdissect "))


def problem(line: str, *, whole: bool) -> str | None:
    """Say why a command line cannot be parsed; `whole`: required options must be there."""
    words = shlex.split(re.sub(r"[\[\]]|(?<=--json) > \S+$", " ", line), comments=True)
    if words[0] != "netdissect":
        return None  # such as an environment variable or another program
    if words[1:] in ([], ["-h"], ["--help"]) or words[1].isupper():
        return None
    path = next((path for path in COMMANDS if tuple(words[: len(path)]) == path), None)
    if path is None:
        group = any(path[: len(words)] == tuple(words) for path in COMMANDS)
        return None if group and not whole else f"there is no command {' '.join(words[:3])!r}"
    command, given = COMMANDS[path], words[len(path) :]
    if given in (["-h"], ["--help"]):
        return None
    context = command.make_context(path[-1], [], resilient_parsing=True)
    context.resilient_parsing = False
    try:
        values, more, _ = command.make_parser(context).parse_args(args=[*given])
        there = {one for one in command.params if values.get(one.name) not in (None, (), [])}
        for parameter in there:
            if parameter.callback is None and not any(word.isupper() for word in given):
                parameter.process_value(context, values[parameter.name])
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"
    # What a run is repeated from says everything else that it needs.
    missing = [one.name for one in command.params if one.required and one not in there and "--config" not in given]
    return f"{more or missing} is too much or missing" if whole and (more or missing) else None


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_command_of_a_page_parses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    in_blocks = set(command_lines("".join(f"```sh\n{block}```\n" for block in blocks(text, "sh", "console", "bash"))))
    wrong = {line: problem(line, whole=line in in_blocks) for line in command_lines(text)}
    assert not {line: reason for line, reason in wrong.items() if reason}


def test_a_wrong_command_is_seen() -> None:
    assert problem("netdissect show run --layers conv5", whole=True)
    assert problem("netdissect shows run", whole=True)
    assert problem("netdissect report", whole=True)
    assert problem("netdissect count run --rule best", whole=True)
    assert not problem("netdissect show run --layer conv5  # one layer", whole=True)


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_option_that_a_page_names_is_one_of_some_command(path: Path) -> None:
    options = [one for command in COMMANDS.values() for one in command.params]
    known = {name for one in options for name in (*one.opts, *one.secondary_opts)}
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    found = {name for code in INLINE.findall(prose) for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)}
    others = {"--growth", "--count", "--places", "--minutes", "--help", "--table"}  # of benchmarks and scripts
    assert found - known - others == set()


@pytest.fixture(scope="module")
def addresses() -> list[re.Pattern[str]]:
    """What the addresses of the explorer look like."""
    return [re.compile(re.sub(r"\{\w+\}", "[^/]+", address)) for address in GENERATE.openapi()["paths"]]


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_address_of_the_explorer_that_a_page_names_is_there(path: Path, addresses: list[re.Pattern[str]]) -> None:
    found = re.findall(r"/api/[\w/{}.-]+", path.read_text(encoding="utf-8"))
    assert not [address for address in found if not any(one.fullmatch(address) for one in addresses)]


# Python


@dataclass(frozen=True)
class Instance:
    """A value of which the class is known."""

    kind: type


class Examples:
    """Follow the names of netdissect through a page of Python, as far as annotations tell what they are."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.wrong: dict[str, None] = {}

    def run(self, code: str) -> None:
        """Read one block; names of earlier blocks stay known."""
        for node in ast.parse(code).body:
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
            return
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute | ast.Call):
                self._value(child)
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    self.names[target.id] = self._value(value)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = getattr(node, "module", None)
        for alias in node.names:
            if not (module or alias.name).startswith("netdissect"):
                continue
            found = importlib.import_module(module or alias.name)
            if module and not hasattr(found, alias.name):
                self.wrong[f"{module} has no {alias.name}"] = None
            elif module:
                self.names[alias.asname or alias.name] = getattr(found, alias.name)
            else:
                self.names["netdissect"] = importlib.import_module("netdissect")

    def _value(self, node: ast.AST) -> Any:
        """Return the object or the `Instance` that an expression is; None if that is unknown."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(self._value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self._call(self._value(node.func), node)
        return None

    def _attribute(self, owner: Any, name: str) -> Any:
        kind = owner.kind if isinstance(owner, Instance) else None
        if kind is None and not isinstance(owner, ModuleType):
            if inspect.isfunction(owner):
                self.wrong[f"{owner.__name__} has no {name}"] = None
            return getattr(owner, name, None) if inspect.isclass(owner) else None
        if kind is None or hasattr(kind, name):
            if not hasattr(kind or owner, name):
                self.wrong[f"{(kind or owner).__name__} has no {name}"] = None
                return None
            found = inspect.getattr_static(kind, name) if kind else getattr(owner, name)
            return _returned(found.fget) if isinstance(found, property) else found
        hints = typing.get_type_hints(kind)
        if name not in hints:
            self.wrong[f"{kind.__name__} has no {name}"] = None
        return _instance(hints.get(name))

    def _call(self, called: Any, node: ast.Call) -> Any:
        if isinstance(called, ModuleType):  # rooms with the name of their function can be called
            called = getattr(called, called.__name__.rpartition(".")[2], None)
        if isinstance(called, staticmethod | classmethod):
            called = called.__func__
        if not (inspect.isfunction(called) or inspect.isclass(called) or inspect.ismethod(called)):
            return None
        parameters = inspect.signature(called).parameters
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            for word in node.keywords:
                if word.arg is not None and word.arg not in parameters:
                    self.wrong[f"{called.__qualname__} takes no {word.arg}"] = None
        return Instance(called) if inspect.isclass(called) else _returned(called)


def _returned(called: Any) -> Instance | None:
    try:
        return _instance(typing.get_type_hints(called).get("return"))
    except NameError:
        return None


def _instance(kind: Any) -> Instance | None:
    ours = inspect.isclass(kind) and kind.__module__.startswith("netdissect")
    return Instance(kind) if ours else None


@pytest.mark.parametrize("path", [path for path in TEXTS if "```python" in path.read_text(encoding="utf-8")], ids=named)
def test_the_python_of_a_page_names_what_there_is(path: Path) -> None:
    examples = Examples()
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        examples.run(block)
    assert not list(examples.wrong)


def test_the_page_on_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "howto" / "call-from-python.md").read_text(encoding="utf-8")
    exec("\n".join(blocks(text, "python")), {})  # noqa: S102 - our own page
    printed = capsys.readouterr().out
    assert "counting is finished" in printed
    assert "netdissect.dissect(): split cannot be 'test': input should be 'train' or 'val'. " in printed
    assert (tmp_path / "run" / "run.json").exists()


def test_the_python_of_the_notebook_names_what_there_is() -> None:
    examples = Examples()
    for cell in json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            examples.run("".join(cell["source"]))
    assert not list(examples.wrong)


def test_a_wrong_example_is_seen() -> None:
    examples = Examples()
    examples.run(
        "import netdissect\nresult = netdissect.load_result('run')\nresult.layer('a').maps\nnetdissect.open('run')"
    )
    examples.run("netdissect.report.unit(result)")
    examples.run("from netdissect import DissectConfig, Nothing\nDissectConfig(layer='conv5')")
    assert set(examples.wrong) == {
        "netdissect has no open",
        "LayerResult has no maps",
        "report has no unit",
        "netdissect has no Nothing",
        "DissectConfig takes no layer",
    }
