"""The public names: one list, which loads nothing before it is used."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import netdissect
from generated_pages import DOCS, GENERATE
from netdissect.lazy import attach

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in (CHECKOUT / "src" / "netdissect").rglob("__init__.pyi"))
NAMES = [".".join(path.relative_to(CHECKOUT / "src").parts) for path in PACKAGES]


@pytest.mark.parametrize("package", NAMES)
def test_every_public_name_is_loaded_and_listed(package: str) -> None:
    room = importlib.import_module(package)
    assert set(dir(room)) >= set(room.__all__) != set()
    for name in room.__all__:
        assert getattr(room, name) is getattr(room, name)
    assert not hasattr(room, "no_such_name")


def test_a_stub_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_pets").mkdir()
    file = tmp_path / "lazy_pets" / "__init__.py"
    file.with_suffix(".pyi").write_text(
        "from . import fish as fish\nfrom .dog import bark as bark\nfrom .dog import dog as dog\n"
    )
    file.write_text("from netdissect.lazy import attach\n__getattr__, __dir__, __all__ = attach(__name__, __file__)\n")
    file.with_name("dog.py").write_text("def dog(): return 'wag'\ndef bark(): return 'woof'\n")
    file.with_name("fish.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    room = importlib.import_module("lazy_pets")
    assert room.__all__ == dir(room) == ["bark", "dog", "fish"]
    assert "lazy_pets.dog" not in sys.modules
    importlib.import_module("lazy_pets.dog")
    assert (room.bark(), room.dog()) == ("woof", "wag"), "the module of the same name does not replace the function"
    assert isinstance(room.fish, ModuleType)
    with pytest.raises(AttributeError, match="'lazy_pets' has no attribute 'cat'"):
        room.cat  # noqa: B018
    assert attach("lazy_pets", str(file))[2] == room.__all__


@pytest.mark.parametrize("module", ["dissect", "report"])
def test_a_function_keeps_its_name_when_a_package_of_that_name_is_imported(module: str) -> None:
    importlib.import_module(f"netdissect.{module}")
    assert not isinstance(getattr(netdissect, module), ModuleType)


FUNCTIONS_AND_PACKAGES = ("dissect", "report", "experiments.rotate")
SUBMODULES = "import netdissect.dissect.verify, netdissect.report.write, netdissect.experiments.rotate.figure"
HELP = """
import inspect, pydoc, sys
for path in sys.argv[2:]:
    package, _, name = path.rpartition(".")
    namespace = {}
    exec(f"from netdissect{package and '.' + package} import {name} as found; import netdissect", namespace)
    assert namespace["found"] is eval(f"netdissect.{path}", namespace) is not sys.modules.get(f"netdissect.{path}")
    text = pydoc.render_doc(namespace["found"], renderer=pydoc.plaintext)
    assert text.startswith(f"Python Library Documentation: function {name} in module netdissect"), text[:100]
    for parameter in inspect.signature(namespace["found"]).parameters:
        assert parameter in text.partition("Parameters")[2], parameter
"""


@pytest.mark.parametrize(
    "first",
    [
        "import netdissect",
        "import netdissect.dissect.verify, netdissect.report.write, netdissect.experiments.rotate.figure",
    ],
)
def test_help_shows_a_function_also_after_the_package_of_its_name_was_imported(first: str) -> None:
    program = f"{first}\n{HELP}\n{first}\n{HELP}"
    done = subprocess.run([sys.executable, "-c", program, "-", *FUNCTIONS_AND_PACKAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_reference_is_imported_from_where_it_says() -> None:
    page = GENERATE.python()
    modules, paths = (re.findall(rf"^{mark} (netdissect[\w.]*)$", page, re.MULTILINE) for mark in ("##", "###"))
    assert {"netdissect", "netdissect.experiments"} <= {*modules}
    assert len(paths) > 150
    for path in modules:
        assert isinstance(importlib.import_module(path), ModuleType)
    for path in paths:
        module, _, name = path.rpartition(".")
        namespace: dict[str, object] = {}
        exec(f"from {module} import {name} as found", namespace)  # noqa: S102 - as a user writes it
        found = namespace["found"]
        assert getattr(importlib.import_module(module), name) is found
        assert not isinstance(found, ModuleType), path


NAME = re.compile(r"(?<![\w./-])netdissect(?:\.[A-Za-z_]\w*)+")


def test_every_name_that_a_page_says_can_be_imported() -> None:
    pages = [path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & {*path.parts}]
    names: list[str] = []
    for path in [*pages, CHECKOUT / "README.md"]:
        prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        names += [name for code in re.findall(r"`([^`\n]+)`", prose) for name in NAME.findall(code)]
    assert "netdissect.list_layers" in names
    for name in sorted(set(names)):
        pkgutil.resolve_name(name)  # raises if there is none
