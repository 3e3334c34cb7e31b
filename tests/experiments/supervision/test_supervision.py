"""Tasks: each has its target, one loop trains all, and runs are reused."""

import numpy as np
import pytest
import torch
from torch import nn

import labeled_images
from netdissect import DissectConfig, Protocol
from netdissect.errors import CheckpointError, ConfigError, SourceError
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result
from netdissect.experiments.supervision.experiment import SupervisionConfig, conclude, supervision
from netdissect.synthetic import write_synthetic
from netdissect.training import TaskImages, TrainConfig, folder_images, train_tasks, trained_network
from netdissect.training import train as training
from netdissect.training.choices import SELF_SUPERVISED, TASKS
from netdissect.training.pretext import (
    ORDERS,
    TEMPERATURE,
    color_steps,
    even_light,
    light_and_color,
    light_steps,
    make_task,
)
from netdissect.training.task_networks import backbone_of, load_task
from netdissect.training.train_tasks import train_task, trained_task

SIZE = 64
RECIPE = TrainConfig(size=SIZE, num_images=48, held_out=8, units=(4, 6, 8), steps=2, batch_size=8, precision="float32")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (56, 8, 8, 3)).repeat(8, 1).repeat(8, 2)
    return TaskImages(smooth.astype(np.uint8), rng.integers(0, 3, 56), rng.random((56, 5)) < 0.3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("world") / "world", images=12, size=SIZE)


def config(*names, seeds=2):
    measured = DissectConfig(layers=("conv3",), protocol=Protocol(quantiles=(0.05,)))
    return SupervisionConfig(tasks=names, train_config=RECIPE, seeds=seeds, dissect=measured)


class Painter(nn.Module):
    """A backbone that returns its input in cells of 8 x 8 pixels, to be looked at."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return means over cells."""
        return nn.functional.avg_pool2d(images, 8)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "random"])
def test_every_task_trains_its_backbone(pictures, name):
    made = train_task(name, pictures, RECIPE)
    fresh = backbone_of(RECIPE).state_dict()
    assert all(not torch.equal(fresh[key], value) for key, value in made.module.state_dict().items() if "weight" in key)
    assert np.isfinite(made.loss)
    assert (made.accuracy is None) == (name in ("object", "crosschannel", "inpainting")), made.accuracy


def test_all_tasks_of_a_seed_begin_with_the_same_weights_and_repeat(pictures):
    random = train_task("random", pictures, RECIPE).module.state_dict()
    assert all(torch.equal(random[key], value) for key, value in backbone_of(RECIPE).state_dict().items())
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    for name in ("rotation", "simclr"):
        one, other = (train_task(name, pictures, RECIPE) for _ in range(2))
        assert one.loss == other.loss
        assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True))
    assert torch.equal(torch.rand(2), expected)  # the global generator is left alone


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_no_self_supervised_task_sees_labels(pictures, name):
    blind = TaskImages(pictures.pixels)
    assert train_task(name, blind, RECIPE).loss == train_task(name, pictures, RECIPE).loss


def test_the_contrast_of_views_is_nt_xent():
    """Chen et al. 2020, equation 1: cross-entropy over cosine similarities, the pair against all others."""
    torch.manual_seed(0)
    task = make_task("simclr", Painter(), SIZE)
    found = nn.functional.normalize(torch.randn(12, 16), dim=1)
    likeness = found @ found.T / TEMPERATURE
    likeness.fill_diagonal_(-torch.inf)
    expected = nn.functional.cross_entropy(likeness, (torch.arange(12) + 6) % 12)
    torch.testing.assert_close(task.contrast(found, torch.arange(6).repeat(2)), expected)


def test_light_and_color_are_those_of_jpeg():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels[0]).convert("YCbCr"), dtype=float)
    light, color = light_and_color(torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255)
    assert np.abs(255 * light[0, 0].numpy() - expected[..., 0]).max() <= 1
    assert np.abs(255 * color[0].numpy() + 128 - expected[..., 1:].transpose(2, 0, 1)).max() <= 1
    gray, kept = light_and_color(even_light(color / 8))
    torch.testing.assert_close(gray, torch.full_like(gray, 0.5))
    torch.testing.assert_close(kept, color / 8)


def test_steps_number_colors_and_lights():
    color = torch.tensor([[-0.4, 0.0, 0.4], [-0.4, 0.0, 0.4]])[None, :, None]
    assert color_steps(color).tolist() == [[[0, 36, 63]]]
    assert light_steps(torch.tensor([0.0, 0.5, 1.0])[None, None, None]).tolist() == [[[0, 8, 15]]]


