"""`netdissect label`: words of any list for the units of a run."""

import json
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.results import RunArgument
from netdissect.cli_options import Typed, with_options
from netdissect.evaluation.open_vocabulary.label_config import LabelConfig
from netdissect.paths import check_writable

EMBEDDINGS_HELP = (
    "What embeds images and words: transformers:NAME_OR_DIR (CLIP, SigLIP), python:package.module:factory, the "
    ".safetensors file of a two-tower network, or their embeddings: IMAGES.npy,WORDS.npy."
)


@with_options(LabelConfig)
def label(
    typed: Typed[LabelConfig],
    run: RunArgument,
    words: Annotated[Path, typer.Option("--words", help="Text file of words or phrases, one a line.")],
    embeddings: Annotated[str, typer.Option("--embeddings", metavar="SPEC", help=EMBEDDINGS_HELP)],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write: a word for each unit.")],
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Units that are printed.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every unit.")] = False,
) -> None:
    """Give each unit of a run with --moments the word of a list that describes its images best, as CLIP-Dissect."""
    from netdissect.evaluation.label_files import write_label_file
    from netdissect.report import word_tables

    result = netdissect.load_result(run)
    check_writable(out)
    with progress_bars() as progress:
        labels = netdissect.label(
            result,
            words,
            embeddings,
            config=typed.model(),
            data_root=data_root,
            execution=netdissect.Execution(cache_folder=user_cache_path("netdissect")),
            progress=progress,
        )
    write_label_file(labels, out)
    if as_json:
        typer.echo(json.dumps(word_tables.words_json(labels), indent=2))
        return
    screen = console()
    for part in (word_tables.word_units(result, labels, top), "", word_tables.word_layers(labels)):
        screen.print(part, soft_wrap=True)
    screen.print(f"Wrote {out}", soft_wrap=True)
