"""Standard output of the commands."""

import sys

from rich.console import Console

PIPED_WIDTH = 160  # of a file or pipe, which has no width: tables are not wrapped at 80 columns


def console() -> Console:
    """Return standard output, as wide as the terminal or wide enough for tables."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
