"""`netdissect merge-shards`: merge the finished shards of a run."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, Field

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.run import DEFAULTS, finished
from netdissect.cli_options import Typed, with_options
from netdissect.config import Execution
from netdissect.config_fields import Option


class MergeOptions(BaseModel):
    """How the permutation test of merged shards is carried out."""

    execution: Annotated[
        Execution, Option(panel="Execution", without=("activation_cache", "engine", "checkpoint_seconds"))
    ] = Field(default_factory=Execution)


@with_options(MergeOptions, DEFAULTS)
def merge(
    typed: Typed[MergeOptions],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the merged run.")],
    shards: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SHARD]...", help="Folders of shards, or run folders that hold some; default: RUN's."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Merge some of the shards into a larger one, to be merged with others.")
    ] = False,
    concepts: Annotated[Path | None, typer.Option("--concepts", help="Data set, if it was moved.")] = None,
) -> None:
    """Merge what the shards of a run have finished: thresholds first, then counts, which finish the run.

    The second merge also carries out the permutation test of the run, if it has one.
    """
    execution = typed.model().execution
    with progress_bars() as progress:
        outcome = netdissect.merge_shards(
            run, shards or (), partial=partial, concepts=concepts, execution=execution, progress=progress
        )
    messages = {
        "merged-thresholds": f"The thresholds of all shards are in {run}. Repeat the command of each shard, "
        f"and then netdissect merge-shards {run} again.",
        "thresholds": f"{run} holds the threshold pass of these shards. Merge it with the others.",
        "counting": f"{run} holds the counts of these shards. Merge it with the others.",
        "finished": finished(run),
    }
    screen = console()
    if outcome == "finished":
        screen.print(netdissect.console_tables.summary(netdissect.load_result(run)), soft_wrap=True)
    screen.print(messages[outcome], soft_wrap=True)
