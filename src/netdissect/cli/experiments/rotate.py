"""`netdissect experiment rotate`."""

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    MEASURED,
    ConceptsOption,
    NetworkArgument,
    OutOption,
    WeightsSeedOption,
    open_network,
)
from netdissect.cli_options import Typed, with_options
from netdissect.experiments import RotateConfig


@with_options(RotateConfig, MEASURED)
def run(
    asked: Typed[RotateConfig],
    network: NetworkArgument,
    concepts: ConceptsOption,
    out: OutOption,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """All bases come from one forward pass; where the disk lacks room for rotated activations, from two."""
    config, loaded = asked.model(), open_network(network, weights_seed)
    carry_out(lambda progress: netdissect.experiments.rotate(loaded, concepts, config, out=out, progress=progress), out)
