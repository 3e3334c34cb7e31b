"""Standard output of the commands, and their progress."""

from contextlib import AbstractContextManager

from rich.console import Console

from netdissect.progress import Display, shown

PIPED_WIDTH = 1_000_000  # of a file or pipe, which has no width: no line is wrapped or cut


def console() -> Console:
    """Return standard output, as wide as the terminal, or without a width."""
    screen = Console(emoji=False)  # a specification such as python:factory:name would become one
    return screen if screen.is_terminal else Console(width=PIPED_WIDTH, emoji=False)


def progress_bars() -> AbstractContextManager[Display]:
    """Show one bar for each stage that the library reports, also where standard error is no terminal."""
    return shown(always=True)
