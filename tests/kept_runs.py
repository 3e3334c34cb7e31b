"""A small run that kept its masks, for tests of formulas in several rooms."""

import pytest

import strategies
from netdissect import dissect
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.result import Result
from networks import COVERAGE, SIDE, build, images


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Dissect two layers of a random network on forty images of two sizes, at two quantiles."""
    root = tmp_path_factory.mktemp("kept")
    drawn = images(40, sizes=((12, 12), (6, 8)))
    data = strategies.write_broden(root / "broden", drawn, COVERAGE, image=(SIDE, SIDE))
    config = DissectConfig(
        layers=("wide_relu", "fc"),
        batch_size=8,
        top_images=3,
        statistics=StatisticsConfig(bootstrap=0, permutations=0, keep_masks=True),
        protocol=Protocol(quantiles=(0.05, 0.2)),
    )
    return dissect(build(), data, config=config, out=root / "run")
