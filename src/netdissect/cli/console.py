"""Standard output of the commands."""

from rich.console import Console

PIPED_WIDTH = 1_000_000  # of a file or pipe, which has no width: no line is wrapped or cut


def console() -> Console:
    """Return standard output, as wide as the terminal, or without a width."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPED_WIDTH)
