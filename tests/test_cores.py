"""How many cores a process takes by default."""

import os
import sys

import pytest
import torch

from netdissect.compose_config import ComposeConfig
from netdissect.config import Execution
from netdissect.process.cores import available_cores


def test_a_formula_search_takes_all_cores_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(2, 8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == ComposeConfig().threads == 6
    assert ComposeConfig(workers=3).threads == 3


def test_where_a_process_has_no_list_of_cores_all_of_the_machine_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert available_cores() == 10


def test_a_dissection_takes_the_threads_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert Execution().threads == 5
    assert Execution(workers=3).threads == 3
