"""Linear SVMs on features: as scikit-learn does it, kept, and compared with detectors."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

import labeled_images
from netdissect import ConceptData, DissectConfig, Network, Preprocessing, dissect
from netdissect.errors import ConfigError, ResultError
from netdissect.experiments.linear_probe.experiment import LinearProbeConfig, conclude, correlation, linear_probe
from netdissect.experiments.linear_probe.probe import Subject, pooled_features
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result
from netdissect.synthetic import write_synthetic
from netdissect.training import LabeledImages

SIDE = 64
SMALL = Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.25,) * 3)
FEW = LinearProbeConfig(splits=2, folds=2, penalties=(1e-3, 1e-1))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures") / "classes"
    return labeled_images.labeled_folder(labeled_images.write_classes(root, count=12, side=SIDE))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    world = ConceptData.open(write_synthetic(tmp_path_factory.mktemp("world") / "world", images=12, size=SIDE))
    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(3, 5, 7, stride=6), nn.ReLU()).requires_grad_(False)
        network = Network(f"net {seed}", module, SMALL)
        found.append(Subject(network, "1", dissect(network, world, config=DissectConfig(layers=("1",)))))
    return found


def test_features_are_means_or_maxima_of_hooked_activations(subjects, pictures):
    network = subjects[0].network
    images = torch.cat([SMALL(torch.from_numpy(one)) for one in pictures.batches(SMALL)])
    maps = network.module(images)
    for pool, expected in (("mean", maps.mean((2, 3))), ("max", maps.amax((2, 3)))):
        config = LinearProbeConfig(pool=pool, batch_size=5)
        found = pooled_features(network, "1", pictures, config)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_accuracies_are_scikit_learn_s(subjects, pictures):
    result = linear_probe(subjects[:1], pictures, FEW)
    features = pooled_features(subjects[0].network, "1", pictures, FEW)
    splits = StratifiedShuffleSplit(2, test_size=0.5, random_state=0).split(features, pictures.labels)
    for split, (train, test) in enumerate(splits):
        wide = features.astype(np.float64)
        mean, deviation = wide[train].mean(0), wide[train].std(0)
        machine = LinearSVC(C=0.001).fit((wide[train] - mean) / deviation, pictures.labels[train])
        expected = machine.score((wide[test] - mean) / deviation, pictures.labels[test])
        assert result.table.filter(split=split, C_selection="paper")["accuracy"].item() == pytest.approx(expected)
        picked = result.table.row(
            by_predicate=(pl.col("split") == split) & (pl.col("C_selection") != "paper"), named=True
        )
        folds = StratifiedKFold(2, shuffle=True, random_state=0)
        machines = {c: make_pipeline(StandardScaler(), LinearSVC(C=c, random_state=0)) for c in FEW.penalties}
        means = [
            cross_val_score(one, features[train], pictures.labels[train], cv=folds).mean() for one in machines.values()
        ]
        assert picked["C"] == FEW.penalties[int(np.argmax(means))]
        machine = machines[picked["C"]].fit(features[train], pictures.labels[train])
        assert picked["accuracy"] == machine.score(features[test], pictures.labels[test])


def test_the_correlation_has_fisher_s_interval():
    rng = np.random.default_rng(0)
    one = rng.normal(size=12)
    other = one + rng.normal(size=12)
    found = correlation(one.tolist(), other.tolist())
    value = np.corrcoef(one, other)[0, 1]
    half = stats.norm.ppf(0.975) / math.sqrt(12 - 3)
    assert found.mean == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half))
    )
    assert correlation([1, 2, 3], [1, 2, 3]) is None
    assert correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None


def test_layers_are_compared_by_their_unique_detectors(subjects, pictures, tmp_path):
    result = linear_probe(subjects, pictures, FEW)
    for subject in subjects:
        counts = subject.result.detectors("per-category")[0].count.unique_detectors
        rows = result.table.filter(network=subject.network.name)
        assert rows["unique_detectors"].unique().to_list() == [counts["object"]]
        assert rows["unique_all"].unique().to_list() == [counts["total"]]
    assert "4 layers, 3 classes" in result.conclusion.finding
    assert result.extra_tables["classes"].rows() == [("blue", 12), ("green", 12), ("red", 12)]
    saved = save_experiment_result(result, tmp_path)
    assert (saved / "figure.pdf").is_file()
    again = load_experiment_result(saved)
    assert conclude(again.table, FEW, extra=again.extra_tables) == result.conclusion


def test_networks_of_one_name_are_numbered(subjects, pictures):
    twins = [Subject(Network("net", one.network.module, SMALL), one.layer, one.result) for one in subjects[:2]]
    found = linear_probe(twins, pictures, FEW).table
    assert found["network"].unique(maintain_order=True).to_list() == ["net", "net (2)"]


def test_too_few_layers_are_inconclusive(subjects, pictures):
    assert linear_probe(subjects[:2], pictures, FEW).conclusion.outcome == "inconclusive"


def test_features_are_kept_by_what_made_them(subjects, pictures, tmp_path):
    first = linear_probe(subjects[:1], pictures, FEW, out=tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    stamp = file.stat().st_mtime_ns
    assert linear_probe(subjects[:1], pictures, FEW, out=tmp_path).table.equals(first.table)
    assert file.stat().st_mtime_ns == stamp
    linear_probe(subjects[:1], pictures, FEW.model_copy(update={"pool": "max"}), out=tmp_path)
    assert len(list((tmp_path / "features").iterdir())) == 2
    file.write_bytes(b"not an array")
    with pytest.raises(ResultError, match="is damaged"):
        linear_probe(subjects[:1], pictures, FEW, out=tmp_path)


def test_what_cannot_be_is_refused(subjects, pictures):
    with pytest.raises(ConfigError, match="No layer of a network"):
        linear_probe([], pictures, FEW)
    few = pictures.subset(np.array([0, 1, 12, 13, 14, 15]))
    nothing = LabeledImages((), np.zeros(0, np.int64), ())
    with pytest.raises(ConfigError, match="no images with a class"):
        linear_probe(subjects[:1], nothing, FEW)
    with pytest.raises(ConfigError, match=r"'blue' the fewest: 2\. Expected at least 2 classes and 4 images"):
        linear_probe(subjects[:1], few, FEW)
