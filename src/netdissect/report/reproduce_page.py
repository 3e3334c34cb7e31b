"""All experiments on one page that opens from disk: figures, the paper's findings, one's own, and the outcomes.

OUT/index.html   complete in itself: style and figures stand in it
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from netdissect.experiments.outcome import ConclusionOutcome, ExperimentResult
from netdissect.experiments.registry import draw_figure
from netdissect.paths import writing
from netdissect.report.pages import chart, environment, style
from netdissect.result.files import write_whole

PAGE = "index.html"
COLORS: dict[ConclusionOutcome, str] = {
    "agrees": "#009E73",
    "disagrees": "#D55E00",
    "inconclusive": "#E69F00",
    "not compared": "#8A9099",
}


def reproduce_page(results: Sequence[ExperimentResult], out: str | Path, facts: Mapping[str, str]) -> Path:
    """Write the page of several experiments.

    Parameters
    ----------
    outcomes
        In the order of the page.
    out
        Folder; the experiments' own files are expected in ``OUT/NAME``.
    facts
        Shown above the experiments: the sizes of data and networks.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    out = Path(out)
    drawn = {
        result.name: chart(draw_figure(result), f"Figure of {result.name}; its numbers stand in the table.")
        for result in results
    }
    text = (
        environment()
        .get_template("paper.html.j2")
        .render(results=results, figures=drawn, facts=facts, style=style(), colors=COLORS)
    )
    with writing(out / PAGE, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / PAGE, lambda file: file.write(text.encode()))
    return out / PAGE
