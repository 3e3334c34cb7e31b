"""How every experiment ends: its files, its verdict, and where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import netdissect
from netdissect.cli.console import console
from netdissect.cli.progress import progress_bars
from netdissect.config import Progress

if TYPE_CHECKING:
    from netdissect.experiments import ExperimentResult


def carry_out(experiment: Callable[[Progress], "ExperimentResult"], out: Path) -> "ExperimentResult":
    """Run an experiment under progress bars, write its files to `out` and print what it says."""
    with progress_bars() as progress:
        outcome = experiment(progress)
    netdissect.experiments.outcome_files.save_outcome(outcome, out)
    screen = console()
    verdict = netdissect.experiments.outcome_files.verdict_text(outcome)
    screen.print("\n" + verdict, markup=False, highlight=False, soft_wrap=True)
    screen.print(f"Figure {out}/figure.svg (.pdf, .png), table {out}/table.csv (.parquet).", soft_wrap=True)
    return outcome
