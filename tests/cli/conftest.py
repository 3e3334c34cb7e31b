"""The command line as a user meets it, in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from netdissect.cli import main


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def netdissect(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `netdissect ARGUMENTS...` and return its exit code and what it printed."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["netdissect", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """A folder of eight images with masks: a red square somewhere on a gray wall."""
    folder = tmp_path / "squares"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "classes.csv").write_text("value,name\n0,\n1,wall\n2,square\n")
    rng = np.random.default_rng(0)
    for index in range(8):
        image = np.full((48, 48, 3), 120, np.uint8) + rng.integers(0, 8, (48, 48, 3), dtype=np.uint8)
        mask = np.ones((48, 48), np.uint8)
        top, left = rng.integers(0, 36, 2)
        image[top : top + 12, left : left + 12] = (220, 20, 20)
        mask[top : top + 12, left : left + 12] = 2
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return folder


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with factories of small networks, importable by name."""
    name = f"factories_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


FACTORIES = '''
import torch
from netdissect import Preprocessing

PREPROCESSING = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)


def red():
    """Three units: redness, blur of redness, and a dead one."""
    layer = torch.nn.Conv2d(3, 3, 3, padding=1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, :, 1, 1] = torch.tensor([1.0, -1.0, -1.0])
        layer.weight[1, 0] = 1 / 9
        layer.weight[1, 1:] = -1 / 9
    return torch.nn.Sequential(layer, torch.nn.ReLU()), PREPROCESSING


class Scale(torch.nn.Module):
    """A parameter without reset_parameters(), as layer scale and class tokens have them."""

    def __init__(self):
        super().__init__()
        self.gamma = torch.nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return x * self.gamma


def scaled():
    module, preprocessing = red()
    return torch.nn.Sequential(module, Scale()), preprocessing


def pooled():
    return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(192, 4)), PREPROCESSING


def poisoned():
    module, preprocessing = red()
    module[0].weight.data.fill_(float("nan"))
    return module, preprocessing
'''
