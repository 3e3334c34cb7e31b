"""`netdissect experiment layers`."""

from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    ConceptsOption,
    Measure,
    NetworkArgument,
    OutOption,
    RuleOption,
    measure,
    open_network,
)
from netdissect.cli.options import with_options_of


@with_options_of(measure)
def layers(
    measured: Measure,
    network: NetworkArgument,
    concepts: ConceptsOption,
    out: OutOption,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Layer name or glob; repeats. Default: all convolutions.")
    ] = None,
    rule: RuleOption = "per-category",
) -> None:
    """Detectors by category over all convolutions of one network."""
    loaded = open_network(network, measured.weights_seed)
    config = netdissect.experiments.LayerProfileConfig(
        dissect=measured.config(layer or netdissect.experiments.convolutions(loaded)),
        rule=rule,
    )
    carry_out(
        lambda progress: netdissect.experiments.layer_profile(loaded, concepts, config, out=out, progress=progress), out
    )
