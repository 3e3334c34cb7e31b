"""What is installed with netdissect is what a dissection and its report need; the rest is asked for by its extra."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from netdissect.errors import MissingExtraError
from netdissect.extras import need

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "src"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROVIDED = {module: {canonicalize_name(name) for name in names} for module, names in packages_distributions().items()}


def names_of(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def installed_with(names: set[str]) -> set[str]:
    """Return distributions that pip installs with these, themselves included."""
    found, left = set(), set(names)
    while left:
        found |= left
        wanted = [Requirement(text) for name in left for text in requires(name) or ()]
        here = [wish for wish in wanted if wish.marker is None or wish.marker.evaluate({"extra": ""})]
        left = {canonicalize_name(wish.name) for wish in here} - found
    return found


def imported_by(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain} | {
        node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def test_every_package_of_the_base_is_imported_somewhere() -> None:
    imported = set().union(*(imported_by(path) for path in (SOURCE / "netdissect").rglob("*.py")))
    used = set().union(*(PROVIDED.get(module, set()) for module in imported))
    assert names_of(PROJECT["dependencies"]) <= used


def test_without_extras_every_module_loads_or_names_its_extra() -> None:
    installed = installed_with(names_of(PROJECT["dependencies"])) | {"netdissect"}
    hidden = [module for module, names in PROVIDED.items() if not names & installed]
    assert {"sklearn", "httpx", "fastapi", "timm"} <= set(hidden)
    files = [path.relative_to(SOURCE) for path in (SOURCE / "netdissect").rglob("*.py") if path.stem != "__main__"]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    code = f"""
import importlib, json
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *about: None if name in {hidden!r} else found(name, *about)
from netdissect.errors import MissingExtraError
asked = {{}}
for module in {sorted(modules)!r}:
    try:
        importlib.import_module(module)
    except MissingExtraError as error:
        asked[module] = str(error)
print(json.dumps(asked))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = {
        module: match[1]
        for module, message in json.loads(done.stdout).items()
        if (match := re.search(r"pip install 'netdissect\[(\w+)\]'", message))
    }
    assert set(asked.values()) == {"download", "experiments", "lightning", "serve", "transformers"}
    rooms = {module.split(".")[1] for module, extra in asked.items() if extra == "serve"}
    assert rooms == {"explorer"}
    whole = ("netdissect.cli", "netdissect.report", "netdissect.models", "netdissect.training.demo")
    assert not [module for module in asked if module.startswith(whole)]


def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(MissingExtraError, match=r"Rater agreement needs .*'krippendorff'.*'netdissect\[experiments\]'"):
        need("krippendorff", "experiments", "Rater agreement")
    assert need("json.decoder", "any", "Nobody") is json.decoder


def test_every_extra_that_is_asked_for_exists() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (SOURCE / "netdissect").rglob("*.py")]
    calls = [
        node
        for source in sources
        if "need(" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need"
    ]
    asked = {node.args[1].value for node in calls if isinstance(node.args[1], ast.Constant)}
    assert asked <= set(PROJECT["optional-dependencies"])
    assert {"experiments", "download", "serve"} <= asked
