"""Runs that the tests of labels share."""

from pathlib import Path

import pytest

import strategies
from kept_runs import kept_run
from netdissect import dissect
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.result import Result
from networks import COVERAGE, SIDE, build, images

__all__ = ["kept_run"]


@pytest.fixture(scope="session")
def labeled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of two sizes."""
    drawn = images(60, sizes=((12, 12), (6, 8)))
    root = tmp_path_factory.mktemp("labels")
    return strategies.write_broden(root / "broden", drawn, COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="session")
def moments_run(labeled_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Dissect two layers of a random network with the moments of all images."""
    config = DissectConfig(
        layers=("wide_relu", "fc"),
        batch_size=8,
        top_images=3,
        statistics=StatisticsConfig(bootstrap=0, permutations=0, moments=True),
        protocol=Protocol(quantiles=(0.05, 0.2)),
    )
    return dissect(build(), labeled_data, config=config, out=tmp_path_factory.mktemp("moments") / "run")
