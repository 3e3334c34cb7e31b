"""Dissections in the middle of a training: they are of that moment, and the training goes on as if alone."""

import copy

import pytest
import torch
from torch import nn

import networks
import strategies
from netdissect import DissectEvery
from netdissect.config import DissectConfig
from netdissect.errors import ConfigError
from netdissect.experiments import dissected_runs, training_dynamics
from netdissect.models import Network

CONFIG = DissectConfig(layers=("deep_relu",))


@pytest.fixture(scope="module")
def concepts(tmp_path_factory):
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", networks.images(), networks.COVERAGE)


@pytest.fixture
def watch(concepts, tmp_path):
    preprocessing = networks.build().preprocessing
    return DissectEvery(preprocessing, concepts, CONFIG, every=2, out=tmp_path / "runs", name="mine")


def trained(watch=None, steps=4):
    """Train the tiny network for a few steps in a plain loop; return it and what was found."""
    module = networks.build().module.requires_grad_(True).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    torch.manual_seed(1)
    found = []
    for step in range(steps + 1):
        if watch:
            found.append(watch(module, step))
        loss = module(torch.randn(4, 3, networks.SIDE, networks.SIDE)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module, found


def test_a_watched_training_ends_with_the_weights_of_one_that_is_not(watch):
    alone, _ = trained()
    watched, found = trained(watch)
    assert [result is not None for result in found] == [True, False, True, False, True]
    assert watched.training
    assert all(parameter.requires_grad for parameter in watched.parameters())
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_each_run_is_of_the_weights_of_its_step(watch, concepts):
    module = networks.build().module
    before = copy.deepcopy(module)
    first = watch(module, 0)
    with torch.no_grad():
        module.wide.weight.mul_(-1)
    second = watch(module, 2)
    assert first.info.network.name == "mine, 0 steps"
    assert first.info.network.digest == Network("any", before, watch.preprocessing).digest
    assert first.info.network.digest != second.info.network.digest


def test_a_step_that_comes_twice_is_dissected_once(watch):
    module = networks.build().module
    assert watch(module, 2) is not None
    assert watch(module, 2) is None


def test_runs_of_a_training_are_followed_as_snapshots(watch):
    trained(watch)
    outcome = training_dynamics(dissected_runs(watch.out))
    assert outcome.table["step"].unique().sort().to_list() == [0, 2, 4]


def test_steps_between_dissections_are_at_least_one(watch, concepts):
    with pytest.raises(ConfigError, match="every is 0"):
        DissectEvery(watch.preprocessing, concepts, CONFIG, every=0, out="runs")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning itself
def test_lightning_dissects_before_and_during_the_training(watch, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    from netdissect import LightningCallback

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = networks.build().module.requires_grad_(True)

        def training_step(self, batch, _index):
            return self.model(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    images = torch.randn(8, 3, networks.SIDE, networks.SIDE)
    trainer = lightning.Trainer(
        max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[LightningCallback(watch, "model")], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Task(), torch.utils.data.DataLoader(images, 2))
    assert [moment.step for moment in dissected_runs(watch.out)] == [0, 2, 4]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers itself
def test_hugging_face_s_trainer_dissects_before_and_during_the_training(watch, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from netdissect import TransformersCallback

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = networks.build().module.requires_grad_(True)

        def forward(self, pixel_values, labels=None):
            scores = self.inner(pixel_values)
            return {"loss": nn.functional.cross_entropy(scores, labels)} if labels is not None else {"logits": scores}

    watch.config = DissectConfig(layers=("inner.deep_relu",))
    examples = [{"pixel_values": torch.randn(3, networks.SIDE, networks.SIDE), "labels": n % 3} for n in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=2, report_to=[], save_strategy="no",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(Model(), arguments, train_dataset=examples, callbacks=[TransformersCallback(watch)])
    trainer.train()
    assert [moment.step for moment in dissected_runs(watch.out)] == [0, 2, 4]
