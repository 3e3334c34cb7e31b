"""`netdissect intervene`: ablate or insert units of a generator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import netdissect
from netdissect.cli.console import console, progress_bars
from netdissect.cli.generators.segmenter_options import LabelsOption, MinScoreOption, WordsOption, typed_segmenter
from netdissect.cli.networks import TrustOption, load_named
from netdissect.cli_options import Typed, with_options
from netdissect.experiments.interventions.intervene_config import InterveneConfig
from netdissect.report.text_table import Column, TextTable

if TYPE_CHECKING:
    from netdissect.experiments.interventions.change_units import Intervention

COLUMNS = [
    Column("units", "text", key=True),
    Column("concept", "text", key=True),
    *(Column(name) for name in ("before", "after", "effect", "95 % interval", "random sets", "equal activation")),
]
STRENGTH_COLUMNS = [Column("unit", key=True), Column("strength"), Column("IoU")]
ROWS = 20
"""Rows that are printed: the concept's own first, then the largest effects."""


@with_options(InterveneConfig)
def intervene(
    typed: Typed[InterveneConfig],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of a generator.")],
    network: Annotated[
        str | None, typer.Option("--network", metavar="GENERATOR", help="If the run's own cannot be loaded.")
    ] = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", metavar="SPEC", help="Default: the one that labeled the samples.")
    ] = None,
    labels: LabelsOption = None,
    words: WordsOption = None,
    min_score: MinScoreOption = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="The samples' folder, if it was moved.")] = None,
    trust_network: TrustOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ablate or insert units of a generator; measure how the area of a concept changes, against other units."""
    from netdissect.experiments.interventions.intervene import intervene as intervene_in
    from netdissect.models import Generator

    config, named = typed.model(), typed_segmenter(segmenter, labels, words, min_score)
    result = netdissect.load_result(run)
    given = load_named(network, result.info)
    with progress_bars() as progress:
        found = intervene_in(
            result, config, generator=given if isinstance(given, Generator) else None,
            segmenter=named.load() if named else None, data=data_root, trust_network=trust_network, progress=progress,
        )  # fmt: skip
    if as_json:
        masks, info = result.info.data.masks, result.info
        facts = {
            "generator": info.network.name,
            "generator_digest": info.network.digest,
            "segmenter": segmenter or (masks.segmenter if masks else None),
        }
        typer.echo(json.dumps(facts | _as_json(found, info.data.images), indent=2))
        return
    console().print(_table(found), soft_wrap=True)
    if len(found.strengths):
        console().print("", _strengths(found), sep="\n", soft_wrap=True)


def _as_json(found: "Intervention", images: int) -> dict[str, Any]:
    return {
        "layer": found.layer,
        "units": found.units,
        **found.config.model_dump(exclude={"units", "layer"}),
        "samples": min(found.config.samples, images),
        "effects": found.table.to_dicts(),
        "map": found.map.to_dicts(),
        "strengths": found.strengths.to_dicts(),
        "epochs": found.epochs.to_dicts(),
    }


def _table(found: "Intervention") -> TextTable:
    verb = {"ablate": "ablated", "insert": "inserted"}[found.config.how]
    title = f"Change of the area of {found.config.concept} where units of {found.layer} are {verb}, in % of the image"
    own = found.table["concept"] == found.config.concept
    rest = found.table.filter(~own).sort(found.table.filter(~own)["effect"].abs(), descending=True)
    shown = [*found.table.filter(own).sort("effect").iter_rows(named=True), *rest.iter_rows(named=True)][:ROWS]
    notes = ["Random sets: as many other units. Equal activation: other units of the most similar mean activation."]
    return TextTable(COLUMNS, [[*_cells(row, found)] for row in shown], title, notes)


def _strengths(found: "Intervention") -> TextTable:
    title = f"Strength of units of {found.layer} that are ablated and inserted for {found.config.concept}, optimized"
    rows = [
        [str(row["unit"]), f"{row['strength']:.3f}", f"{row['iou']:.4f}"]
        for row in found.strengths.head(ROWS).iter_rows(named=True)
    ]
    first, last = (found.epochs.row(index, named=True)["heldout_loss"] for index in (0, -1))
    notes = [] if first is None else [f"Loss on cells that were held out: {first:.3f} before, {last:.3f} after."]
    return TextTable(STRENGTH_COLUMNS, rows, title, notes)


def _cells(row: dict[str, Any], found: "Intervention") -> Iterator[str]:
    from netdissect.scoring.number_text import change_text

    units = found.units[row["set"]]
    yield ",".join(map(str, units[:5])) + (f" and {len(units) - 5} more" if len(units) > 5 else "")
    yield row["concept"]
    yield from (f"{100 * row[name]:.2f}" for name in ("before", "after"))
    yield change_text(row["effect"])
    yield f"{change_text(row['ci_low'])} to {change_text(row['ci_high'])}"
    yield from (change_text(row[name]) for name in ("control_effect", "matched_effect"))
