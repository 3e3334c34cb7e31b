"""The benchmark of devices states which fields of a configuration the passes read: none is missing."""

from collections import OrderedDict
from pathlib import Path

import torch
from benchmarks import device
from torch import nn


def test_both_passes_of_the_benchmark_run_with_the_fields_that_it_states(tmp_path: Path) -> None:
    module = nn.Sequential(OrderedDict(cells=nn.Conv2d(3, 4, 16, stride=16), units=nn.ReLU())).eval()
    source = device.inputs_of(module, 4, torch.device("cpu"), "float32", 2)
    passes = device.Passes(source, device.draw_world(2, 12), tmp_path)
    assert device.check_equal(passes)["counted"] > 0
