"""Dissections in the middle of a training: they are of that moment, and the training goes on as if alone."""

import copy
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn
from torchvision import transforms

import networks
import strategies
from netdissect import DissectEvery
from netdissect.errors import ConfigError
from netdissect.experiments import dissected_runs, training_dynamics
from netdissect.models import Network, Preprocessing

LIMIT = 0.01  # random units reach no more
OPTIONS = {"layers": "deep_relu", "min_iou": LIMIT, "quantile": 0.1, "permutations": 20, "bootstrap": 0}
UNITS = "netdissect/{layer}/unique_detectors"


@pytest.fixture(scope="module")
def concepts(tmp_path_factory):
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", networks.images(), networks.COVERAGE)


@pytest.fixture
def watch(concepts, tmp_path):
    preprocessing = networks.build().preprocessing
    return DissectEvery(concepts, every=2, out=tmp_path / "runs", preprocessing=preprocessing, name="mine", **OPTIONS)


def test_the_preprocessing_of_a_callback_may_be_transforms_of_torchvision():
    steps = [transforms.Resize((8, 9)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    watch = DissectEvery("unread", every=1, out="unwritten", layers="conv5", preprocessing=transforms.Compose(steps))
    assert repr(watch) == "DissectEvery (every=1): conv5 on unread; runs in unwritten"
    assert watch.preprocessing == Preprocessing((8, 9), (0.5,) * 3, (0.25,) * 3)


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


def counted(result, layer):
    """Count what a logger should receive, from the units and from the counts of each permutation."""
    units = result.layer(layer).units.filter(pl.col("iou") >= LIMIT, pl.col("label").is_not_null())
    unique = units["label"].n_unique()
    every = result.layer(layer).statistics["null_counts"].collect().filter(rule="top-label", category="total")
    assert every["permutation"].n_unique() == 20
    assert unique
    assert every["unique_detectors"].sum()
    null = every["unique_detectors"].mean()
    name = UNITS.format(layer=layer)
    return {
        name: unique,
        name.replace("unique", "null_unique"): null,
        f"{name}_above_null": unique - null,
    }


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


def test_a_plain_loop_logs_each_layer_with_its_null(concepts, tmp_path):
    logged = {}
    dissect_every = DissectEvery(
        concepts, every=2, out=tmp_path, preprocessing=networks.build().preprocessing,
        log=lambda values, step: logged.update({step: values}), **OPTIONS | {"layers": ["wide_relu", "deep_relu"]},
    )  # fmt: skip
    _, found = trained(dissect_every)
    results = {step: result for step, result in enumerate(found) if result is not None}
    assert logged == {
        step: counted(result, "wide_relu") | counted(result, "deep_relu") for step, result in results.items()
    }
    assert results[0].info.network.name == "Sequential, 0 steps"


def test_without_a_null_the_counts_alone_are_logged(concepts, tmp_path):
    logged = []
    dissect_every = DissectEvery(
        concepts, every=1, out=tmp_path, preprocessing=networks.build().preprocessing,
        log=lambda values, _step: logged.append(values), **OPTIONS | {"permutations": 0},
    )  # fmt: skip
    dissect_every(networks.build().module, 0)
    assert [set(values) for values in logged] == [{UNITS.format(layer="deep_relu")}]


def test_an_option_that_does_not_exist_is_refused_before_the_training(concepts):
    with pytest.raises(ConfigError, match=r"netdissect\.DissectEvery\(\) has no option 'layer'\. Did you mean layers="):
        DissectEvery(concepts, every=1, out="runs", layer="deep_relu")


def test_steps_between_dissections_are_at_least_one(watch, concepts):
    with pytest.raises(ConfigError, match="every is 0"):
        DissectEvery(concepts, every=0, out="runs", layers="deep_relu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning itself
def test_lightning_dissects_before_and_during_the_training(watch, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    loggers = pytest.importorskip("lightning.pytorch.loggers", reason="Lightning is not installed")
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
    logger = loggers.CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer = lightning.Trainer(
        max_steps=4, accelerator="cpu", logger=logger, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[LightningCallback(watch, "model")], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Task(), torch.utils.data.DataLoader(images, 2))
    snapshots = dissected_runs(watch.out)
    assert [moment.step for moment in snapshots] == [0, 2, 4]
    logged = pl.read_csv(Path(logger.log_dir) / "metrics.csv", infer_schema_length=None)
    assert logged["step"].to_list() == [0, 2, 4]
    for moment, row in zip(snapshots, logged.iter_rows(named=True), strict=True):
        assert {name: row[name] for name in row if name.startswith("netdissect/")} == pytest.approx(
            counted(moment.result, "deep_relu")
        )


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

    class Reporter(transformers.TrainerCallback):
        """Receives what TensorBoard and Weights & Biases receive."""

        def on_log(self, _args, state, _control, logs=None, **_given):
            if UNITS.format(layer="inner.deep_relu") in logs:
                reported[state.global_step] = {name: logs[name] for name in logs if name.startswith("netdissect/")}

    reported = {}
    watch.config = watch.config.model_copy(update={"layers": ("inner.deep_relu",)})
    examples = [{"pixel_values": torch.randn(3, networks.SIDE, networks.SIDE), "labels": n % 3} for n in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=2, report_to=[], save_strategy="no",
        use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(Model(), arguments, train_dataset=examples, callbacks=[Reporter()])
    trainer.add_callback(TransformersCallback(watch, trainer))
    trainer.train()
    snapshots = dissected_runs(watch.out)
    assert [moment.step for moment in snapshots] == [0, 2, 4]
    expected = {moment.step: counted(moment.result, "inner.deep_relu") for moment in snapshots}
    assert reported == expected
    assert {entry["step"] for entry in trainer.state.log_history if entry.keys() >= reported[0].keys()} == {0, 2, 4}
