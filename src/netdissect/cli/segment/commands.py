"""`netdissect segment`: compose segmentations, and print how well they agree with labels."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from platformdirs import user_cache_path

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.networks import load_named
from netdissect.cli.results import RunArgument
from netdissect.cli_options import Typed, with_options
from netdissect.counted import counted
from netdissect.report.text_table import Column, TextTable
from netdissect.segment_config import SegmentConfig

if TYPE_CHECKING:
    from netdissect.result.segmentation.composed_segmentation import ComposedSegmentation, MeanIoU

SCORE_COLUMNS = [
    Column("segments", "text", key=True),
    Column("concepts", "text", key=True),
    *map(Column, ("mean IoU", "95 %", "difference", "95 % ")),
]
CONCEPT_COLUMNS = [
    Column("concept", "text", key=True),
    Column("category", "text"),
    *map(Column, ("detectors", "IoU", "95 %", "segment pixels", "label pixels")),
]
BIASED = (
    "The labels of the units were chosen on these images, so their IoU is too large: segment other images to compare."
)


@with_options(SegmentConfig)
def segment(
    typed: Typed[SegmentConfig],
    run: RunArgument,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE|FOLDER|DATA", help="An image, a folder of images, or a data set in Broden's layout."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of label maps, tables and figures.")],
    network: Annotated[
        str | None, typer.Option("--network", help="Network of the run, if the run cannot load it again.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set of the run, if it was moved.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Concepts that are printed: those of highest IoU.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every concept.")] = False,
) -> None:
    """Segment images, or a data set, by the detectors of a layer: each pixel has that of its most active one."""
    result = netdissect.load_result(run)
    with progress_bars() as progress:
        made = netdissect.segment(
            result,
            source,
            out=out,
            config=typed.model(),
            network=load_named(network, result.info),
            data_root=data_root,
            execution=netdissect.Execution(cache_folder=user_cache_path("netdissect")),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(segmentation_json(made), indent=2))
        return
    _print(made, top)


def segmentation_json(made: "ComposedSegmentation") -> dict[str, Any]:
    """Return one object: the summary, the legend and the concepts."""
    return {
        **made.summary.model_dump(mode="json"),
        "out": str(made.folder),
        "legend": made.legend.to_dicts(),
        "per_concept": made.concepts.to_dicts(),
    }


def _print(made: "ComposedSegmentation", top: int) -> None:
    screen, summary = console(), made.summary
    screen.print(
        f"{counted(summary.images, 'images')} of {summary.source} segmented by "
        f"{counted(summary.detectors, 'detectors')} of {counted(summary.detected_concepts, 'concepts')} in "
        f"{summary.layer} of {summary.network} at the quantile {summary.quantile:g}; a detector is "
        f"active on {summary.covered:.0%} of the pixels.",
        soft_wrap=True,
        highlight=False,
    )
    if summary.miou:
        notes = [BIASED] if summary.same_images else []
        screen.print(
            "", TextTable(SCORE_COLUMNS, list(map(_score, summary.miou)), notes=notes), sep="\n", soft_wrap=True
        )
        best = made.concepts.sort("iou", descending=True, maintain_order=True).head(top)
        rows = [_concept(row) for row in best.iter_rows(named=True)]
        screen.print("", TextTable(CONCEPT_COLUMNS, rows), sep="\n", soft_wrap=True)
    elif len(made.concepts):
        screen.print("No detected concept has a labeled pixel in these images: nothing is compared.", soft_wrap=True)
    screen.print(f"Wrote {made.folder}", soft_wrap=True)


def _score(row: "MeanIoU") -> list[str]:
    difference = "" if row.difference is None else f"{row.difference:+.4f}"
    return [
        row.segments,
        f"{row.number} {row.concepts}",
        f"{row.miou:.4f}",
        _interval(row.ci_low, row.ci_high),
        difference,
        _interval(row.difference_ci_low, row.difference_ci_high),
    ]


def _concept(row: dict[str, Any]) -> list[str]:
    return [
        row["concept"],
        row["category"],
        f"{row['detectors']}",
        f"{row['iou']:.4f}",
        _interval(row["iou_ci_low"], row["iou_ci_high"]),
        f"{row['segment_pixels']:,}",
        f"{row['label_pixels']:,}",
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"
