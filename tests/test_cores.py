"""How many cores a process takes by default."""

import os
import sys

import pytest

from netdissect.config import Execution
from netdissect.process.cores import available_cores


@pytest.mark.parametrize(("variable", "cores"), [("", 6), ("4", 4), ("8", 6), ("0", 6), ("4,2", 6)])
def test_all_cores_of_the_process_are_taken_unless_fewer_threads_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, variable: str, cores: int
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(2, 8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert available_cores() == Execution().threads == cores
    assert Execution(workers=3).threads == 3


def test_where_a_process_has_no_list_of_cores_all_of_the_machine_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert available_cores() == 10
