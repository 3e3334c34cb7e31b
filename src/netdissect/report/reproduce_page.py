"""The page of `netdissect reproduce`: question, figure and finding of every experiment, compared with the paper.

``OUT/index.html`` contains style and figures, so that it opens from disk.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from netdissect.experiments.outcome import ConclusionOutcome, ExperimentResult
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
    results
        In the order of the page.
    out
        Folder; the experiments' own files are expected in ``OUT/NAME``.
    facts
        Name and value of facts about all experiments, such as the size of the data set.

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
        result.name: chart(result.figure, f"Figure of {result.name}; its numbers are in the table.")
        for result in results
    }
    text = (
        environment()
        .get_template("reproduce.html.j2")
        .render(results=results, figures=drawn, facts=facts, style=style(), colors=COLORS)
    )
    with writing(out / PAGE, "Choose a folder on a disk with space."):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / PAGE, lambda file: file.write(text.encode()))
    return out / PAGE
