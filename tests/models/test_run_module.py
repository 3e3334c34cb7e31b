"""Users' modules run as in plain PyTorch, whatever their type, and are restored."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from netdissect.concepts import Size
from netdissect.errors import ActivationError, LayerError, NetworkError
from netdissect.models import ActivationRecorder, Network, Preprocessing, list_layers, resolve_layers
from netdissect.models.determinism import find_difference
from netdissect.models.layers import survey_layers
from netdissect.models.run_module import restoring_tensors, set_memory_format

SIDE = 8
PREPROCESSING = Preprocessing(Size(SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)
PIXELS = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = PREPROCESSING(PIXELS)


class _Sums(nn.Module):
    """Unit u is the sum of a 2 x 2 cell of channel u: whole numbers of 1/255, in any order of summation."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 3, 2, 2, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(3)[:, :, None, None].expand(-1, -1, 2, 2))

    def forward(self, x):
        return self.map(x)


EXPECTED = IMAGES.reshape(3, 3, SIDE // 2, 2, SIDE // 2, 2).sum((3, 5))


class _Flattens(_Sums):
    """x.view(x.size(0), -1), as tutorials write it."""

    def forward(self, x):
        x = self.map(x)
        return x.view(x.size(0), -1)


class _StandardizesWeights(_Sums):
    """weight.view(out, -1), as weight standardization was first written."""

    def forward(self, x):
        spread = self.map.weight.view(3, -1).std(1)
        return self.map(x) * (spread / spread).view(3, 1, 1)


class _OfFiveDimensions(_Sums):
    """A table of five dimensions and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 2, 1, 2, 1))

    def forward(self, x):
        return self.map(x) + self.table.sum()


class _ReadsMemory(_Sums):
    """Takes the numbers in the order in which they lie in memory: no error in another layout, but other values."""

    def forward(self, x):
        x = torch.as_strided(x, x.shape, (3 * SIDE * SIDE, SIDE * SIDE, SIDE, 1))
        return self.map(x)


class _HoldsTorchScript(_Sums):
    """A scripted part between parts of Python, as ScriptModule blocks of published networks are."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(3, eps=0.0)  # neither its weights nor its running statistics change a value
        self.scripted = torch.jit.script(nn.Sequential(norm, nn.Identity()).eval())
        self.out = nn.Identity()

    def forward(self, x):
        return self.out(self.scripted(self.map(x)))


def network(module: nn.Module) -> Network:
    return Network("net", module, PREPROCESSING)


def recorded(net: Network, *names: str) -> dict[str, torch.Tensor]:
    with net.prepared(), ActivationRecorder(net, resolve_layers(net, names)) as recorder:
        recorder(IMAGES)
        return recorder(IMAGES)


@pytest.mark.parametrize("module_type", [_Sums, _Flattens, _StandardizesWeights, _OfFiveDimensions, _ReadsMemory])
def test_a_network_gives_the_same_as_in_plain_pytorch(module_type):
    torch.testing.assert_close(recorded(network(module_type()), "map")["map"], EXPECTED)


@pytest.mark.parametrize(
    ("module_type", "layout"),
    [(_Sums, torch.channels_last), (_OfFiveDimensions, torch.channels_last), (_Flattens, torch.contiguous_format),
     (_StandardizesWeights, torch.contiguous_format), (_ReadsMemory, torch.contiguous_format)],
)  # fmt: skip
def test_the_memory_format_is_channels_last_where_the_network_runs_with_it(module_type, layout):
    seen = []
    module = module_type()
    module.map.register_forward_hook(
        lambda own, inputs, _: seen.append((inputs[0].is_contiguous(memory_format=layout), own.weight.stride()))
    )
    net = network(module)
    with net.prepared():
        seen.clear()
        net.forward(IMAGES)
    strides = torch.empty(3, 3, 2, 2).contiguous(memory_format=layout).stride()
    assert seen == [(True, strides)] or (module_type is _ReadsMemory and seen[0][1] == strides)


class _Half(_Sums):
    """The second layer in bfloat16; the first parameter is a table that no input meets."""

    def __init__(self, first: torch.dtype) -> None:
        super().__init__()
        self.low = nn.Conv2d(3, 3, 1, bias=False).to(torch.bfloat16)
        nn.init.dirac_(self.low.weight)
        self._parameters = {"table": nn.Parameter(torch.zeros(1, dtype=first)), **self._parameters}

    def forward(self, x):
        return self.low(self.map(x).to(torch.bfloat16)).float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_format_is_given_its_own_and_recorded_as_float32(dtype):
    module = _Sums().to(dtype)
    maps = recorded(network(module), "map")["map"]
    assert maps.dtype == torch.float32
    assert torch.equal(maps, module(IMAGES.to(dtype)).float())


@pytest.mark.parametrize("first", [torch.float16, torch.float32, torch.bfloat16])
def test_a_module_of_several_formats_is_given_the_first_with_which_it_runs(first):
    net = network(_Half(first))
    assert net.dtype == torch.float32
    maps = recorded(net, "map", "low")
    assert torch.equal(maps["low"], maps["map"].bfloat16().float())


COMPILED = {
    "the whole": lambda module: torch.compile(module, backend="eager"),
    "in place": lambda module: module.compile(backend="eager") or module,
    "a part": lambda module: setattr(module, "map", torch.compile(module.map, backend="eager")) or module,
}


@pytest.mark.parametrize("case", COMPILED)
def test_every_recorder_of_a_compiled_module_records_its_layers(case):
    module = COMPILED[case](nn.Sequential(_Sums()) if case == "in place" else _Sums())
    with torch.no_grad():
        module.eval()(IMAGES)  # compiled before any hook is there
    net = network(module)
    names = [name for name, part in module.named_modules() if type(part) is nn.Conv2d]
    for _ in range(2):
        torch.testing.assert_close(recorded(net, *names)[names[0]], EXPECTED)


def test_data_parallel_is_run_without_its_replicas():
    net = network(nn.DataParallel(_Sums()))
    torch.testing.assert_close(recorded(net, "module.map")["module.map"], EXPECTED)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_modules_that_cannot_have_hooks_are_refused_by_their_type():
    example = (torch.rand(1, 3, SIDE, SIDE),)
    for script in (torch.jit.script(_Sums()), torch.jit.trace(_Sums(), example)):
        with pytest.raises(NetworkError, match=r"runs? inside TorchScript.*load_state_dict"):
            network(script)
    program = torch.export.export(_Sums().eval(), example)
    for exported in (program, program.module()):
        with pytest.raises(NetworkError, match=r"exported program.*torch\.export\.unflatten.*dynamic_shapes"):
            network(exported)


def test_an_unflattened_program_with_a_dynamic_batch_is_recorded():
    images = (torch.rand(2, 3, SIDE, SIDE),)
    program = torch.export.export(_Sums().eval(), images, dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(recorded(network(torch.export.unflatten(program)), "map")["map"], EXPECTED)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:.*deprecated", "ignore:Please use quant_min")
def test_quantized_layers_are_recorded_as_dequantized_numbers():
    module = nn.Sequential(torch.ao.quantization.QuantStub(), _Sums().map, torch.ao.quantization.DeQuantStub()).eval()
    module.qconfig = torch.ao.quantization.default_qconfig
    module = torch.ao.quantization.prepare(module)
    module(IMAGES)
    module = torch.ao.quantization.convert(module)
    maps = recorded(network(module), "1", "2")
    assert torch.equal(maps["1"], maps["2"])
    torch.testing.assert_close(maps["1"], EXPECTED, atol=0.05, rtol=0)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:.*deprecated", "ignore:Please use quant_min")
def test_a_quantized_network_has_the_receptive_fields_of_the_network_that_it_was_made_of():
    zoo = torchvision.models
    made = zoo.quantization.shufflenet_v2_x0_5(weights=None, quantize=True), zoo.shufflenet_v2_x0_5(weights=None)
    preprocessing = Preprocessing(Size(64, 64), (0.5,) * 3, (0.5,) * 3)
    quantized, plain = (
        {one.name: one for one in survey_layers(Network("net", module, preprocessing))} for module in made
    )
    same = [(one, plain[name]) for name, one in quantized.items() if name in plain]
    assert len(same) > 150
    assert all((one.grid, one.field, one.layout) == (of.grid, of.field, of.layout) for one, of in same)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:.*deprecated")
def test_packed_weights_change_the_digest():
    def packed(seed: int) -> Network:
        torch.manual_seed(seed)
        return network(torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2)), {nn.Linear}))

    assert packed(0).digest == packed(0).digest != packed(1).digest


