"""What a run says when it cannot go on."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import oracle
import strategies
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import dissect
from netdissect.errors import ActivationError, ConceptsError, ConfigError, LayerError, ResultError
from networks import COVERAGE, SIDE, Spoiled, build, images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five images that a test may spoil."""
    return strategies.write_broden(tmp_path / "data", images(5), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def third_image(data: Path) -> Callable[[Tensor], Tensor]:
    """Tell the third image by its activations, which no other image has."""
    seen: list[Tensor] = []

    class Spy(Spoiled):
        def forward(self, maps: Tensor) -> Tensor:
            seen.append(maps.clone())
            return maps

    dissect(
        build(head=Spy(0, 0)),
        data,
        config=DissectConfig(layers=("fc",), batch_size=5),
        execution=Execution(activation_cache="none"),
    )
    third = seen[-1][2]
    return lambda maps: torch.isclose(maps, third.to(maps.dtype)).all(dim=(1, 2, 3))


@pytest.mark.parametrize("engine", ["compiled", "tensor"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_no_numbers_are_refused_with_layer_unit_and_image(
    data: Path, tmp_path: Path, value: float, engine: str
) -> None:
    network = build(head=Spoiled(value, unit=3, when=third_image(data)))
    settings = DissectConfig(layers=("wide_relu", "deep_relu"), batch_size=2)
    with pytest.raises(ActivationError, match=r"layer 'deep_relu' gives NaN or infinity, first in unit 3 on 2\.png"):
        dissect(network, data, config=settings, out=tmp_path / "run", execution=Execution(engine=engine))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_failed_run_without_a_folder_leaves_nothing_behind(data: Path, scratch: Path) -> None:
    with pytest.raises(ActivationError, match="unit 0"):
        dissect(build(head=Spoiled(np.nan, unit=0)), data, layers=["deep_relu"])
    assert list(scratch.iterdir()) == []


def test_a_run_without_a_folder_leaves_nothing_behind(data: Path, scratch: Path) -> None:
    assert dissect(build(), data, layers=["deep_relu"]).layers
    assert list(scratch.iterdir()) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "truncated": _truncate,
    "text": lambda path: path.write_text("no image"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_damaged_image_is_refused_by_name(data: Path, damage: str, workers: int) -> None:
    rng = np.random.default_rng(0)
    path = data / "images" / "3.png"
    strategies.write_image(path, rng.integers(0, 256, (SIDE, SIDE, 3)))
    DAMAGES[damage](path)
    with pytest.raises(ConceptsError, match=re.escape(str(path))):
        dissect(build(), data, layers=["deep_relu"], execution=Execution(workers=workers))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_label_map_is_refused_by_name(data: Path, damage: str) -> None:
    path = sorted((data / "images").glob("*_0.png"))[-1]
    strategies.write_label_map(path, np.random.default_rng(0).integers(1, 3, (12, 12)))
    DAMAGES[damage](path)
    with pytest.raises(ConceptsError, match=re.escape(str(path))):
        dissect(build(), data, layers=["deep_relu"])


def test_a_label_map_of_another_size_is_refused_by_name(data: Path) -> None:
    path = sorted((data / "images").glob("*_0.png"))[0]
    strategies.write_label_map(path, np.ones((6, 12), np.int64))
    with pytest.raises(ConceptsError, match=re.escape(f"{path} is 6 x 12 pixels") + ".*12 x 12"):
        dissect(build(), data, layers=["deep_relu"])


def test_a_label_that_no_table_names_is_refused_by_name(data: Path) -> None:
    path = sorted((data / "images").glob("*_0.png"))[0]
    strategies.write_label_map(path, np.full((12, 12), 77))
    with pytest.raises(ConceptsError, match=re.escape(f"{path} holds the label id 77")):
        dissect(build(), data, layers=["deep_relu"])


def test_a_data_set_without_any_label_is_refused(tmp_path: Path) -> None:
    drawn = [oracle.OracleImage((), (), (12, 12))] * 2
    root = strategies.write_broden(tmp_path / "data", drawn, {"object": {1: 1.0}}, columns=[["0"], [""]])
    with pytest.raises(ConceptsError, match=r"index\.csv has no image with a label in object"):
        dissect(build(), root, layers=["deep_relu"])


@pytest.mark.parametrize("coverage", [{}, {"object": {}}])
def test_a_data_set_without_any_concept_is_refused(tmp_path: Path, coverage: dict[str, dict[int, float]]) -> None:
    drawn = [oracle.OracleImage((), (), (12, 12))] * 2
    root = strategies.write_broden(tmp_path / "data", drawn, coverage, columns=[[""] * len(coverage)] * 2)
    with pytest.raises(ConceptsError, match=re.escape(str(root))):
        dissect(build(), root, layers=["deep_relu"])


def test_an_unknown_layer_and_no_layer_are_refused(data: Path) -> None:
    with pytest.raises(LayerError, match=r"'deep_rely'.*'deep_relu'"):
        dissect(build(), data, layers=["deep_rely"])
    with pytest.raises(ConfigError, match="no layer was named"):
        dissect(build(), data)


@pytest.mark.parametrize("layers", [[], ()])
def test_an_empty_list_of_layers_is_a_typed_error(data: Path, layers: Any) -> None:
    with pytest.raises(ConfigError, match="layer"):
        dissect(build(), data, layers=layers)


def test_an_unknown_device_is_refused(data: Path) -> None:
    settings = DissectConfig(layers=("fc",), device="nowhere")
    with pytest.raises(ConfigError, match="device 'nowhere' cannot be used here"):
        dissect(build(), data, config=settings)


@pytest.mark.parametrize("where", ["thresholds.npz", "deep_relu.bin", "run.json", "fingerprint.json"])
def test_a_full_disk_is_a_typed_error_and_the_run_can_be_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out, opened = tmp_path / "run", Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if where in self.name and mode != "rb" and mode != "r":
            raise OSError(28, "No space left on device")
        return opened(self, mode, *rest, **named)

    settings = DissectConfig(layers=("deep_relu",), batch_size=2)
    wanted = dissect(build(), data, config=settings)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(ResultError, match=r"cannot be written.*No space left"):
            dissect(build(), data, config=settings, out=out)
        assert not (out / "run.json").exists()
    found = dissect(build(), data, config=settings, out=out)
    assert found.layer("deep_relu").scores.equals(wanted.layer("deep_relu").scores)


def test_a_run_folder_that_is_a_file_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ResultError, match=re.escape(str(tmp_path / "run"))):
        dissect(build(), data, layers=["deep_relu"], out=tmp_path / "run")
