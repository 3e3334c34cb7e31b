"""Compiled loops where nothing can be kept."""

from pathlib import Path
from typing import NamedTuple

import numba
import pytest
from numba.core import caching

from netdissect import jit


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let neither the package nor the user's folder be written, and return where temporary folders are."""
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(jit.tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Pair(NamedTuple):
    """What a version before may have had."""

    left: int
    right: int


def double(number: int) -> int:
    return 2 * number


def test_loops_are_compiled_into_a_temporary_folder_where_nothing_else_can_be_written(nowhere: Path) -> None:
    with pytest.raises(RuntimeError, match="no locator available"):
        jit._njit(double)
    with pytest.warns(UserWarning, match=r"loops are compiled anew in each process.*Set NUMBA_CACHE_DIR") as warned:
        loop = jit.compiled(double)
    assert loop(21) == 42
    assert list(nowhere.glob("netdissect-numba-*/**/*.nbi"))
    jit.compiled(double)
    assert len(warned) == 1, "said once"


def test_machine_code_that_finds_no_room_on_the_disk_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *_: None)
    assert jit.compiled(double)(4) == 8


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
