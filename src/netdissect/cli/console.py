"""Where the commands print."""

import sys

from rich.console import Console

PIPED_WIDTH = 160  # a file or a pipe has no width of its own; tables should not be folded to 80 columns there


def console() -> Console:
    """Return standard output, as wide as the terminal or wide enough for tables."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
