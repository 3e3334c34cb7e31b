"""The aims for speed beside what was measured.

    python -m benchmarks.aims FILE

FILE is that of `benchmarks.whole_run`. An aim is met if the median over rounds of the wall time is within it; the
processor time stands beside it.
"""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from benchmarks.series import markdown
from benchmarks.whole_run import KINDS, LITE, PLAIN, Series, images_of

FLOAT32 = tuple(f"{backend}, float32" for backend in ("onnxruntime", "openvino", "compile", "eager"))
BFLOAT16 = tuple(f"{backend}, bfloat16" for backend in ("openvino", "compile", "eager"))


class Aim(NamedTuple):
    """A limit of the time of a way, over or beyond that of another of the same round.

    Attributes
    ----------
    group, network, times
        Of the series.
    ways
        The best of them counts.
    base
        The other way; empty: the time itself.
    limit
        Of the ratio, or of the seconds.
    cpu_limit
        The same of processor time, where it has another.
    seconds
        Whether the difference is meant.
    """

    group: str
    network: str
    times: int
    ways: tuple[str, ...]
    base: str
    limit: float
    cpu_limit: float | None = None
    seconds: bool = False


AIMS = (
    *(Aim("default", LITE, times, ("one layer",), PLAIN, 1.05) for times in (1, 5)),
    *(Aim("default", LITE, times, ("five layers",), PLAIN, 1.10) for times in (1, 5)),
    *(Aim("default", LITE, times, ("ten layers",), "one layer", 1.20) for times in (1, 5)),
    Aim("backends", LITE, 1, FLOAT32, PLAIN, 0.95),
    Aim("backends", LITE, 5, FLOAT32, PLAIN, 0.80),
    *(Aim("backends", name, 5, FLOAT32, PLAIN, 0.90) for name in ("resnet50", "convnext_tiny", "vit_small")),
    *(Aim("backends", name, 5, BFLOAT16, PLAIN, 0.60) for name in (LITE, "resnet50", "convnext_tiny", "vit_small")),
    Aim("start", LITE, 1, ("warm",), PLAIN, 1.5, seconds=True),
    Aim("start", LITE, 1, ("nothing compiled",), "warm", 3.0, 5.0, seconds=True),
    Aim("start", LITE, 1, ("--help",), "", 0.25, seconds=True),
)


def measured(file: Path, aim: Aim, way: str) -> tuple[float, float, int] | None:
    """Return the median of wall and processor time of a way against its base, and the number of rounds."""
    rounds = [{run["name"]: run for run in r["runs"]} for r in Series(file, Path(), *_series(aim)).rounds()]
    both = [(runs[way], runs.get(aim.base)) for runs in rounds if way in runs and (aim.base in runs or not aim.base)]
    if not both:
        return None
    compare: Callable[[float, float], float] = (lambda a, b: a - b) if aim.seconds else (lambda a, b: a / b)
    wall, cpu = (
        statistics.median(compare(left[kind], right[kind] if right else 0.0) for left, right in both) for kind in KINDS
    )
    return wall, cpu, len(both)


def _series(aim: Aim) -> tuple[str, int, str]:
    return aim.network, aim.times, aim.group


def rows(file: Path) -> Iterator[tuple[str, ...]]:
    """Return a row for each aim."""
    for aim in AIMS:
        found = {way: result for way in aim.ways if (result := measured(file, aim, way)) is not None}
        count = images_of(aim.group, aim.times)
        unit = " s" if aim.seconds else ""
        limits = f"{aim.limit:.2f}{unit}" + (f", {aim.cpu_limit:.0f}{unit}" if aim.cpu_limit else "")
        if not found:
            way = aim.ways[0] if len(aim.ways) == 1 else f"the fastest with {aim.ways[0].rpartition(' ')[2]}"
            yield aim.network, count, way, aim.base, limits, "", "", "", "not measured"
            continue
        best = min(found, key=lambda way: found[way][0])
        wall, cpu, rounds = found[best]
        met = wall <= aim.limit and cpu <= (aim.cpu_limit or float("inf"))
        verdict = "yes" if met else "**no**"
        yield aim.network, count, best, aim.base, limits, f"{wall:.2f}{unit}", f"{cpu:.2f}{unit}", str(rounds), verdict


def lines(file: Path) -> Iterator[str]:
    """Return the lines of the table."""
    yield from markdown(COLUMNS, rows(file))


COLUMNS = ("network", "images", "way", "against", "aim", "wall time", "processor time", "rounds", "met")


def main(file: Path) -> None:
    """Print the aims as a table."""
    print("\n".join(lines(file)))


if __name__ == "__main__":
    typer.run(main)