def test_the_orders_of_tiles_are_all_and_each_once():
    assert len({tuple(order) for order in ORDERS.tolist()}) == 24


def test_inpainting_hides_what_it_asks_for_and_nothing_else(pictures):
    seen = []

    class Watching(Painter):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().forward(images)

    task = make_task("inpainting", Watching(), SIZE)
    pixels = torch.from_numpy(pictures.pixels[:4]).permute(0, 3, 1, 2)
    task(pixels, torch.arange(4))
    from netdissect.training.scene_net import preprocessing

    changed = (seen[-1] != preprocessing(SIZE)(pixels)).any(1)
    assert changed.float().mean() == pytest.approx(0.25, abs=0.01)


def test_the_result_counts_each_task_and_seed_and_is_reused(pictures, world, tmp_path, monkeypatch):
    asked = config("scene", "rotation", "random")
    result = supervision(pictures, world, asked, out=tmp_path)
    assert result.table.select("task", "kind", "seed").unique(maintain_order=True).rows() == [
        ("scene", "supervised", 0), ("scene", "supervised", 1),
        ("rotation", "self-supervised", 0), ("rotation", "self-supervised", 1),
        ("random", "random", 0), ("random", "random", 1),
    ]  # fmt: skip
    assert result.extra_tables["training"]["steps"].to_list() == [2, 2, 2, 2, 0, 0]
    monkeypatch.setattr(train_tasks, "train_task", None)  # not to be called again
    again = supervision(pictures, world, asked, out=tmp_path)
    assert again.table.equals(result.table)
    assert again.extra_tables["training"].equals(result.extra_tables["training"])
    saved = save_experiment_result(result, tmp_path)
    assert (saved / "figure.png").is_file()
    assert conclude(load_experiment_result(saved).table, asked) == result.conclusion
    next((tmp_path / "trained").glob("scene-*")).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="is not what was trained there"):
        supervision(pictures, world, asked, out=tmp_path)


def test_all_networks_of_a_result_are_trained_in_one_precision(pictures, world, tmp_path, monkeypatch):
    measured = iter(["bfloat16", "float32", "float32"])  # as on a machine that is busy only at first
    monkeypatch.setattr(training, "choose_precision", lambda *_: next(measured))
    auto = config("rotation", "random").model_copy(
        update={"train_config": RECIPE.model_copy(update={"precision": "auto"})}
    )
    for _ in range(2):
        supervision(pictures, world, auto, out=tmp_path)
    found = [load_task(path).train_config.precision for path in (tmp_path / "trained").iterdir()]
    assert found == ["bfloat16"] * 4


def test_a_kept_network_is_opened_by_its_file_and_says_what_it_is(pictures, tmp_path):
    made = trained_task("rotation", pictures, RECIPE, tmp_path)
    (path,) = tmp_path.iterdir()
    opened = trained_network(path)
    assert (opened.name, opened.preprocessing) == ("rotation, seed 0", made.network().preprocessing)
    images = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(opened.module(images), made.module(images))
    with pytest.raises(CheckpointError, match=r"nowhere.safetensors cannot be opened as a network"):
        trained_network(tmp_path / "nowhere.safetensors")


def test_images_come_from_any_folder(tmp_path):
    root = labeled_images.write_classes(tmp_path / "classes", count=4)
    labeled = folder_images(root, SIZE)
    assert labeled.pixels.shape == (12, SIZE, SIZE, 3)
    assert sorted(labeled.classes.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    assert "object" not in labeled.tasks()
    flat = folder_images(root / "red", SIZE, limit=3)
    assert (flat.pixels.shape[0], flat.classes) == (3, None)
    assert flat.tasks() == (*SELF_SUPERVISED, "random")
    with pytest.raises(SourceError, match="does not exist"):
        folder_images(tmp_path / "nowhere", SIZE)


def test_what_cannot_be_is_refused(pictures, world, tmp_path):
    blind = TaskImages(pictures.pixels)
    with pytest.raises(ConfigError, match="task 'object' needs labels that these 56 images do not have"):
        supervision(blind, world, config("object"), out=tmp_path)
    with pytest.raises(ConfigError, match="6 images leave 5 to train on, fewer than a batch of 8"):
        supervision(TaskImages(pictures.pixels[:6]), world, config("rotation"), out=tmp_path)
