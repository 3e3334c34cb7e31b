"""What an experiment returns: a table, and what it says about the paper's finding.

    experiment(...) -> Outcome -> netdissect.experiments.outcome_files.save_outcome (tables, figure, verdict)

Nothing here knows about networks.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

ConclusionOutcome = Literal["agrees", "disagrees", "not established", "not compared"]


class Conclusion(BaseModel):
    """What was found, in plain language, beside what the paper found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(description="What the experiment asks, in one sentence.")
    paper: str | None = Field(None, description="The published finding; None: the paper does not ask this.")
    finding: str = Field(description="What was measured here, with its numbers and their uncertainty.")
    agreement: ConclusionOutcome = Field(description="not established: the interval does not decide.")


@dataclass(frozen=True)
class ExperimentResult:
    """One finished experiment.

    Attributes
    ----------
    name
        Of the command, for example ``rotate``; it says which figure is drawn.
    table
        Tidy: one row for each measured number, its columns documented by the experiment.
    verdict
        What it says.
    config
        What was asked for, as JSON values: enough to repeat it.
    seconds
        Wall time of each stage.
    further
        Tables beside the first, by name, such as the units behind the counts.
    """

    name: str
    table: pl.DataFrame
    verdict: Conclusion
    config: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    further: dict[str, pl.DataFrame] = field(default_factory=dict)
