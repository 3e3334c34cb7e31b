"""Write the tables of a series into `benchmarks/RESULTS.md`, between the two lines that mark them.

    python -m benchmarks.results_page FILE

FILE is that of `benchmarks.whole_run`.
"""

from collections.abc import Iterator
from pathlib import Path

import typer

from benchmarks import aims, roofline, whole_run
from benchmarks.series import machine, read

PAGE = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- begin: python -m benchmarks.results_page -->", "<!-- end -->"


def lines(file: Path) -> Iterator[str]:
    """Return the lines between the marks."""
    commits = dict.fromkeys(record["commit"] for record in read(file, "round"))
    days = sorted(record["when"] for record in read(file, "round"))
    yield from ("", f"{machine()}; {days[0]} to {days[-1]} UTC; commits {', '.join(commits)}.", "")
    for title, tables in (
        ("Aims", aims.lines(file)), ("Whole runs in detail", whole_run.lines(file)), ("Roofline", roofline.lines(file))
    ):  # fmt: skip
        yield from (f"### {title}", "", *tables, "")


def main(file: Path) -> None:
    """Replace the tables."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.partition(END)[2]
    written = "\n".join(lines(file)).replace("\n\n\n", "\n\n")
    PAGE.write_text(f"{before}{BEGIN}\n{written}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
