"""What an experiment returns: a table, and what it says about the paper's finding.

    experiment(...) -> ExperimentResult -> netdissect.experiments.result_files.save_experiment_result

Nothing here knows about networks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.counted import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_TABLES: Mapping[str, pl.DataFrame] = MappingProxyType({})
"""The extra tables of an experiment that has none."""

ConclusionOutcome = Literal["agrees", "disagrees", "inconclusive", "not compared"]


class Conclusion(BaseModel):
    """What was measured, in plain language, and how it compares with the finding of the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(description="What the experiment asks, in one sentence.")
    paper: str | None = Field(None, description="The published finding; None: the paper does not ask this.")
    finding: str = Field(description="What was measured here, with its numbers and their uncertainty.")
    outcome: ConclusionOutcome = Field(description="inconclusive: the interval does not decide.")


def join_sentences(*sentences: str) -> str:
    """Join sentences with spaces; empty ones are left out."""
    return " ".join(filter(None, sentences))


@dataclass(frozen=True, repr=False)
class ExperimentResult:
    """One finished experiment; it prints as five lines, the conclusion among them.

    Attributes
    ----------
    name
        Of the command, for example ``rotate``; it says which figure is drawn.
    table
        Tidy: one row for each measured number, its columns documented by the experiment.
    conclusion
        What the table says about the paper's finding.
    config
        The experiment's configuration as JSON values; it validates as the experiment's `Config`.
    context
        What it was applied to, such as the network and the data set, as JSON values.
    seconds
        Wall time of each stage.
    extra_tables
        Further tables by name, such as the units behind the counts.
    """

    name: str
    table: pl.DataFrame
    conclusion: Conclusion
    config: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    extra_tables: dict[str, pl.DataFrame] = field(default_factory=dict)

    @cached_property
    def figure(self) -> "Figure":
        """The figure of the experiment, drawn when it is first asked for.

        Raises
        ------
        ResultError
            If there is no experiment of this name.
        """
        from netdissect.experiments.registry import draw_figure

        return draw_figure(self)

    def conclusion_lines(self) -> list[str]:
        """Return name and outcome, the question, the published finding and what was found, a line each."""
        said = self.conclusion
        return [
            f"{self.name}: {said.outcome}",
            f"Question: {said.question}",
            f"The paper: {said.paper or 'does not ask this.'}",
            f"Found: {said.finding}",
        ]

    def __repr__(self) -> str:
        tables = "".join(f"; {name}: {len(table)}" for name, table in self.extra_tables.items())
        columns = ", ".join(self.table.columns)
        return "\n".join([*self.conclusion_lines(), f"Table: {counted(len(self.table), 'rows')} of {columns}{tables}"])


def concluded(
    name: str,
    config: BaseModel,
    table: pl.DataFrame,
    conclude: Callable[..., Conclusion],
    *,
    context: Mapping[str, Any],
    extra_tables: Mapping[str, pl.DataFrame] = NO_TABLES,
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> ExperimentResult:
    """Return the result of an experiment, with what `conclude` says of its tables."""
    conclusion = conclude(table, config, extra=extra_tables)
    saved = config.model_dump(mode="json")
    return ExperimentResult(name, table, conclusion, saved, dict(context), dict(seconds), dict(extra_tables))
