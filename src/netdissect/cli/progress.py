"""Progress of the commands: that of the library, also where standard error is no terminal."""

from contextlib import AbstractContextManager

from netdissect.progress import Display, shown


def progress_bars() -> AbstractContextManager[Display]:
    """Show one bar for each reported stage."""
    return shown(always=True)
