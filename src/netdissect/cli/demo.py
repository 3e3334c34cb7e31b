"""`netdissect demo`: the whole method in a few minutes, on synthetic data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.report.text_table import Column, TextTable

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from netdissect.scoring import DetectorCount
    from netdissect.training import Demo


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of all results.")] = Path("demo"),
    fast: Annotated[bool, typer.Option("--fast", help="A smaller data set and network: half a minute.")] = False,
) -> None:
    """Generate a data set, train a network on it, dissect it, and compare with random weights and a random rotation."""
    config = netdissect.training.FAST_DEMO if fast else netdissect.training.FULL_DEMO
    with compilation_logged(), progress_bars() as progress:
        made = netdissect.training.demo(out, config, progress=progress)
        logger.info("drawing the pages of the report")
        page = netdissect.report([made.units, made.random], out / "report", progress=progress)
    _print_demo(made, page)


@contextmanager
def compilation_logged() -> Iterator[None]:
    """Log once that loops are compiled, which happens in the first run on a machine only."""
    event: Any = import_module("numba.core.event")  # numba is loaded by the demo in any case
    logged: list[Any] = []

    class CompilationListener(event.Listener):  # type: ignore[misc]
        """Listens to compilations; loops that are in the cache on disk are not compiled."""

        def on_start(self, event: Any) -> None:
            """Log the first one."""
            if not logged:
                logger.info("compiling loops: ten seconds, once on this machine")
            logged.append(event)

        def on_end(self, _event: Any) -> None:
            """Do nothing."""

    with event.install_listener("numba:compile", CompilationListener()):
        yield


def _print_demo(made: "Demo", page: Path) -> None:
    screen = console()
    trained, data = made.trained, made.units.info.data
    screen.print(
        f"\nA small network learned to classify {len(netdissect.synthetic.SCENE_NAMES)} scenes "
        f"({trained.accuracy:.0%} accuracy on new images), without labels of objects, parts, textures or colors. "
        f"Its units were compared with every concept in {data.images:,} other images."
    )
    for quantile in made.units.info.config.protocol.quantiles:
        screen.print(_table(made, quantile), soft_wrap=True)
    screen.print(_best_units(made), soft_wrap=True)
    screen.print(
        "A rotation keeps the information of the layer and mixes its units: the detectors that it costs depend on the "
        "axes of single units. Random weights are the baseline of an untrained network."
    )
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in made.seconds.items())
    screen.print(f"Time: {stages}.")
    screen.print(f"The report is {escape(str(page))}", soft_wrap=True)


def _table(made: "Demo", quantile: float) -> TextTable:
    categories = made.units.info.data.categories
    numbers = ("units", "detectors", "concepts", *categories)
    rows = []
    for label, result in (("trained", made.units), ("random weights", made.random)):
        for entry in result.detectors():
            if entry.quantile == quantile:
                name = "conv5, units rotated" if entry.layer in made.rotated else f"{entry.layer}, {label}"
                rows.append([name, *_cells(entry.count, categories)])
    title = f"Concepts that units detect (unique detectors); masks: highest {quantile:.1%} of activations"
    return TextTable([Column("layer", "text", key=True), *map(Column, numbers)], rows, title)


def _cells(count: "DetectorCount", categories: tuple[str, ...]) -> list[str]:
    numbers = (count.units, count.detectors["total"], count.unique_detectors["total"])
    return [str(number) for number in (*numbers, *(count.unique_detectors[category] for category in categories))]


def _best_units(made: "Demo") -> TextTable:
    last = next(name for name in reversed(made.units.layers) if name not in made.rotated)
    return netdissect.console_tables.units(made.units, last, 8)
