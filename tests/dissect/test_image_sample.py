"""Which images take part, and that a run says so: the folder and the opened data set give one run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import strategies
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, NetworkSource, Protocol, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.cost_estimate import estimate
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import Shard, dissect_shard
from netdissect.dissect.verify import repair, verify_sample
from netdissect.dissect.work_dir.fingerprint import run_identity
from netdissect.errors import ConceptsError, ConfigError
from netdissect.experiments.layer_profile.experiment import LayerProfileConfig, layer_profile
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, build, images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, some in each split."""
    root = strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(12), COVERAGE, image=(SIDE, SIDE))
    index = (root / "index.csv").read_text().splitlines()
    split = [line.replace("train", "val") if number % 3 == 0 else line for number, line in enumerate(index)]
    (root / "index.csv").write_text("\n".join([index[0], *split[1:]]) + "\n")
    assert {row.split for row in ConceptData.open(root).rows} == {"train", "val"}
    return root


def config(**options: Any) -> DissectConfig:
    return DissectConfig(
        layers=("wide_relu",), protocol=Protocol(quantiles=(0.2,)), statistics=StatisticsConfig(bootstrap=0),
        batch_size=4, top_images=2, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("opened", "asked"),
    [
        ({}, {"max_images": 5, "sample_seed": 1}),
        ({}, {"split": "train", "max_images": 3}),
        ({}, {"categories": ("part",)}),
        ({"max_images": 5, "sample_seed": 1}, {}),
        ({"max_images": 5, "sample_seed": 1}, {"max_images": 5, "sample_seed": 1}),
        ({"split": "val"}, {"max_images": 2, "sample_seed": 7}),
        ({"split": "val"}, {"split": "val"}),
        ({"categories": ("object", "part")}, {"categories": ("part",), "max_images": 4}),
        ({"categories": "part"}, {"split": "train"}),
        ({"max_images": 500}, {"max_images": 5}),
    ],
)
def test_an_opened_data_set_is_restricted_as_its_folder_is(root: Path, opened: Any, asked: Any) -> None:
    run = dissect(build(), ConceptData.open(root, **opened), config=config(**asked))
    limit = {} if opened == {"max_images": 500} else opened  # of twelve images nothing was drawn
    same = dissect(build(), root, config=config(**limit | asked))
    assert run_identity(run.info) == run_identity(same.info)
    assert run.layers["wide_relu"].scores.equals(same.layers["wide_relu"].scores)
    assert run.info.data.images == asked.get("max_images", opened.get("max_images", run.info.data.images))


@pytest.mark.parametrize(
    ("opened", "asked", "name"),
    [
        ({"split": "val"}, {"split": "train"}, "split='train'"),
        ({"max_images": 5}, {"split": "train"}, "split='train'"),
        ({"max_images": 5}, {"max_images": 4}, "max_images=4"),
        ({"max_images": 5}, {"max_images": 5, "sample_seed": 1}, "sample_seed=1"),
        ({"max_images": 5, "sample_seed": 1}, {"max_images": 5}, "sample_seed=0"),
        ({"max_images": 5, "sample_seed": 1}, {"sample_seed": 2}, "sample_seed=2"),
        ({"max_images": 5}, {"categories": ("part",)}, r"categories=\('part',\)"),
        ({"categories": ("part",)}, {"categories": ("object",)}, r"categories=\('object',\)"),
    ],
)
def test_a_configuration_that_contradicts_how_the_data_were_opened_is_refused(
    root: Path, opened: Any, asked: Any, name: str
) -> None:
    with pytest.raises(ConfigError, match=f"the configuration asks for {name}, but the data set was opened with"):
        dissect(build(), ConceptData.open(root, **opened), config=config(**asked))


def test_a_run_on_sampled_images_is_repeated_and_verified_from_its_folder(root: Path, tmp_path: Path) -> None:
    run = dissect(build(), ConceptData.open(root, max_images=5, sample_seed=3), config=config(), out=tmp_path / "run")
    assert [one.changed for one in verify_sample(run, 4, network=build())] == [0] * 4
    asked = read_config(tmp_path / "run")
    assert (asked.config.max_images, asked.config.sample_seed) == (5, 3)
    again = dissect(build(), asked.concepts, config=asked.config)
    assert run_identity(again.info) == run_identity(run.info)
    (tmp_path / "run" / "concepts.parquet").unlink()
    assert repair(tmp_path / "run", network=build()) == ["concepts.parquet"]


def test_images_that_were_chosen_by_hand_are_said_to_be(root: Path, tmp_path: Path) -> None:
    whole = ConceptData.open(root)
    chosen = replace(whole, rows=whole.rows[2:8])
    network = replace(build(), source=NetworkSource(spec="torchvision:alexnet"))
    run = dissect(network, chosen, config=config(), out=tmp_path / "run")
    assert run.info.data.chosen_in_python
    assert run.info.data.images == 6
    assert read_config(tmp_path / "run").concepts is None
    with pytest.raises(ConceptsError, match=r"the run used 6 images of .* that were chosen in Python"):
        verify_sample(run, 2, network=build())
    assert [one.changed for one in verify_sample(run, 2, network=build(), root=chosen)] == [0] * 2
    with pytest.raises(ConceptsError, match="has the digest"):
        verify_sample(run, 2, network=build(), root=whole)
    with pytest.raises(
        ConfigError, match="asks for split='train', max_images=2 of a data set whose 6 images were chosen"
    ):
        dissect(build(), chosen, config=config(split="train", max_images=2))


def test_shards_and_predictions_see_the_chosen_images(root: Path, tmp_path: Path) -> None:
    whole = ConceptData.open(root)
    drawn, chosen = ConceptData.open(root, max_images=8, sample_seed=1), replace(whole, rows=whole.rows[::2])
    for name, data, given in (("drawn", drawn, None), ("chosen", chosen, chosen)):
        expected = dissect(build(), data, config=config())
        for _ in range(2):
            for number in (1, 2):
                dissect_shard(build(), data, config=config(), shard=Shard(number, 2), out=tmp_path / name)
            merge_shards(tmp_path / name, concepts=given)
        merged = dissect(build(), data, config=config(), out=tmp_path / name)
        assert merged.layers["wide_relu"].scores.equals(expected.layers["wide_relu"].scores)
    assert estimate(build(), whole, config=config(max_images=8), sample=4).images == 8
    assert estimate(build(), chosen, config=config(), sample=4).images == 6


def test_an_experiment_records_the_images_of_an_opened_data_set(root: Path, tmp_path: Path) -> None:
    outcome = layer_profile(
        build(), ConceptData.open(root, max_images=4), LayerProfileConfig(dissect=config()), out=tmp_path
    )
    assert outcome.config["dissect"]["max_images"] == 4
