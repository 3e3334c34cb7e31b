"""Contributions are what autograd says, and add up to the score."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import labeled_images
from netdissect import ConceptData, DissectConfig, Network, Preprocessing, Protocol, dissect
from netdissect.errors import ConfigError, NetworkError
from netdissect.experiments.attribution.experiment import AttributionConfig, attribution, conclude
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result
from netdissect.synthetic import write_synthetic

SIDE = 64
SMALL = Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    body = (nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.Conv2d(6, 9, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    module = nn.Sequential(*body, nn.Flatten(), nn.Linear(9, 4))
    return Network("small", module.eval().requires_grad_(False), SMALL)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    root = labeled_images.write_classes(tmp_path_factory.mktemp("pictures") / "classes", count=3, side=SIDE)
    return sorted(root.rglob("*.png"))


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    world = ConceptData.open(write_synthetic(tmp_path_factory.mktemp("world") / "world", images=12, size=SIDE))
    return dissect(network, world, config=DissectConfig(layers=("2",), protocol=Protocol(quantiles=(0.05,))))


def test_contributions_are_gradient_times_activation(network, paths):
    top = 9
    result = attribution(network, paths, AttributionConfig(top=top, shown=len(paths), batch_size=4))
    images = result.table.filter(level="image")
    assert images["image"].n_unique() == len(paths)
    for path in paths:
        here = images.filter(image=path.relative_to(result.context["root"]).as_posix()).sort("unit")
        pixels = next(labeled_images.labeled_folder(paths[0].parents[1]).batches(SMALL, 9))
        picture = network.preprocessing(torch.from_numpy(pixels[[paths.index(path)]]))
        maps = network.module[:3](picture).requires_grad_()
        score, label = network.module[3:](maps)[0].max(0)
        (slope,) = torch.autograd.grad(score, maps)
        expected = (slope * maps).sum((0, 2, 3)).detach()
        np.testing.assert_allclose(here["contribution"], expected, rtol=1e-4, atol=1e-6)
        assert here["class"].unique().to_list() == [str(int(label))]
        bias = float(network.module[-1].bias[label])
        assert here["contribution"].sum() + bias == pytest.approx(here["score"][0], rel=1e-4)


def test_contributions_to_a_class_are_means_over_the_images_classified_as_it(network, paths):
    result = attribution(network, paths, AttributionConfig(top=9, shown=len(paths), classes=("a", "b", "c", "d")))
    images, classes = (result.table.filter(level=scope) for scope in ("image", "class"))
    assert set(classes["class"]) == set(images["class"])
    for name in classes["class"].unique():
        here = images.filter(pl.col("class") == name).group_by("unit").agg(pl.col("contribution").mean()).sort("unit")
        found = classes.filter(pl.col("class") == name).sort("unit")
        np.testing.assert_allclose(found["contribution"], here["contribution"], rtol=1e-5, atol=1e-7)
        assert found["images"][0] == images.filter(pl.col("class") == name)["image"].n_unique()


def test_units_for_half_make_half_of_the_positive_contributions(network, paths):
    result = attribution(network, paths, AttributionConfig(top=9, shown=len(paths)))
    assert len(result.extra_tables["images"]) == len(paths)
    for row in result.extra_tables["images"].iter_rows(named=True):
        terms = sorted(result.table.filter(level="image", image=row["image"])["contribution"], reverse=True)
        positive = [term for term in terms if term > 0]
        needed = next(n for n in range(1, 10) if sum(positive[:n]) >= sum(positive) / 2 * (1 - 1e-6))
        assert row["units_for_half"] == needed
        assert row["share"] == pytest.approx(1)


def test_a_dissection_adds_labels_and_thresholds(network, paths, run):
    result = attribution(network, paths, AttributionConfig(top=3, shown=2), result=run)
    units = run.layer("2").units
    for row in result.table.iter_rows(named=True):
        assert row["label"] == units["label"][row["unit"]]
        assert row["iou"] == units["iou"][row["unit"]]
    for (unit,), cells in result.extra_tables["maps"].group_by("unit"):
        assert set(cells["threshold"]) == {units["threshold"][unit]}
    assert result.context["layer"]["name"] == "2"
    assert result.extra_tables["units"]["label"].to_list() == units["label"].to_list()


def test_the_result_is_drawn_saved_and_loaded(network, paths, run, tmp_path):
    config = AttributionConfig(top=2, shown=2)
    for name, result in (("plain", None), ("labeled", run)):
        result = attribution(network, paths, config, result=result)
        again = load_experiment_result(save_experiment_result(result, tmp_path / name))
        assert again.table.equals(result.table)
        assert again.extra_tables["maps"].equals(result.extra_tables["maps"])
        assert conclude(again.table, config, extra=again.extra_tables) == result.conclusion
        assert (tmp_path / name / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("config", "count", "error", "message"),
    [
        (AttributionConfig(classes=("a", "b")), 9, ConfigError, "2 names are given for 4 classes"),
        (AttributionConfig(), 0, ConfigError, "no image to explain"),
        (AttributionConfig(layer="0"), 9, NetworkError, "takes 9 features, but layer '0' has 6 units"),
    ],
)
def test_what_cannot_be_is_refused(network, paths, config, count, error, message):
    with pytest.raises(error, match=message):
        attribution(network, paths[:count], config)


def test_one_image_is_explained_and_inconclusive(network, paths, run):
    config = AttributionConfig(layer="2", top=20)  # more than the layer's nine units
    found = attribution(network, paths[:1], config, result=run)
    assert len(found.table.filter(level="image")) == 9
    assert found.conclusion.outcome == "inconclusive"
    assert "one value, no interval" in found.conclusion.finding
