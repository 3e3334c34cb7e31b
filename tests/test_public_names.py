"""The public names: one list, which loads nothing before it is used."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import netdissect
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
