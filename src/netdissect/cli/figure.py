"""`netdissect figure`: figures for papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, Field

import netdissect
from netdissect.cli.console import console
from netdissect.cli.results import RunArgument, RunsArgument, run_names
from netdissect.cli_options import Typed, with_options
from netdissect.config import MaskMode, Palette, Rule
from netdissect.counted import counted
from netdissect.errors import ConfigError
from netdissect.experiments.registry import draw_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from netdissect.result import Result

app = typer.Typer(no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="File to write: .pdf, .svg or .png.")]
OneLayerOption = Annotated[str | None, typer.Option("--layer", help="One layer; default: the only one.")]
RuleOption = Annotated[Rule, typer.Option("--rule", help="Rule by which detectors are counted.")]
ColorsOption = Annotated[
    Palette,
    typer.Option("--colors", help="safe: for any color vision; paper: those of the authors' Caffe code (2017)."),
]


class FigureOptions(BaseModel):
    """How a figure is printed."""

    width: float = Field(
        6.8,
        ge=3,
        le=30,
        description="Inches: 3.3 is one column of a paper, 6.8 are two. Type keeps its size.",
    )


class CountOptions(FigureOptions):
    """The definition of a detector."""

    quantile: float | None = Field(None, description="One of the run's. None: its first.")
    min_iou: float | None = Field(None, description="IoU of a detector. None: the run's own.")


class ColorOptions(CountOptions):
    """The colors of categories."""

    colors: Palette = Field(
        "safe", description="safe: for any color vision; paper: those of the authors' Caffe code (2017)."
    )


@app.command()
@with_options(ColorOptions)
def bars(
    typed: Typed[ColorOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
    rule: RuleOption = "top-label",
) -> None:
    """Draw how many units of a layer detect each concept; the paper's figures count with --rule per-category."""
    result = netdissect.load_result(run)
    _save(netdissect.plots.bars(result, layer, rule=rule, **typed.model().model_dump()), out)


@app.command()
@with_options(ColorOptions)
def layers(
    typed: Typed[ColorOptions],
    runs: RunsArgument,
    out: OutOption,
    rule: RuleOption = "top-label",
) -> None:
    """Draw unique detectors by category, a row for each layer of each run."""
    results = [netdissect.load_result(run) for run in runs]
    figure = netdissect.plots.layers(results, rule=rule, **typed.model().model_dump(), names=run_names(runs, results))
    _save(figure, out)


