"""`netdissect evaluate-bases`: metrics of the units of layers and of their bases."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.networks import TrustOption, load_named
from netdissect.cli.results import RunArgument
from netdissect.cli_options import Typed, with_options
from netdissect.evaluation.dictionaries.evaluate_bases_config import EvaluateBasesConfig

EMBEDDINGS_HELP = (
    "Embeddings of the run's images by another network, for monosemanticity, clarity and redundancy: IMAGES.npy (a "
    "row for each row of index.csv), network:NETWORK#LAYER (means over the cells of a layer), "
    "transformers:NAME_OR_DIR (CLIP, SigLIP), python:package.module:factory, or the .safetensors file of a two-tower "
    "network. Default: these are left out."
)


@with_options(EvaluateBasesConfig)
def evaluate_bases(
    typed: Typed[EvaluateBasesConfig],
    run: RunArgument,
    embeddings: Annotated[str | None, typer.Option("--embeddings", metavar="FILE|SPEC", help=EMBEDDINGS_HELP)] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Network of the run, in place of the recorded one.")
    ] = None,
    trust_network: TrustOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of bases.csv, concepts.csv and units.csv; an interrupted command resumes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the units of a run's layers and bases: reconstruction, probes, purity, monosemanticity."""
    from netdissect.evaluation.dictionaries.bases_evaluation import write_bases

    result, tables = netdissect.load_result(run), netdissect.evaluation_tables
    work = None if out is None else out / "work"
    with progress_bars() as progress:
        found = netdissect.evaluate_bases(
            result,
            embeddings=embeddings,
            config=typed.model(),
            work=work,
            network=load_named(network, result.info),
            data_root=data_root,
            execution=netdissect.Execution(cache_folder=user_cache_path("netdissect")),
            trust_network=trust_network,
            progress=progress,
        )
    if out is not None and work is not None:
        write_bases(found, out)
        shutil.rmtree(work)
    if as_json:
        typer.echo(json.dumps(tables.bases_json(result, found), indent=2))
        return
    console().print(tables.bases_table(result, found), soft_wrap=True)
    if out is not None:
        console().print(f"Wrote {out}", soft_wrap=True)
