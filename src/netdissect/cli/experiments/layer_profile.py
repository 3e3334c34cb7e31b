"""`netdissect experiment layer-profile`."""

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
from netdissect.experiments import LayerProfileConfig, convolutions, layer_profile


@with_options(LayerProfileConfig, MEASURED)
def run(
    asked: Typed[LayerProfileConfig],
    network: NetworkArgument,
    concepts: ConceptsOption,
    out: OutOption,
    weights_seed: WeightsSeedOption = 0,
) -> None:
    """Dissect the layers named with --layer, or all convolutions."""
    loaded = open_network(network, weights_seed)
    config = asked.model({"dissect": MEASURED["dissect"] | {"layers": convolutions(loaded)}})
    carry_out(lambda progress: layer_profile(loaded, concepts, config, out=out, progress=progress), out)