@app.command()
@with_options(ColorOptions)
def iou(
    typed: Typed[ColorOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
) -> None:
    """Draw how IoU is distributed over the units of a layer, with the limit for detectors as a line."""
    result = netdissect.load_result(run)
    _save(netdissect.plots.iou(result, layer, **typed.model().model_dump()), out)


@app.command()
@with_options(CountOptions)
def depth(
    typed: Typed[CountOptions],
    runs: RunsArgument,
    out: OutOption,
    rule: RuleOption = "top-label",
) -> None:
    """Draw unique detectors by depth, a line for each run, with intervals and the permutation null."""
    results = [netdissect.load_result(run) for run in runs]
    figure = netdissect.plots.depth(results, rule=rule, **typed.model().model_dump(), names=run_names(runs, results))
    _save(figure, out)


@app.command()
@with_options(FigureOptions)
def formulas(typed: Typed[FigureOptions], run: RunArgument, out: OutOption) -> None:
    """Draw what formulas gain over single concepts, by layer and length, for a run with 'netdissect compose'."""
    found = netdissect.main_formulas(netdissect.load_result(run))
    _save(netdissect.plots.formula_gains(found, width=typed.model().width), out)


@app.command()
@with_options(FigureOptions)
def sensitivity(
    typed: Typed[FigureOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
    rule: RuleOption = "top-label",
) -> None:
    """Draw detectors as a function of quantile and IoU, for a run that was made with --sensitivity."""
    _save(netdissect.plots.sensitivity(netdissect.load_result(run), layer, rule=rule, width=typed.model().width), out)


@app.command()
@with_options(ColorOptions)
def unit_map(
    typed: Typed[ColorOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
) -> None:
    """Draw the units of a layer as points: near units respond to the same images; colored by category."""
    result = netdissect.load_result(run)
    _save(netdissect.plots.unit_map(result, layer, **typed.model().model_dump()), out)


@app.command()
@with_options(FigureOptions)
def units(
    typed: Typed[FigureOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
    unit: Annotated[
        list[int] | None, typer.Option("--unit", help="Index of a unit; repeats. Default: units of high IoU.")
    ] = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Images of each unit.")] = 6,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    mask: Annotated[
        MaskMode,
        typer.Option("--mask", help="dim or outline the unit's mask; both: it and the concept, in three colors."),
    ] = "dim",
    colors: ColorsOption = "safe",
) -> None:
    """Draw a contact sheet: a row for each chosen unit with its top images and its mask on them."""
    result = netdissect.load_result(run)
    figure = netdissect.plots.units(
        result,
        layer,
        unit,
        quantile=quantile,
        data_root=data_root,
        count=count,
        mask=mask,
        colors=colors,
        width=typed.model().width,
    )
    _save(figure, out)


@app.command()
@with_options(FigureOptions)
def overlap(
    typed: Typed[FigureOptions],
    run: RunArgument,
    out: OutOption,
    layer: OneLayerOption = None,
    unit: Annotated[int | None, typer.Option("--unit", help="Index of the unit; default: of the highest IoU.")] = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Images that are drawn.")] = 5,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
) -> None:
    """Draw how the IoU of a unit comes about: pixels of its mask and of its concept on its top images."""
    result = netdissect.load_result(run)
    figure = netdissect.plots.overlap(
        result, layer, unit, quantile=quantile, data_root=data_root, count=count, width=typed.model().width
    )
    _save(figure, out)


@app.command()
@with_options(ColorOptions)
def concept_scatter(
    typed: Typed[ColorOptions],
    runs: RunsArgument,
    out: OutOption,
    layer: Annotated[str | None, typer.Option("--layer", help="A layer of both runs; default: all.")] = None,
) -> None:
    """Draw the best IoU of every concept in one run against that in another."""
    results = _two_results(runs)
    names = run_names(runs, results)
    _save(
        netdissect.plots.concept_scatter(*results, layer=layer, **typed.model().model_dump(), names=names),
        out,
    )


@app.command()
@with_options(FigureOptions)
def matched_units(
    typed: Typed[FigureOptions],
    runs: RunsArgument,
    out: OutOption,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", help="A layer of both runs, or one of each; repeats. Default: the last one that both have."
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option("--pairs", min=1, help="Pairs that are drawn: those of highest correlation.")
    ] = 6,
    count: Annotated[int, typer.Option("--count", min=1, help="Images of each unit, as far as they fit.")] = 4,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    colors: ColorsOption = "safe",
) -> None:
    """Draw the units of two runs that respond to the same images: a row for each pair, with its top images."""
    results = _two_results(runs)
    figure = netdissect.plots.matched_units(
        *results,
        layer=layer,
        pairs=pairs,
        count=count,
        data_root=data_root,
        colors=colors,
        names=run_names(runs, results),
        width=typed.model().width,
    )
    _save(figure, out)


@app.command(name="image")
@with_options(FigureOptions)
def segmented(
    typed: Typed[FigureOptions],
    run: RunArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="File of an image; it need not be in the data set.")],
    out: OutOption,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="A layer; repeats. Default: the last of the network.")
    ] = None,
    quantile: Annotated[float | None, typer.Option("--quantile", help="One of the run's; default: its first.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Network of the run, if the run cannot load it again.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
) -> None:
    """Draw an image segmented by the detectors of a layer: each pixel has the concept of its most active detector."""
    from netdissect.concepts.image_io import read_upright
    from netdissect.dissect.image_maps import segment_by_units

    result, shown = netdissect.load_result(run), read_upright(image).image
    given = None if network is None else netdissect.training.open_network(network)
    segmentations = segment_by_units(result, shown, layer, quantile=quantile, network=given, data_root=data_root)
    _save(netdissect.plots.segmented_image(shown, segmentations, **typed.model().model_dump()), out)


@app.command()
@with_options(FigureOptions)
def intervention(
    typed: Typed[FigureOptions],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'netdissect intervene --json' printed.")],
    out: OutOption,
) -> None:
    """Draw how areas change where units of a generator are changed, with controls and the map of insertion."""
    from netdissect.experiments.interventions.intervention_files import read_intervention

    saved = read_intervention(file)
    figure = netdissect.plots.intervention(
        saved.table, saved.map_table, names=saved.set_names, width=typed.model().width
    )
    _save(figure, out)


@app.command()
@with_options(FigureOptions)
def experiment(
    typed: Typed[FigureOptions],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What an experiment wrote with --out.")],
    out: OutOption,
) -> None:
    """Draw the figure of a finished experiment again, at another width."""
    from netdissect.experiments.result_files import load_experiment_result

    result = load_experiment_result(folder)
    _save(draw_figure(result, typed.model().width), out)


def _two_results(runs: Sequence[Path]) -> list["Result"]:
    if len(runs) != 2:
        raise ConfigError(f"{counted(len(runs), 'runs')} given. Expected two.")
    return [netdissect.load_result(run) for run in runs]


def _save(figure: "Figure", out: Path) -> None:
    console().print(f"Wrote {netdissect.plots.save(figure, out)}", soft_wrap=True)
