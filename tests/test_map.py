"""The map of the source: few modules in a folder, one name for one module and one class, and where new code goes."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "netdissect"
MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__init__.py"]
MOST = 16
MIRRORED = {"experiment", "figure"}
"""Every experiment's folder has these."""


def test_no_folder_holds_more_modules_than_one_sees_at_a_glance() -> None:
    folders = defaultdict(list)
    for path in MODULES:
        folders[path.parent.relative_to(SOURCE).as_posix()].append(path.stem)
    assert not {folder: len(names) for folder, names in folders.items() if len(names) > MOST}


def test_no_two_modules_have_one_name_but_those_that_mirror_each_other() -> None:
    places = defaultdict(list)
    for path in MODULES:
        if path.stem not in MIRRORED and "cli" not in path.relative_to(SOURCE).parts:
            places[path.stem].append(path.relative_to(SOURCE).as_posix())
    assert not {stem: paths for stem, paths in places.items() if len(paths) > 1}


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(set)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].add(path.relative_to(SOURCE).as_posix())
    assert not {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}