def test_weights_without_numbers_are_refused_where_numbers_are_needed():
    net = network(_Sums().to("meta"))
    for needed in (lambda: net.digest, lambda: net.prepared().__enter__(), lambda: list_layers(net)):
        with pytest.raises(NetworkError, match=r"'map\.weight' on the meta device.*to_empty"):
            needed()


class _Copies(nn.Module):
    """Runs a copy of its own network, as a library's predict() does; the copy is made once, hooks and all."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _Sums()
        self.kept: list[nn.Module] = []

    def forward(self, x):
        if not self.kept:
            self.kept.append(copy.deepcopy(self.model))
        return self.kept[0](x)


def test_a_network_that_runs_a_copy_of_its_modules_is_refused_and_left_usable():
    module = _Copies()
    net = network(module)
    inner = [replace(layer, name="model.map") for layer in list_layers(network(_Sums()))]
    for _ in range(2):
        with (
            ActivationRecorder(net, inner) as recorder,
            pytest.raises(ActivationError, match="a copy of it did in its place"),
        ):
            recorder(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(module(IMAGES), EXPECTED)  # hooks that the copy took along do nothing


class _Twice(nn.Module):
    """One convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _Sums().map
        self.second = self.first

    def forward(self, x):
        return self.second(x)


def test_a_module_under_two_names_is_recorded_by_both():
    net = network(_Twice())
    assert [layer.name for layer in list_layers(net)] == ["first", "second"]
    maps = recorded(net, "first", "second")
    torch.testing.assert_close(maps["first"], EXPECTED)
    assert torch.equal(maps["first"], maps["second"])


