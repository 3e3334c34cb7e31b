"""Where compiled loops are kept, and what happens where they cannot be."""

import importlib.util
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import platformdirs
import pytest
from numba.core import caching
from numba.core.registry import CPUDispatcher

import guarded
from netdissect import jit


@pytest.fixture
def user_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the package be installed where this user cannot write, and return the user's cache folder."""

    def refuse(_: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(jit._InPackage, "ensure_cache_path", refuse)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(jit.tempfile, "tempdir", str(tmp_path))
    jit._temporary_folder.cache_clear()
    return tmp_path / "cache" / "netdissect" / "compiled"


class Pair(NamedTuple):
    """What a version before may have had."""

    left: int
    right: int


def double(number: int) -> int:
    return 2 * number


def test_machine_code_of_a_read_only_installation_is_kept_in_a_folder_of_this_user_alone(user_folder: Path) -> None:
    assert jit.compiled(double)(21) == 42
    assert list(user_folder.glob("*/test_jit.double-*.nbi"))
    assert [path.stat().st_mode & 0o777 for path in (user_folder, *user_folder.iterdir())] == [0o700, 0o700]
    again = jit.compiled(double)
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1


def test_loops_are_compiled_into_a_temporary_folder_where_others_may_write_the_cache_folder(
    user_folder: Path, tmp_path: Path
) -> None:
    user_folder.mkdir(parents=True)
    user_folder.chmod(0o777)
    with pytest.warns(UserWarning, match=r"loops are compiled anew in each process.*Set NUMBA_CACHE_DIR") as warned:
        loop = jit.compiled(double)
    assert loop(21) == 42
    assert list(tmp_path.glob("netdissect-numba-*/**/*.nbi"))
    assert not list(user_folder.iterdir())
    jit.compiled(double)
    assert len(warned) == 1, "said once"


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_machine_code_that_finds_no_room_on_the_disk_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", full)
    assert jit.compiled(double)(4) == 8


def loop_of(path: Path, factor: int) -> CPUDispatcher:
    """Write a module with a loop, and compile it."""
    path.write_text(f"def scale(number):\n    return number * {factor}\n")
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return jit.compiled(module.scale)


def test_code_of_an_older_version_is_not_run_for_newer_code_that_was_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "code"))
    path = tmp_path / "module.py"
    assert loop_of(path, 3)(2) == 6
    with monkeypatch.context() as no_room:
        no_room.setattr(caching.IndexDataCacheFile, "_save_data", full)
        assert loop_of(path, 10)(2) == 20
    kept = loop_of(path, 10)
    assert (kept(2), sum(kept.stats.cache_hits.values())) == (20, 0)
    again = loop_of(path, 10)
    assert (again(2), sum(again.stats.cache_hits.values())) == (20, 1)
    assert len(list(tmp_path.rglob("*.nbc"))) == 1, "the code of the older version is removed"


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 60, -1])
def test_machine_code_that_was_cut_short_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str, left: int
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert jit.compiled(double)(4) == 8
    (path,) = tmp_path.rglob(f"*{ending}")
    path.write_bytes(path.read_bytes()[:left])
    cut = jit.compiled(double)
    assert jit.is_missing(cut, (numba.int64,)) == (ending == ".nbi")
    assert cut(4) == 8
    again = jit.compiled(double)
    assert (again(4), sum(again.stats.cache_hits.values())) == (8, 1)


IN_PLACE = """
import sys
import numpy as np
from netdissect.jit import compiled_in_place

@compiled_in_place
def double(values):
    for index in range(len(values)):
        values[index] *= 2

values = np.arange(3.0)
double(values)
print(values.tolist(), sum(double.stats.cache_hits.values()), "numba.np.linalg" in sys.modules)
"""


def test_a_later_process_loads_a_loop_without_all_that_numba_can_compile(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(IN_PLACE)
    command, variables = [sys.executable, tmp_path / "program.py"], os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    run = [subprocess.run(command, env=variables, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [each.stdout for each in run] == ["[0.0, 2.0, 4.0] 0 True\n", "[0.0, 2.0, 4.0] 1 False\n"]


def total(pair: tuple[int, int]) -> int:
    return pair[0] + pair[1]


def test_machine_code_for_a_type_that_is_gone_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    before = jit.compiled(total)
    assert (before(Pair(1, 2)), before.stats.cache_misses) == (3, {before.signatures[0]: 1})
    monkeypatch.delattr(f"{__name__}.Pair")
    after = jit.compiled(total)
    assert after((4, 5)) == 9
    again = jit.compiled(total)
    assert again((4, 5)) == 9
    assert sum(again.stats.cache_hits.values()) == 1


class Row(NamedTuple):
    """A row of an array."""

    values: npt.NDArray[np.float64]


def row_of(values: npt.NDArray[np.float64], index: int) -> Row:
    return Row(values[index])


def subtract_first_row(values: npt.NDArray[np.float64]) -> None:
    for index in range(len(values) - 1, -1, -1):
        row, first = PIECE(values, index).values, PIECE(values, 0).values
        for column in range(len(row)):
            row[column] -= first[column]


PIECE = jit.inlined(row_of)


def test_a_loop_in_place_counts_no_references_also_when_it_is_read_from_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    references = []
    for hits in (0, 1):
        loop, values = jit.compiled_in_place(subtract_first_row), np.arange(4.0).reshape(2, 2)
        references.append(sys.getrefcount(values))
        loop(values)
        assert values.tolist() == [[0, 0], [2, 2]]
        assert (sum(loop.stats.cache_hits.values()), sys.getrefcount(values)) == (hits, references[0])


def test_a_piece_becomes_machine_code_within_its_callers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    piece = jit.inlined(row_of)
    monkeypatch.setitem(globals(), "PIECE", piece)
    loop, values = jit.compiled_in_place(subtract_first_row), np.arange(4.0).reshape(2, 2)
    loop(values)
    assert values.tolist() == [[0, 0], [2, 2]]
    made = [{code.library._compiled for code in function.overloads.values()} for function in (loop, piece)]
    assert made == [{True}, {False}]


def test_pieces_are_part_of_loops_that_count_references_or_of_loops_that_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded.guard_all(monkeypatch)  # imports all modules with loops
    monkeypatch.undo()
    kinds: defaultdict[CPUDispatcher, set[bool]] = defaultdict(set)

    def visit(function: CPUDispatcher, in_place: bool) -> None:
        for name in function.py_func.__code__.co_names:
            called = function.py_func.__globals__.get(name)
            if isinstance(called, CPUDispatcher) and "forceinline" in called.targetoptions:
                kinds[called].add(in_place)
                visit(called, in_place)

    for name, module in list(sys.modules.items()):
        for loop in vars(module).values() if name.startswith("netdissect.") else ():
            if isinstance(loop, CPUDispatcher) and "forceinline" not in loop.targetoptions:
                visit(loop, loop.targetoptions.get("_nrt") is False)
    assert {True, False} <= set().union(*kinds.values())
    assert [piece for piece, of_loops in kinds.items() if len(of_loops) > 1] == []
