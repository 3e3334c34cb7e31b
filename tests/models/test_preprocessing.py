"""Networks and their input."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from netdissect.concepts import Size
from netdissect.errors import NetworkError, ShapeError
from netdissect.models import Network, Preprocessing

GRAY = Preprocessing(Size(4, 5), (0.5,), (0.25,))


def test_mean_127_and_deviation_128_give_exactly_pixel_minus_127_over_128():
    preprocessing = Preprocessing(Size(16, 16), (127 / 255,) * 3, (128 / 255,) * 3)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert torch.equal(preprocessing(pixels), (pixels.float() - 127) / 128)


def test_normalization_agrees_with_float64_and_keeps_the_images():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    before = pixels.clone()
    exact = (pixels.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(
        3, 1, 1
    )
    out = Preprocessing(Size(4, 5), mean, std).normalize(pixels)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), exact, atol=1e-6, rtol=1e-6)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_either_memory_format_gives_the_same_bits_as_numpy_and_keeps_its_strides(channels):
    mean, std = (0.485, 0.456, 0.406, 0.1)[:channels], (0.229, 0.224, 0.225, 0.3)[:channels]
    stored = np.random.default_rng(0).integers(0, 256, (2, 4, 5, channels), dtype=np.uint8)
    constants = [np.array([255 * number for number in numbers]).astype(np.float32) for numbers in (mean, std)]
    expected = ((stored.astype(np.float32) - constants[0]) / constants[1]).transpose(0, 3, 1, 2)
    for pixels in (
        torch.from_numpy(stored.transpose(0, 3, 1, 2)),
        torch.from_numpy(stored).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format),
    ):
        out = Preprocessing(Size(4, 5), mean, std).normalize(pixels)
        assert out.stride() == pixels.stride()
        assert out.numpy().tobytes() == expected.tobytes()


def test_gray_networks_have_one_channel():
    assert GRAY.channels == 1
    assert GRAY(torch.zeros(2, 1, 4, 5, dtype=torch.uint8)).unique().tolist() == [-2.0]


@pytest.mark.parametrize(
    ("size", "mean", "std", "message"),
    [
        ((0, 4), (0.5,), (0.5,), "0 x 4 pixels"),
        ((4, 4), (0.5,), (0.0,), "deviations above 0"),
        ((4, 4), (0.5,), (-1.0,), "deviations above 0"),
        ((4, 4), (float("nan"),), (1.0,), "finite"),
        ((4, 4), (0.5,), (float("inf"),), "finite"),
        ((4, 4), (0.5,) * 3, (0.5,), "3 means and 1"),
        ((4, 4), (), (), "0 means"),
        ((4, 4), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), r"0 to 255.*mean \(0\.485, 0\.456, 0\.406\)"),
        ((4, 4), (104.0, 117.0, 123.0), (1.0,) * 3, r"0 to 255.*deviation \(0\.003922"),
        ((4, 4), (0.0,), (255.0,), r"0 to 255.*deviation \(1\.0,\)"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(size, mean, std, message):
    with pytest.raises(NetworkError, match=message):
        Preprocessing(Size(*size), mean, std)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 1, 4, 5),
        torch.zeros(1, 3, 4, 5, dtype=torch.uint8),
        torch.zeros(1, 1, 5, 4, dtype=torch.uint8),
        torch.zeros(1, 4, 5, dtype=torch.uint8),
    ],
)
def test_images_of_another_type_or_shape_are_refused(images):
    with pytest.raises(ShapeError, match=r"takes torch.uint8 \(batch, 1, 4, 5\)"):
        GRAY(images)


def test_numbers_for_a_network_that_takes_bytes_are_on_the_scale_of_pixels_from_0_to_1():
    caffe = Preprocessing(Size(1, 1), (104 / 255, 117 / 255, 123 / 255), (1 / 255,) * 3)
    pixels = torch.tensor([0, 117, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert caffe(pixels).flatten().tolist() == [-104, 0, 132]


def test_an_interpolation_that_pillow_does_not_know_is_refused():
    with pytest.raises(NetworkError, match=r"interpolation 'bilinar'.*nearest, bilinear, bicubic"):
        Preprocessing(Size(4, 4), (0.5,), (0.5,), "bilinar")


def test_a_network_runs_in_evaluation_mode_and_does_not_change_its_module():
    modes = []
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout())
    module[1].register_forward_hook(lambda part, _inputs, _output: modes.append(part.training))
    Network("net", module, GRAY).forward(torch.zeros(1, 1, 4, 5))
    assert modes == [False]
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_an_object_that_is_no_module_or_no_preprocessing_is_refused():
    with pytest.raises(NetworkError, match="given a function as its module"):
        Network("net", lambda x: x, GRAY)
    with pytest.raises(NetworkError, match="given a tuple as its preprocessing"):
        Network("net", nn.Identity(), ((4, 5), 0.5, 0.5))


def test_weights_names_dtypes_and_settings_change_the_digest():
    def make(stride: int = 1, cls: type[nn.Module] = nn.ReLU, name: str = "a") -> Network:
        module = nn.Sequential()
        module.add_module(name, nn.Conv2d(1, 2, 3, stride))
        module.add_module("act", cls())
        for parameter in module.parameters():
            nn.init.constant_(parameter, 0.5)
        return Network("net", module, GRAY)

    changed = make()
    changed.module[0].weight.data[0, 0, 0, 0] = 0.25
    half = Network("net", make().module.half(), GRAY)
    networks = [make(), make(stride=2), make(cls=nn.Sigmoid), make(name="b"), changed, half]
    assert len({network.digest for network in networks}) == len(networks)
    assert make().digest == make().digest


def test_the_digest_is_the_same_in_another_process(tmp_path, capsys):
    program = tmp_path / "program.py"
    program.write_text(
        "import torch; from netdissect.models import *; from netdissect.concepts import Size\n"
        "class M(torch.nn.Module):\n    def extra_repr(self): return repr(lambda x: x)\n"
        "m = torch.nn.Sequential(M(), torch.nn.BatchNorm2d(3))\n"
        "print(Network('n', m, Preprocessing(Size(4, 4), (0,), (1,))).digest)"
    )
    runpy.run_path(str(program), run_name="__main__")
    there = subprocess.run([sys.executable, program], capture_output=True, check=True, text=True).stdout
    assert capsys.readouterr().out == there
    assert len(there.strip()) == 64
