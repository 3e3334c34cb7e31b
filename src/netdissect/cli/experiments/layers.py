"""`netdissect experiment layers`."""

from typing import Annotated

import typer

import netdissect
from netdissect.cli.experiments.finish import carry_out
from netdissect.cli.experiments.options import (
    BatchOption,
    ConceptsOption,
    DeviceOption,
    LimitOption,
    MinIouOption,
    NetworkArgument,
    OutOption,
    QuantileOption,
    RuleOption,
    SeedOption,
    measured,
    open_network,
)


def layers(
    network: NetworkArgument,
    concepts: ConceptsOption,
    out: OutOption,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Layer name or glob; repeats. Default: all convolutions.")
    ] = None,
    quantile: QuantileOption = None,
    min_iou: MinIouOption = 0.04,
    rule: RuleOption = "per-category",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = "cpu",
) -> None:
    """Detectors by category over all convolutions of one network."""
    loaded = open_network(network, seed)
    config = netdissect.experiments.LayersConfig(
        dissect=measured(
            layer or netdissect.experiments.convolutions(loaded), quantile, min_iou=min_iou, limit=limit, seed=seed,
            batch_size=batch_size, device=device,
        ),
        rule=rule,
    )  # fmt: skip
    carry_out(lambda progress: netdissect.experiments.layers(loaded, concepts, config, out=out, progress=progress), out)
