"""What a run keeps of single images, against the oracle on that image alone."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import networks
import oracle
import run_asserts
import strategies
from netdissect.config import PROTOCOL_NAMES, DissectConfig, Execution, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import Shard, dissect_shard
from netdissect.models import Network
from netdissect.result import LayerResult, Result, load_result
from networks import COVERAGE, FIELDS, SIDE, build

pytestmark = pytest.mark.usefixtures("tight")

LAYERS = ("wide_relu", "deep_relu", "fc")
QUANTILES = (0.05, 0.2)
BATCH = 4
ENGINES = ({"activation_cache": "sparse"}, {"activation_cache": "none"}, {"engine": "tensor"})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with label maps of two sizes: batches hold one or two of a size, then some of the other.

    The last one is labeled in a corner alone: masks there meet no label.
    """
    corner = np.zeros((6, 8), np.int64)
    corner[0, 0] = 1
    drawn = [*networks.images(count=11, sizes=((12, 12), (12, 12), (6, 8))), oracle.OracleImage((corner,), (), (6, 8))]
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, drawn, COVERAGE, image=(SIDE, SIDE))


def config(definition: strategies.Definition) -> DissectConfig:
    protocol = definition.protocol.model_copy(update={"quantiles": QUANTILES})
    statistics = StatisticsConfig(bootstrap=20, holdout=0.5)
    return DissectConfig(layers=LAYERS, protocol=protocol, batch_size=BATCH, statistics=statistics)


def frame(layer: LayerResult, name: str) -> pl.DataFrame:
    return layer.statistics[name].collect()


def of_single_images(
    maps: strategies.Floats, broden: oracle.Broden, rules: oracle.Rules, fields: tuple[oracle.Field, oracle.Field]
) -> list[oracle.Counts]:
    """Count each image alone, at the thresholds of all."""
    # Every mask counts in every category, so that the activation is the whole mask.
    whole = oracle.Rules(**{**vars(rules), "activation_over": "all"})
    limits = oracle.thresholds(maps, rules)
    return [
        oracle.count(maps[row : row + 1], [image], broden.category_of, whole, (SIDE, SIDE), fields, limits)
        for row, image in enumerate(broden.source_images)
    ]


def expected_rows(images: list[oracle.Counts]) -> set[tuple[int, ...]]:
    """Entries (row, unit, number, intersection, on) of masks that are not empty.

    With five concepts, all that a unit ever meets are among its leading ones. A mask that meets none on an image has
    one entry of number 0.
    """
    rows = set()
    for row, counts in enumerate(images):
        for unit in range(counts.units):
            on = counts.activation[unit, 0]
            met = [number for number in counts.category_of if counts.intersection[unit, number]]
            rows |= {(row, unit, number, counts.intersection[unit, number], on) for number in met}
            if on and not met:
                rows.add((row, unit, 0, 0, on))
    return rows


def assert_images_are_the_oracle_s(
    result: Result, network: Network, root: Path, definition: strategies.Definition
) -> None:
    broden = oracle.read_broden(root)
    maps = run_asserts.hooked(network, root, broden.images, list(LAYERS), BATCH)
    met: set[int] = set()
    for name in LAYERS:
        rules = definition.rules
        if name not in FIELDS and rules.anchor.startswith("field"):
            rules = oracle.Rules(**{**vars(rules), "anchor": "half-pixel"})  # one cell: the anchor is of no account
        fields = FIELDS.get(name, (oracle.Field(0, 1, 1),) * 2)
        for quantile in QUANTILES:
            level = oracle.Rules(**{**vars(rules), "fraction": quantile})
            images = of_single_images(maps[name], broden, level, fields)
            table = frame(result.layers[name], "images").filter(pl.col("quantile") == quantile)
            found = table.select("image_index", "unit", "label_id", "intersection", "mask_pixels").rows()
            assert len(found) == len(set(found))
            assert set(found) == expected_rows(images), (name, quantile)
            met |= set(table["label_id"])
        found = frame(result.layers[name], "labels").select("image_index", "label_id", "pixels").rows()
        labels = [
            (row, n, counts.concept_pixels[n])
            for row, counts in enumerate(images)
            for n in sorted(counts.concept_pixels)
        ]
        assert sorted(found) == [entry for entry in labels if entry[2]]
    assert met == {0, *broden.category_of}


@pytest.mark.parametrize("how", ENGINES)
@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_tables_of_single_images_are_those_of_the_oracle_image_by_image(
    mixed: Path, name: ProtocolName, how: dict[str, Any]
) -> None:
    definition = strategies.definition(name, QUANTILES[0], 12)
    network = build()
    result = dissect(network, mixed, config=config(definition), execution=Execution(**how))
    assert_images_are_the_oracle_s(result, network, mixed, definition)


def test_shards_keep_the_tables_of_single_images_of_the_oracle(mixed: Path, tmp_path: Path) -> None:
    definition, network, run = strategies.definition("paper", QUANTILES[0]), build(), tmp_path / "run"
    for _ in ("thresholds", "counts"):
        for number in (2, 1):
            dissect_shard(network, mixed, config=config(definition), shard=Shard(number, 2), out=run)
        merge_shards(run)
    assert_images_are_the_oracle_s(load_result(run), network, mixed, definition)