def in_mixed_modes() -> nn.Module:
    """Some parts train and some do not, some weights are frozen, one lies in memory as its owner wants it."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Sequential(nn.Conv2d(4, 4, 3)))
    module.train()
    module[1].eval()
    module[3].requires_grad_(False)
    module[3][0].weight.data = module[3][0].weight.data.contiguous(memory_format=torch.channels_last)
    return module


def state_of(module: nn.Module) -> list[object]:
    """Everything that a run could change: modes, and of each tensor identity, memory, layout and gradient."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    of_tensors = [
        (name, id(one), one.data_ptr(), one.stride(), one.device, one.dtype, one.requires_grad, one.tolist())
        for name, one in tensors
    ]
    return [[(name, part.training) for name, part in module.named_modules()], of_tensors]


@pytest.mark.parametrize("failing", [False, True])
def test_a_module_is_restored_after_a_run(failing):
    module = in_mixed_modes()
    before, net = state_of(module), network(module)
    assert state_of(module) == before
    with net.prepared(torch.device("cpu")), ActivationRecorder(net, list_layers(net)) as recorder:
        recorder(IMAGES)
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
        if failing:
            with pytest.raises(NetworkError, match="fails on an input of shape"):
                recorder(IMAGES[:, :2])
    assert state_of(module) == before
    module(IMAGES).sum().backward()  # what was kept of a pass would stand in the way of training
    assert module[0].weight.grad is not None


def test_tensors_are_restored_after_another_device_and_memory_format():
    module = in_mixed_modes()
    before = state_of(module)
    with restoring_tensors(module):
        module.to("meta", torch.float64)
    assert state_of(module) == before
    with restoring_tensors(module):
        set_memory_format(module, torch.channels_last)
        assert module[0].weight.stride()[1] == 1
    assert state_of(module) == before


def test_one_preparation_within_another_changes_nothing():
    net = network(in_mixed_modes())
    before = state_of(net.module)
    with net.prepared():
        prepared = state_of(net.module)
        with net.prepared():
            assert state_of(net.module) == prepared
        assert state_of(net.module) == prepared
    assert state_of(net.module) == before


def test_the_digest_depends_on_the_weights_and_not_on_their_memory_format():
    net = network(_Sums())
    first = net.digest
    with net.prepared():
        assert net.digest == first
    with torch.no_grad():
        net.module.map.weight.mul_(2)
    second = net.digest
    assert second != first
    net.module.map.weight = nn.Parameter(net.module.map.weight / 2)
    assert net.digest == first
    net.module.add_module("more", nn.ReLU())
    assert net.digest not in (first, second)


def test_a_network_can_be_sent_to_another_process():
    net = network(_Sums())
    digest = net.digest
    assert pickle.loads(pickle.dumps(net)).digest == digest  # noqa: S301 - its own bytes


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_part_runs_and_is_traced_but_cannot_be_dissected_itself():
    module = _HoldsTorchScript()
    net = network(module)
    names = [layer.name for layer in list_layers(net)]
    assert names == ["map", "out"]
    torch.testing.assert_close(recorded(net, "map", "out")["out"], EXPECTED)
    assert find_difference(net, list_layers(net), IMAGES) is None
    with pytest.raises(LayerError, match="runs inside TorchScript"):
        resolve_layers(net, ["scripted.0"])
