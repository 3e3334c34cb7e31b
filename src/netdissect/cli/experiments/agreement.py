"""`netdissect experiment agreement`."""

from pathlib import Path
from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import MinIouOption, OutOption, checked


def agreement(
    ratings: Annotated[Path, typer.Argument(metavar="CSV", help="Ratings, as the explorer exports them.")],
    out: OutOption,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="From the first to the last; repeats. Default: as in the file.")
    ] = None,
    min_iou: MinIouOption = 0.04,
    stats_seed: Annotated[int, typer.Option("--stats-seed", min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Which labels people accept, by layer, how well they agree, and whether IoU tells."""
    experiments = netdissect.experiments
    config = checked(
        experiments.RaterAgreementConfig, layers=tuple(layer) if layer else None, min_iou=min_iou, seed=stats_seed
    )
    carry_out(lambda _progress: experiments.rater_agreement(ratings, config), out)
