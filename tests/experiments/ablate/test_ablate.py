"""Units that are off are units whose weights are zero."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

import labeled_images
from netdissect import Network, Preprocessing, list_layers, load_network
from netdissect.errors import ConfigError, LayerError, ResultError
from netdissect.experiments.ablate import predictions
from netdissect.experiments.ablate.experiment import AblateConfig, ablate, conclude
from netdissect.experiments.ablate.unit_sets import balanced_terms
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.training.classification_data import balanced_halves

SMALL = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)


class Wrapped(nn.Module):
    """No sequence to the eye of the library."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Run the body."""
        return self.body(images)


def network(*, wrapped: bool = False) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    body[2][1].running_mean.uniform_(-0.1, 0.1)
    body[2][1].bias.data.uniform_(-0.2, 0.2)
    return Network("small", (Wrapped(body) if wrapped else body).eval(), SMALL)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return labeled_images.images(tmp_path_factory.mktemp("pictures"))


def zeroed(found: Network, name: str, units: list[int]) -> nn.Module:
    """Return the module with the weights and biases of these units at zero."""
    module = copy.deepcopy(found.module)
    convolution = module.get_submodule(name)
    convolution.weight.data[units] = 0
    convolution.bias.data[units] = 0
    return module


class Branching(nn.Module):
    """Its code depends on the data: it cannot be followed."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Run the body, unless there is nothing to see."""
        return self.body(images) if images.sum() != 0 else self.body(images + 1)


def residual(*, wrapped: bool = False) -> Network:
    """A network whose early layer is needed again behind a later one, and changed in place there."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 5, stride=4)
            self.conv = nn.Conv2d(6, 6, 3, padding=1)
            self.mix = nn.Conv2d(6, 6, 1)
            self.fc = nn.Linear(6, 3)

        def forward(self, images: Tensor) -> Tensor:
            stem = self.stem(images)
            branch = self.conv(stem)
            stem += branch
            return self.fc(self.mix(stem.relu_()).mean((2, 3)))

    torch.manual_seed(0)
    module = Residual()
    return Network("residual", Wrapped(module) if wrapped else module, SMALL)


CASES = {
    "pooled": (network, "2.0", "linear"),
    "sequence": (network, "0", "partial"),
    "inside": (lambda: network(wrapped=True), "body.0", "partial"),
    "inside, pooled": (lambda: network(wrapped=True), "body.2.0", "linear"),
    "shortcut": (residual, "conv", "partial"),
    "before a shortcut": (lambda: residual(wrapped=True), "body.stem", "partial"),
    "branching": (lambda: Network("branching", Branching(network().module), SMALL), "body.0", "full"),
}


@pytest.mark.parametrize("case", CASES)
def test_ablating_units_is_zeroing_their_weights(pictures, case):
    make, layer, mode = CASES[case]
    small = make()
    ablator = unit_ablator(small, layer)
    assert ablator.mode == mode
    images = torch.cat([small.preprocessing(torch.from_numpy(one)) for one in pictures.batches(SMALL)])
    sets = [[], [2], [0, 3, 5], list(range(6)), []]
    whole = small.forward(images.clone())
    for units, scores in zip(sets, ablator.scores(images, sets), strict=True):
        torch.testing.assert_close(scores, zeroed(small, layer, units)(images), rtol=1e-5, atol=1e-6)
        assert torch.allclose(scores, whole) == (units == [])
    torch.testing.assert_close(small.forward(images), whole, rtol=0, atol=0)


def test_the_part_before_the_layer_runs_once_a_batch(pictures):
    small, runs = network(wrapped=True), []
    small.module.body[0].register_forward_hook(lambda *_: runs.append("layer"))
    small.module.body[2].register_forward_hook(lambda *_: runs.append("behind"))
    ablator = unit_ablator(small, "body.0")
    runs.clear()
    list(ablator.scores(torch.zeros(2, 3, 32, 32), [(unit,) for unit in range(6)]))
    assert (runs.count("layer"), runs.count("behind")) == (1, 6)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:densenet121", "torchvision:mobilenet_v2"])
def test_published_architectures_are_split(name):
    found = load_network(name, weights="none")
    layers = [layer.name for layer in list_layers(found) if layer.type == "Conv2d"]
    assert unit_ablator(found, layers[len(layers) // 2]).mode == "partial"


class InterruptedRunError(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize(("layer", "stage"), [("0", "single units"), ("0", "sets"), ("2.0", "single units")])
def test_an_interrupted_ablation_resumes(pictures, tmp_path, monkeypatch, layer, stage):
    config = AblateConfig(layer=layer, sizes=(1, 2), random_sets=2, resamples=100, batch_size=5)
    whole = ablate(network(), pictures, config)
    told = []

    def stop(name, done, _total):
        told.append(name)
        if (name, done) == (stage, 9):
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        ablate(network(), pictures, config, out=tmp_path, progress=stop)
    again = []
    kept = predictions._scores
    monkeypatch.setattr(
        predictions,
        "_scores",
        lambda classifier, shown, batch, sets: again.extend(sets) or kept(classifier, shown, batch, sets),
    )
    result = ablate(network(), pictures, config, out=tmp_path)
    units = result.context["units"]
    first, sets = 4 * (units + 1), 4 * len(read_kept(tmp_path, units))
    assert len(again) == first + sets - len(told)  # nothing twice, nothing left out
    assert result.table.equals(whole.table)
    assert result.extra_tables["units"].equals(whole.extra_tables["units"])
    assert result.conclusion == whole.conclusion
    again.clear()
    assert ablate(network(), pictures, config, out=tmp_path).table.equals(whole.table)
    assert again == []


def read_kept(folder, units):
    """Return the answers to sets of units: the file that does not have one for each unit, and one for none."""
    files = [np.load(path) for path in (folder / "predictions").iterdir()]
    return next(one for one in files if len(one) != units + 1)


def test_damaged_predictions_are_named(pictures, tmp_path):
    config = AblateConfig(layer="0", sizes=(1,), random_sets=1, resamples=100)
    ablate(network(), pictures, config, out=tmp_path)
    for path in (tmp_path / "predictions").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ResultError, match=r"predictions/.*npy cannot be used .* Remove it"):
        ablate(network(), pictures, config, out=tmp_path)


def test_names_for_another_number_of_outputs_are_refused(pictures):
    named = pictures.relabeled(("blue", "green", "red", "yellow"))
    with pytest.raises(ConfigError, match="has 3 outputs, and there are names for 4"):
        ablate(network(), named, AblateConfig(layer="0", sizes=(1,)))


def test_balanced_accuracy_is_scikit_learn_s_and_linear_in_the_images():
    rng = np.random.default_rng(0)
    named, labels = rng.integers(0, 4, (2, 50))
    for label in range(4):
        expected = balanced_accuracy_score(labels == label, named == label)
        assert 0.5 + balanced_terms(named, labels, label).sum() == pytest.approx(expected, rel=1e-12)


def planted(leak=0.0):
    """Three of five units, each the mean of one channel and `leak` of the others, decide for that channel's class."""
    convolution, linear = nn.Conv2d(3, 5, 1), nn.Linear(5, 3)
    convolution.weight.data = torch.full((5, 3, 1, 1), leak)
    convolution.weight.data[torch.arange(3), torch.arange(3)] = 1.0
    convolution.bias.data = torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0])
    linear.weight.data = torch.full((3, 5), leak)
    linear.weight.data[torch.arange(3), torch.arange(3)] = 1.0
    linear.bias.data.zero_()
    return Network("planted", nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear), SMALL)


