"""`netdissect experiment rater-agreement`."""

from pathlib import Path
from typing import Annotated

import typer

from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import OutOption
from netdissect.cli_options import Typed, with_options
from netdissect.experiments import RaterAgreementConfig, rater_agreement


@with_options(RaterAgreementConfig)
def run(
    asked: Typed[RaterAgreementConfig],
    ratings: Annotated[Path, typer.Argument(metavar="CSV", help="Ratings, as the explorer exports them.")],
    out: OutOption,
) -> None:
    """Sum up what raters said of labels."""
    config = asked.model()
    carry_out(lambda _progress: rater_agreement(ratings, config), out)
