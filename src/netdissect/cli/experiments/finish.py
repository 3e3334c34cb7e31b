"""How every experiment ends: its files, its verdict, and where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from netdissect.cli.console import console
from netdissect.cli.progress import progress_bars
from netdissect.config import Progress
from netdissect.show.outcomes import save_outcome, verdict_text

if TYPE_CHECKING:
    from netdissect.experiments import Outcome


def carry_out(experiment: Callable[[Progress], "Outcome"], out: Path) -> "Outcome":
    """Run an experiment under progress bars, write its files to `out` and print what it says."""
    with progress_bars() as progress:
        outcome = experiment(progress)
    save_outcome(outcome, out)
    screen = console()
    screen.print("\n" + verdict_text(outcome), markup=False, highlight=False, soft_wrap=True)
    screen.print(f"Figure {out}/figure.svg (.pdf, .png), table {out}/table.csv (.parquet).", soft_wrap=True)
    return outcome