def test_sets_are_measured_on_the_other_half_and_drops_are_differences(tmp_path):
    shown, found = labeled_images.images(tmp_path / "shown", count=20), planted(leak=0.1)
    config = AblateConfig(layer="0", sizes=(1, 2), random_sets=2)
    result = ablate(found, shown, config)
    _, half = balanced_halves(shown.labels, config.seed)
    measured, order = shown.subset(half), result.extra_tables["units"].sort("rank")
    images = torch.cat([SMALL(torch.from_numpy(one)) for one in measured.batches(SMALL)])

    def accuracy(name, units):
        labels, own = zeroed(found, "0", units)(images).argmax(1).numpy(), shown.classes.index(name)
        return balanced_accuracy_score(measured.labels == own, labels == own)

    assert len(result.table) == 3 * 2 * (3 + 2)
    for row in result.table.filter(pl.col("kind") != "random").iter_rows(named=True):
        ranked, n = order.filter(order["class"] == row["class"])["unit"].to_list(), row["set_size"]
        units = {"best": ranked[:n], "worst": ranked[-n:], "others": ranked[n:]}[row["kind"]]
        assert row["balanced_accuracy"] == pytest.approx(accuracy(row["class"], units))
        assert row["drop"] == pytest.approx(accuracy(row["class"], []) - row["balanced_accuracy"])
    for kind in ("best", "worst", "others", "random"):  # what the conclusion is drawn from sums up to the table's mean
        mean = result.table.filter(kind=kind, set_size=2)["drop"].mean()
        assert result.extra_tables["images"][kind].sum() == pytest.approx(mean)
    again = load_experiment_result(save_experiment_result(result, tmp_path / "out"))
    assert conclude(again.table, config, extra=again.extra_tables) == result.conclusion


def test_a_unit_that_decides_everything_is_found(tmp_path):
    shown = labeled_images.images(tmp_path, count=30)
    result = ablate(planted(), shown, AblateConfig(layer="0", sizes=(1,), random_sets=20))
    best = result.extra_tables["units"].filter(rank=0)
    assert dict(zip(best["class"], best["unit"], strict=True)) == {"blue": 0, "green": 1, "red": 2}
    assert result.table.filter(kind="worst")["drop"].to_list() == [0, 0, 0]
    assert result.conclusion.outcome == "agrees"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (AblateConfig(layer="2.0", sizes=(9,)), ConfigError, "sets of 9 units are to be ablated; layer '2.0' has 8"),
        (AblateConfig(layer="2.0", rank="iou", sizes=(1,)), ConfigError, "ranked by IoU.* there is none"),
        (AblateConfig(layer="nowhere"), LayerError, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(pictures, config, error, message):
    with pytest.raises(error, match=message):
        ablate(network(), pictures, config)


def test_few_images_are_inconclusive(pictures):
    few = pictures.subset(np.array([0, 1, 12, 13, 24, 25]))
    found = ablate(network(), few, AblateConfig(layer="2.0", sizes=(3,), resamples=100))
    assert found.conclusion.outcome == "inconclusive"


def test_a_class_with_one_image_is_refused(pictures):
    lonely = pictures.subset(np.array([0, 12, 13]))
    with pytest.raises(ConfigError, match="class 'blue' has 1 of 3 images"):
        ablate(network(), lonely, AblateConfig(layer="2.0", sizes=(1,)))
