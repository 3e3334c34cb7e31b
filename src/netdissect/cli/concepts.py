"""`netdissect concepts`: build and inspect data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.generators.segmenter_options import LabelsOption, MinScoreOption, WordsOption
from netdissect.config import REPORTED_QUANTILES, SMALL_DATA, Resize, Split
from netdissect.counted import counted
from netdissect.process.cores import available_cores
from netdissect.report.text_table import Column, TextTable

if TYPE_CHECKING:
    from netdissect.concepts.inspect.inspect import CategoryFacts, Inspection

PROBLEMS_SHOWN = 20

app = typer.Typer(no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the new data set.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished data set.")]
RootArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Data set in Broden's layout.")]
MergeVariantsOption = Annotated[
    bool, typer.Option("--merge-variants", help="Merge plurals, 'left arm' and 'arm', and such.")
]
MinImagesOption = Annotated[int, typer.Option("--min-images", help="Drop labels that fewer images carry; Broden: 10.")]
MinCoverageOption = Annotated[
    float, typer.Option("--min-coverage", help="Drop labels that cover less, in whole images; Broden: 0.5.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default: all cores.")]


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help=(
                "masks:DIR[=category] (images/, masks/, classes.csv), folders:DIR=category (a folder a class), "
                "labels:FILE.csv, polygons:DIR (LabelMe, VIA, CVAT), or a published data set: ade20k, pascal, "
                "opensurfaces, dtd, coco (also exports of annotation programs), cityscapes, hf. Options follow a "
                "question mark: 'folders:DIR=scene?class=last', 'masks:DIR?colors=voc'; the documentation lists them."
            ),
        ),
    ],
    out: OutOption,
    size: Annotated[int, typer.Option("--size", help="Images become this square; label maps half of it.")] = 224,
    resize: Annotated[
        Resize, typer.Option("--resize", help="How an image becomes a square; stretch: as Broden.")
    ] = "stretch",
    colors: Annotated[bool, typer.Option("--colors", help="Name the color of every pixel.")] = False,
    color_table: Annotated[
        Path | None, typer.Option("--color-table", help="A published 32 x 32 x 32 table in place of our color model.")
    ] = None,
    merge_variants: MergeVariantsOption = False,
    min_images: MinImagesOption = 0,
    min_coverage: MinCoverageOption = 0.0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Write a data set in Broden's layout from labeled images; a killed build goes on where it was."""
    parsed = [netdissect.parse_source(source) for source in sources]
    options = netdissect.WriteOptions(
        size=size, resize=resize, colors=colors, color_table=color_table, merge_variants=merge_variants,
        min_images=min_images, min_coverage=min_coverage,
    )  # fmt: skip
    with progress_bars() as progress:
        netdissect.build_dataset(
            out, parsed, options, overwrite=overwrite, workers=workers or available_cores(), progress=progress
        )
    _written(out)


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="broden1_224, broden1_227 or broden1_384.")],
    out: OutOption,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address of a folder or archive; may end in #sha256=...")
    ] = None,
    checksum: Annotated[str | None, typer.Option("--checksum", help="sha256:HEX or md5:HEX of the archive.")] = None,
) -> None:
    """Fetch and check a published data set; a broken download goes on where it stopped."""
    with progress_bars() as progress:
        netdissect.download(name, out, mirror=mirror, checksum=checksum, progress=progress)
    _written(out)


