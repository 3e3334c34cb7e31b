"""Progress on standard error: a bar for each stage, and lines between, on a terminal or in a notebook.

    with shown(progress) as display:
        display("thresholds", 16, 200)
        display.line("two passes, activations are cached")

The display is a `netdissect.config.Progress`. A function that calls others passes it on: each bar is shown once.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)
from rich.text import Text

from netdissect.config import Progress
from netdissect.errors import ConfigError

ShowProgress = Progress | bool | None
"""None or True: shown on standard error if it is a terminal or a notebook. False: not. A function: it is called."""
INTERVAL = 0.1  # seconds between updates in a notebook


class Display:
    """Shows nothing; the base of what shows something."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show how far a stage is."""

    def line(self, text: str) -> None:
        """Show one line above the bars."""


class _Called(Display):
    """Calls a function; lines are not shown."""

    def __init__(self, function: Progress) -> None:
        self._function = function

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self._function(stage, done, total)


class _Rate(ProgressColumn):
    """Finished items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


class _Bars(Display):
    """One bar for each stage, on a terminal."""

    def __init__(self) -> None:
        self.bars = RichProgress(
            TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
            console=Console(stderr=True, soft_wrap=True),
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if not self._tasks:
            self.bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self._tasks[stage], completed=done, total=total)

    def line(self, text: str) -> None:
        self.bars.console.print(Text(text, style="dim"))

    def end(self) -> None:
        """Leave the bars as they are; an error before the first of them stays alone."""
        if self._tasks:
            self.bars.stop()


class _NotebookLine(Display):
    """One line that is written anew, for the output of a cell: it needs no widgets, and is saved with the notebook."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._begin = self._last = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self.end()
            self._stage, self._begin, self._last = stage, now, 0.0
        finished = done == total
        if finished or now - self._last >= INTERVAL:
            self._last, seconds = now, now - self._begin
            of, rate = "" if total is None else f"/{total:,}", f"  {done / seconds:,.0f}/s" if seconds > 0 else ""
            sys.stderr.write(f"\r{stage:>14}  {done:,}{of}{rate}   ")
            sys.stderr.flush()
        if finished:
            self.end()

    def line(self, text: str) -> None:
        self.end()
        sys.stderr.write(text + "\n")

    def end(self) -> None:
        """Begin a new line."""
        if self._stage is not None:
            sys.stderr.write("\n")
        self._stage = None


@contextmanager
def shown(progress: ShowProgress = None, *, always: bool = False) -> Iterator[Display]:
    """Show progress while a function runs.

    Parameters
    ----------
    progress
        None or True: on standard error, if it is a terminal or a notebook. False: nothing. A function of stage, done
        and total: it is called. A display that is shown already: the same.
    always
        Show it also if standard error is a file or a pipe, as the command line does.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if isinstance(progress, Display):
        yield progress
    elif callable(progress):
        yield _Called(progress)
    elif progress is not None and not isinstance(progress, bool):
        raise ConfigError(
            f"progress cannot be {progress!r}. Expected True, False, None, or a function of stage, done and total."
        )
    elif progress is False or not (always or in_notebook() or (sys.stderr is not None and sys.stderr.isatty())):
        yield Display()
    elif in_notebook():
        yield from _ended(_NotebookLine())
    else:
        yield from _ended(_Bars())


def _ended(display: "_Bars | _NotebookLine") -> Iterator[Display]:
    try:
        yield display
    finally:
        display.end()


def in_notebook() -> bool:
    """Return whether the code runs in the cell of a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def show_line(progress: Progress | None, text: str) -> None:
    """Show a line above the bars, if they are shown."""
    if isinstance(progress, Display):
        progress.line(text)
