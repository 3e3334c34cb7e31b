"""Images over the range of each unit and kept image maxima of a run, against maps of plain hooks."""

from pathlib import Path

import numpy as np
import pytest

import oracle
import run_asserts
import strategies
from netdissect.activations.activation_range import IMAGES_OF_BAND
from netdissect.config import DissectConfig, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.plots.outlines import MaskGrid
from netdissect.result.queries import image_maxima
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")

LAYERS = ("wide_relu", "fc")
IMAGES = 13


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(IMAGES, sizes=((12, 12), (6, 8))), COVERAGE, image=(SIDE, SIDE))


@pytest.mark.parametrize(("name", "cache"), [("paper", "sparse"), ("paper", "none"), ("lite", "sparse")])
def test_masks_and_maxima_over_the_range_are_those_of_the_network(data: Path, name: ProtocolName, cache: str) -> None:
    protocol = strategies.definition(name, 0.05).protocol
    statistics = StatisticsConfig(permutations=0, stats_seed=5)
    config = DissectConfig(layers=LAYERS, batch_size=4, top_images=3, protocol=protocol, statistics=statistics)
    network = build()
    result = dissect(network, data, config=config, activation_cache=cache)
    names = oracle.read_broden(data, None).images
    hooked = run_asserts.hooked(network, data, names, list(LAYERS), 4)
    for layer in LAYERS:
        of_layer, maps = result.layers[layer], hooked[layer]
        maxima = maps.max(axis=(2, 3)).T
        kept = image_maxima(result, layer)
        assert kept.image_index.tolist() == list(range(IMAGES))
        np.testing.assert_array_equal(kept.maxima, maxima)
        limits = of_layer.thresholds["threshold"].to_list()
        grid, units = MaskGrid.of(result.info, of_layer), maps.shape[1]
        rows = of_layer.statistics["activation_range"].collect().to_dicts()
        assert [(row["unit"], row["percentile"], row["rank"]) for row in rows] == [
            (unit, percentile, rank)
            for unit in range(units) for percentile in (50.0, None) for rank in range(IMAGES_OF_BAND)
        ]  # fmt: skip
        for row in rows:
            unit, image = row["unit"], row["image_index"]
            assert row["image"] == names[image]
            assert row["max_activation"] == maxima[unit, image]
            if row["percentile"] is not None:
                ranked = sorted(range(IMAGES), key=lambda each, unit=unit: (-maxima[unit, each], each))
                assert image == ranked[IMAGES // 2 + row["rank"]]
            shown = np.full(maps.shape[2:], np.finfo(np.float32).min, np.float32)
            shown.flat[row["cells"]] = row["activations"]
            masks = [grid.values(each) > np.float32(limits[unit]) for each in (shown, maps[image, unit])]
            np.testing.assert_array_equal(*masks)
