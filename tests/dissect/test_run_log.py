"""The log of a run folder: JSON lines, and nothing else in the process changes."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import strategies
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConceptsError
from networks import build

SETTINGS = DissectConfig(layers=("fc",), batch_size=3, protocol=strategies.definition("paper", 0.05).protocol)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_tells_what_happened_in_its_folder(broden: Path, tmp_path: Path) -> None:
    calls = itertools.count(1)

    def progress(*_: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    now = Execution(checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path, execution=now, progress=progress)
    dissect(build(), broden, config=SETTINGS, out=tmp_path, execution=now)
    found = lines(tmp_path)
    assert all({"time", "level", "event", "host", "pid"} <= line.keys() for line in found)
    events = [line["event"] for line in found if line["event"] != "checkpoint"]
    assert events == ["began", "planned", "checked layout", "finished stage", "interrupted", "began", "planned",
                      "finished stage", "resumed", *["finished stage"] * 3, "ended"]  # fmt: skip
    resumed = next(line for line in found if line["event"] == "resumed")
    assert (resumed["stage"], resumed["batches"]) == ("thresholds", 1)
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)


def test_what_went_wrong_is_in_the_log(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ConceptsError("the image is gone")

    with pytest.raises(ConceptsError, match="gone"):
        dissect(build(), broden, config=SETTINGS, out=tmp_path, progress=broken)
    last = lines(tmp_path)[-1]
    assert (last["level"], last["error"], last["message"]) == ("error", "ConceptsError", "the image is gone")


def test_the_process_logs_as_before(broden: Path, tmp_path: Path) -> None:
    loggers = [logging.getLogger(), logging.getLogger("netdissect")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    dissect(build(), broden, config=SETTINGS, out=tmp_path)
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    RunLog(tmp_path).event("anything")
    RunLog(None).event("anything")
