"""Progress on standard error: where it is shown, what it says, and that nothing is written elsewhere."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import pytest

import netdissect
import strategies
from netdissect.dissect.callbacks.dissect_every import DissectEvery
from netdissect.errors import ConfigError
from netdissect.progress import Display, shown
from netdissect.result.summary import count_sentence, measured_count
from networks import COVERAGE, SIDE, build, images

PLAN = re.compile(r"one forward pass .*over 7 images for \d+ units of ")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True

    def text(self) -> str:
        """Return what was written, without control codes."""
        return CONTROL.sub("", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    written = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return written


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard error of a kernel, which is no terminal."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return io.StringIO()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(), COVERAGE, image=(SIDE, SIDE))


def dissected(root: Path, **options: object) -> netdissect.Result:
    return netdissect.dissect(build(), root, layers=["wide_relu", "fc"], bootstrap=5, permutations=3, **options)


def sentences(result: netdissect.Result) -> list[str]:
    quantile = result.info.config.protocol.quantiles[0]
    return [f"{name}: {count_sentence(measured_count(result, name, quantile))}" for name in result.layers]


def test_a_terminal_shows_plan_bars_and_the_counts_of_each_layer(root: Path, terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        result = dissected(root)
    lines = [line.strip() for line in re.split(r"[\r\n]+", terminal.text())]
    plan = next(at for at, line in enumerate(lines) if PLAN.match(line))
    first_bar = next(at for at, line in enumerate(lines) if line.startswith("thresholds "))
    bars = next(at for at, line in enumerate(lines) if re.match(r"counting .*7/7", line))
    counts = [at for at, line in enumerate(lines) if line in sentences(result)]
    assert plan < first_bar < bars < counts[0]
    assert len(counts) == 2


def test_a_notebook_shows_one_line_for_each_stage(root: Path, notebook: io.StringIO) -> None:
    with redirect_stderr(notebook):
        result = dissected(root)
    lines = [line.rpartition("\r")[2].strip() for line in notebook.getvalue().split("\n")]
    assert PLAN.match(lines[0])
    assert [line.split()[:2] for line in lines[1:3]] == [["thresholds", "7/7"], ["counting", "7/7"]]
    assert lines[-3:] == [*sentences(result), ""]


def test_a_stage_that_ends_early_does_not_share_its_line(notebook: io.StringIO) -> None:
    with redirect_stderr(notebook), shown() as display:
        display("thresholds", 3, 1000)
        display("counting", 2, None)
        display.line("a line")
        display("counting", 5, 5)
        display("thresholds", 3, 1000)
    lines = [re.sub(r"\s+\S*/s\s*$", "", line).strip() for line in notebook.getvalue().split("\n")]
    assert lines == ["thresholds  3/1,000", "counting  2", "a line", "counting  5/5", "thresholds  3/1,000", ""]


def test_nothing_is_written_where_nobody_watches(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dissected(root)
    dissected(root, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_progress_false_writes_nothing(place: str, root: Path, request: pytest.FixtureRequest) -> None:
    written = request.getfixturevalue(place)
    with redirect_stderr(written):
        dissected(root, progress=False)
    assert written.getvalue() == ""


def test_a_function_is_called_in_place_of_the_bars(root: Path, terminal: Terminal) -> None:
    seen: list[tuple[str, int, int | None]] = []
    with redirect_stderr(terminal):
        dissected(root, progress=lambda *report: seen.append(report))
    assert {("thresholds", 7, 7), ("counting", 7, 7)} <= set(seen)
    assert terminal.getvalue() == ""


def test_a_shard_shows_its_plan(root: Path, terminal: Terminal, tmp_path: Path) -> None:
    with redirect_stderr(terminal):
        netdissect.dissect_shard(build(), root, shard="1/1", out=tmp_path / "run", layers="fc", bootstrap=5)
    assert PLAN.search(terminal.text())


@pytest.mark.parametrize("progress", [None, False])
def test_what_takes_long_shows_its_progress(
    progress: bool | None, root: Path, terminal: Terminal, tmp_path: Path
) -> None:
    result = dissected(root, progress=False)
    stages = {
        "label maps": lambda: netdissect.write_synthetic(tmp_path / "synthetic", images=2, progress=progress),
        "images": lambda: netdissect.inspect_dataset(root, progress=progress),
        "report": lambda: netdissect.report(result, tmp_path / "report", progress=progress),
        "verify": lambda: netdissect.verify_sample(result, 1, network=build(), progress=progress),
    }
    for stage, function in stages.items():
        with redirect_stderr(terminal):
            function()
        assert (stage in terminal.text()) == (progress is None)
        terminal.truncate(0)


def test_a_dissection_during_a_training_leaves_the_terminal_alone(
    root: Path, terminal: Terminal, tmp_path: Path
) -> None:
    network = build()
    watch = DissectEvery(root, every=1, out=tmp_path, layers="fc", preprocessing=network.preprocessing, bootstrap=5)
    with redirect_stderr(terminal):
        assert watch(network.module, 1) is not None
    assert terminal.getvalue() == ""


def test_a_display_that_is_passed_on_stays_the_same_and_shows_no_counts(root: Path, terminal: Terminal) -> None:
    with redirect_stderr(terminal), shown() as display:
        with shown(display) as inner:
            assert inner is display
        result = dissected(root, progress=display)
    assert "thresholds" in terminal.text()
    assert not any(sentence in terminal.text() for sentence in sentences(result))


@pytest.mark.parametrize("progress", ["yes", 1, [print]])
def test_another_progress_is_refused(progress: object) -> None:
    with (
        pytest.raises(ConfigError, match=r"progress cannot be .*\. Expected True, False, None, or a function of stage"),
        shown(progress),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.parametrize(("always", "kind"), [(False, "Display"), (True, "_Bars")])
def test_the_command_line_shows_progress_also_in_a_pipe(always: bool, kind: str) -> None:
    with redirect_stderr(io.StringIO()), shown(always=always) as display:
        assert type(display).__name__ == kind


def test_a_display_is_what_functions_call(capfd: pytest.CaptureFixture[str]) -> None:
    report: Callable[[str, int, int | None], None] = Display()
    report("thresholds", 1, 2)
    assert capfd.readouterr() == ("", "")