@app.command()
def subset(
    root: RootArgument,
    out: OutOption,
    categories: Annotated[
        list[str] | None, typer.Option("--categories", help="Only these categories; repeats, or a,b.")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Only these concepts; repeats, or a,b.")
    ] = None,
    split: Annotated[Split | None, typer.Option("--split", help="Only this split.")] = None,
    max_images: Annotated[int | None, typer.Option("--max-images", min=1, help="Draw this many images.")] = None,
    sample_seed: Annotated[int, typer.Option("--sample-seed", min=0, help="Of the draw.")] = 0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Write a part of a data set as a data set of its own."""
    selection = netdissect.concepts.Selection(
        categories=_names(categories),
        concepts=_names(concept),
        split=split,
        max_images=max_images,
        sample_seed=sample_seed,
    )
    with progress_bars() as progress:
        netdissect.concepts.subset(
            root, out, selection, overwrite=overwrite, workers=workers or available_cores(), progress=progress
        )
    _written(out)


@app.command()
def merge(
    roots: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Data sets in Broden's layout.")],
    out: OutOption,
    size: Annotated[int, typer.Option("--size", help="Of the merged images.")] = 224,
    merge_variants: MergeVariantsOption = False,
    min_images: MinImagesOption = 0,
    min_coverage: MinCoverageOption = 0.0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Join data sets into one, with one vocabulary."""
    options = netdissect.WriteOptions(
        size=size, merge_variants=merge_variants, min_images=min_images, min_coverage=min_coverage, copy_images=True
    )
    with progress_bars() as progress:
        netdissect.concepts.merge(
            out, roots, options, overwrite=overwrite, workers=workers or available_cores(), progress=progress
        )
    _written(out)


def _names(items: list[str] | None) -> tuple[str, ...] | None:
    """Return names given as repeated options, as a comma-separated list, or both."""
    return tuple(name for item in items for name in item.split(",") if name) if items else None


def _written(out: Path) -> None:
    console().print(f"The data set is in {out}. Look at it: netdissect concepts inspect {out}", soft_wrap=True)


@app.command()
def inspect(
    root: RootArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write a contact sheet PNG: images beside their label maps.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Concepts of each category in the table.")] = 15,
    workers: WorkersOption = None,
) -> None:
    """List what a data set holds, and everything that is wrong with it; exit code 1 if anything is."""
    with progress_bars() as progress:
        inspection = netdissect.inspect_dataset(root, workers=workers or available_cores(), progress=progress)
    if sheet is not None:
        _save_sheet(root, sheet)
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        _print(inspection, top)
    if inspection.problems:
        raise typer.Exit(1)


def _save_sheet(root: Path, sheet: Path) -> None:
    image = netdissect.contact_sheet(root)
    try:
        image.save(sheet)
    except (OSError, ValueError) as error:
        raise netdissect.NetdissectError(
            f"the contact sheet cannot be written to {sheet} ({error}). Name a .png file in a folder that exists."
        ) from error


def _print(inspection: "Inspection", limit: int) -> None:
    screen = console()
    screen.print(
        f"{inspection.root}: {counted(inspection.images, 'images')}, {inspection.labeled} of them labeled; "
        + ", ".join(f"{images} {split}" for split, images in inspection.splits.items())
        + "; "
        + ", ".join(f"{images} of {size}" for size, images in inspection.sizes.items())
    )
    if inspection.turned:
        screen.print(f"{counted(inspection.turned, 'images')} with an EXIF rotation: run, labeled and shown as stored.")
    for category in inspection.categories:
        screen.print(_category_table(inspection, category, limit), soft_wrap=True)
    if not inspection.problems:
        screen.print("No problems found.")
    for problem in inspection.problems[:PROBLEMS_SHOWN]:
        screen.print(f"[red]problem:[/] {escape(str(problem))}")
    if len(inspection.problems) > PROBLEMS_SHOWN:
        screen.print(
            f"... and {counted(len(inspection.problems) - PROBLEMS_SHOWN, 'more problems')}; --json lists all."
        )


def _category_table(inspection: "Inspection", category: "CategoryFacts", limit: int) -> TextTable:
    quantiles = REPORTED_QUANTILES if inspection.labeled < SMALL_DATA else REPORTED_QUANTILES[:1]
    attainable = [f"attainable IoU at {quantile:g}" for quantile in quantiles]
    numbers = ("images", "coverage", "share of all pixels", *attainable)
    members = [concept for concept in inspection.concepts if concept.category == category.name]
    rows = []
    for concept in members[:limit]:
        values = (concept.max_attainable_iou, concept.max_attainable_iou_at_0_02)[: len(quantiles)]
        rows.append(
            [
                concept.name,
                str(concept.frequency),
                f"{concept.coverage:.2f}",
                f"{concept.share:.2%}",
                *(f"{value:.3f}" for value in values),
            ]
        )
    title = f"{category.name}: {counted(category.concepts, 'concepts')} on {counted(category.images, 'images')}"
    more = [f"... {len(members) - limit} more: --top {len(members)}"] if len(members) > limit else []
    return TextTable([Column("concept", "text", key=True), *map(Column, numbers)], rows, title, more)


@app.command()
def synthetic(
    out: OutOption,
    num_images: Annotated[int, typer.Option("--num-images", min=1, help="How many images.")] = 4000,
    size: Annotated[int, typer.Option("--size", min=64, max=128, help="Of the square images, in pixels.")] = 96,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same images.")] = 0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
) -> None:
    """Draw a synthetic data set, whose labels are known exactly."""
    with progress_bars() as progress:
        netdissect.write_synthetic(
            out, images=num_images, size=size, seed=seed, overwrite=overwrite, workers=workers or available_cores(),
            progress=progress,
        )  # fmt: skip
    _written(out)


@app.command()
def segment(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images without labels, at any depth.")],
    spec: Annotated[
        str,
        typer.Option(
            "--segmenter",
            metavar="SPEC",
            help=(
                "transformers:NAME_OR_DIR (semantic, panoptic, CLIPSeg), torchvision:NAME, onnx:FILE, "
                "python:package.module:factory, or the .safetensors file of a segmenter that netdissect trained."
            ),
        ),
    ],
    out: OutOption,
    labels: LabelsOption = None,
    words: WordsOption = None,
    min_score: MinScoreOption = None,
    quadrants: Annotated[
        bool, typer.Option("--quadrants", help="Label the halves of each connected component of an object as parts.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="DIR", help="Data set with human masks: IoU of each concept with them."),
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Images become this square; label maps half of it.")] = 224,
    resize: Annotated[
        Resize, typer.Option("--resize", help="How an image becomes a square; stretch: as Broden.")
    ] = "stretch",
    colors: Annotated[bool, typer.Option("--colors/--no-colors", help="Name the color of every pixel.")] = True,
    min_images: MinImagesOption = 0,
    min_coverage: MinCoverageOption = 0.0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in one pass of the segmenter.")] = 8,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a data set from images without labels: a segmenter labels them; a killed command goes on where it was."""
    segmenter = netdissect.load_segmenter(spec, labels=labels, words=words, min_score=min_score)
    write = netdissect.WriteOptions(
        size=size, resize=resize, colors=colors, min_images=min_images, min_coverage=min_coverage
    )
    options = netdissect.MachineLabelOptions(write=write, quadrants=quadrants, compare=compare, batch_size=batch_size)
    with progress_bars() as progress:
        made = netdissect.segment_dataset(
            out,
            images,
            segmenter,
            options,
            overwrite=overwrite,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
        return
    if made.masks.agreement is not None:
        console().print(netdissect.console_tables.mask_agreement(made.masks), soft_wrap=True)
    _written(out)
