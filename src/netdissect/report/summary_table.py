"""The closing table of a run: fifteen lines at most, whatever the number of layers and the width of the terminal."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from rich.console import Console, ConsoleOptions, RenderResult

from netdissect.counted import counted
from netdissect.report.statistics_text import layout_notes
from netdissect.report.text_table import Column, TextTable
from netdissect.result import Result
from netdissect.result.summary import (
    BEST_UNITS,
    LayerFindings,
    findings_rows,
    headline,
    layer_findings,
    leading,
    legend,
)

MOST_LINES = 13
"""Lines of the table with its notes; the command adds where the run is."""
MOST_LAYERS = 7


@dataclass(frozen=True, repr=False)
class SummaryTable:
    """A run in a few lines: the sentence of its leading layer, and the layers with most unique detectors.

    On a narrow terminal, fewer best units are named and then fewer layers.
    """

    result: Result

    def __repr__(self) -> str:
        """Return the table as it is written to a file or pipe."""
        return str(self.table(MOST_LAYERS, BEST_UNITS))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print what fits into the lines at this width."""
        if not console.is_terminal:
            yield self.table(MOST_LAYERS, BEST_UNITS)
            return
        sizes = product(range(min(len(self._findings), MOST_LAYERS), 0, -1), range(BEST_UNITS, 0, -1))
        table = self.table(1, 1)
        for layers, best in sizes:
            candidate = self.table(layers, best)
            if len(candidate.lines(options.max_width)) <= MOST_LINES:
                table = candidate
                break
        yield table

    def _repr_html_(self) -> str:
        """Show the run in a notebook."""
        return self.result._repr_html_()

    def table(self, layers: int, best: int) -> TextTable:
        """Return the table of some layers, each with its best units."""
        shown = leading(self._findings, layers)
        return layers_table(self.result, shown, best, self._notes(len(self._findings) - len(shown)))

    @cached_property
    def _findings(self) -> list[LayerFindings]:
        return layer_findings(self.result)

    def _notes(self, hidden: int) -> list[str]:
        show = f"netdissect show {run_name(self.result)}"
        more = [f"... {counted(hidden, 'more layers')}: {show} --layers"] if hidden else []
        masks = self.result.info.data.masks
        warnings = [*([] if masks is None else [masks.sentence]), *layout_notes(self.result)]
        rest = [f"... {counted(len(warnings) - 1, 'more notes')}: {show} --statistics"] if len(warnings) > 1 else []
        return [*more, *warnings[:1], *rest]


def layers_table(
    result: Result,
    findings: Sequence[LayerFindings],
    best: int,
    notes: Sequence[str] = (),
    *,
    quantile: float | None = None,
) -> TextTable:
    """Return a table of layers; above it, the sentence of the one with most unique detectors."""
    rows = findings_rows(findings, best)
    names = list(rows[0]) if rows else ["layer"]
    columns = [
        Column(name, "text" if name in {"layer", "best units"} else "number", key=name == "layer") for name in names
    ]
    title = "\n".join([headline(result, quantile), *(each.sentence for each in leading(findings, 1))])
    return TextTable(columns, [list(row.values()) for row in rows], title, [*notes, *_legend(result, findings)])


def _legend(result: Result, findings: Sequence[LayerFindings]) -> list[str]:
    virtual = [each.layer for each in findings if each.basis_of]
    bases = [f"{', '.join(virtual)}: other bases of a layer, no units of the network"] if virtual else []
    return [*bases, *filter(None, [legend(result, findings)])]


def run_name(result: Result) -> str:
    """Return the folder of a run as it is typed."""
    return "RUN" if result.origin is None else shlex.quote(str(result.origin.folder))
