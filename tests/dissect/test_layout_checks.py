"""The layout check precedes the threshold pass, is recorded in the run and refuses contradicted layers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import strategies
from netdissect.concepts import Size
from netdissect.config import Assumed, DissectConfig, Execution, ProtocolName
from netdissect.dissect import dissect, layout_checks, run_dissection
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import ShardTask, run_shard
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.run_dissection import open_inputs
from netdissect.errors import LayerError, ResultError
from netdissect.models import Layer, Network, Preprocessing, ReceptiveField, ReceptiveFieldAxis
from netdissect.result import LayoutCheckInfo, load_result
from networks import SIDE, build

CHECK = layout_checks.check_layouts


def settings(protocol: ProtocolName = "paper", **options: Any) -> DissectConfig:
    layers = ("wide_relu", "deep_relu", "fc")
    return DissectConfig(
        layers=layers, batch_size=4, protocol=strategies.definition(protocol, 0.05).protocol, **options
    )


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trace state twice the true step of every layer."""
    resolved = run_dissection.resolve_layers

    def twice(layer: Layer) -> Layer:
        if layer.field is None:
            return layer
        axes = (layer.field.vertical, layer.field.horizontal)
        return replace(
            layer, field=ReceptiveField(*(ReceptiveFieldAxis(axis.offset, axis.size, 2 * axis.step) for axis in axes))
        )

    def doubled_layers(*asked: object, **how: object) -> tuple[Layer, ...]:
        return tuple(map(twice, resolved(*asked, **how)))

    monkeypatch.setattr(run_dissection, "resolve_layers", doubled_layers)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often layers are checked."""
    counted: list[int] = []

    def counting(source: DissectionInputs) -> dict[str, LayoutCheckInfo]:
        counted.append(len(source.layers))
        return CHECK(source)

    monkeypatch.setattr(layout_checks, "check_layouts", counting)
    return counted


def test_a_run_records_what_the_check_saw_of_each_map(broden: Path, tmp_path: Path):
    dissect(build(), broden, config=settings(), out=tmp_path / "run")
    info = load_result(tmp_path / "run").info
    seen = {name: (check.verdict, check.reason) for name, check in info.layout_checks.items()}
    assert seen == {"wide_relu": ("confirmed", ""), "deep_relu": ("no evidence", "few cells")}
    assert min(info.layout_checks["wide_relu"].correlation) > 0.9
    assert "layout check" in info.seconds


@pytest.mark.usefixtures("doubled")
def test_a_contradicted_layer_is_refused_with_what_was_seen(broden: Path, tmp_path: Path):
    expected = (
        r"layer 'wide_relu' of network 'tiny' .* steps outside the image; .*correlate at .*"
        r"Expected at least 0\.6.*--force"
    )
    with pytest.raises(LayerError, match=expected):
        dissect(build(), broden, config=settings(), out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.usefixtures("doubled")
def test_with_force_a_contradicted_layer_is_dissected_and_the_verdict_recorded(broden: Path):
    info = dissect(build(), broden, config=settings(force=True)).info
    assert info.layout_checks["wide_relu"].verdict == "contradicted"
    assert info.config.force


@pytest.mark.usefixtures("doubled")
def test_without_the_check_nothing_is_measured_or_recorded(broden: Path, checks: list[int]):
    info = dissect(build(), broden, config=settings(layout_check=False)).info
    assert info.layout_checks == {}
    assert not info.config.layout_check
    assert checks == []


@pytest.mark.usefixtures("doubled")
@pytest.mark.parametrize("protocol", ["lite", "pnas2020"])
def test_protocols_that_spread_cells_evenly_are_checked_for_that(broden: Path, protocol: ProtocolName):
    info = dissect(build(), broden, config=settings(protocol)).info
    assert info.layout_checks["wide_relu"].verdict == "confirmed"


class Outside(nn.Module):
    """Leaves torch, so that its output cannot be traced to the image."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the same values."""
        return torch.from_numpy(maps.numpy().copy())


def lost(units: int = 12, stride: int = 2) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, units, 3, stride, 1), Outside())
    return Network("untraceable", module, Preprocessing(Size(SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))


def assuming(layout: str, **options: Any) -> DissectConfig:
    assumed = Assumed(layout=layout, receptive_field="half-pixel")
    return settings(**options).model_copy(update={"layers": ("1",), "assumed": assumed})


def test_an_assumed_layout_that_the_spots_confirm_is_dissected(broden: Path):
    info = dissect(lost(), broden, config=assuming("NCHW")).info
    assert (info.layers[0].layout_source, info.layout_checks["1"].verdict) == ("assumed", "confirmed")


def test_an_assumed_layout_that_the_spots_contradict_is_refused(broden: Path):
    with pytest.raises(LayerError, match=r"are not where the layout that was assumed puts .*Assume another layout"):
        dissect(lost(), broden, config=assuming("NHWC"))  # 12 units on 12 x 12 cells: shapes cannot tell


def test_an_assumed_layout_that_is_not_confirmed_runs_only_with_force(broden: Path):
    network = lost(stride=6)
    with pytest.raises(LayerError, match=r"could not be shown to be .*fewer than six cells along a side.*--force"):
        dissect(network, broden, config=assuming("NCHW"))
    info = dissect(network, broden, config=assuming("NCHW", force=True)).info
    assert info.layout_checks["1"].verdict == "no evidence"


def test_a_resumed_run_checks_once(broden: Path, tmp_path: Path, checks: list[int], monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as broken:
        broken.setattr(run_dissection.TwoPass, "count_pass", _stopped)
        with pytest.raises(KeyboardInterrupt, match="by the test"):
            dissect(build(), broden, config=settings(), out=tmp_path / "run")
    found = dissect(build(), broden, config=settings(), out=tmp_path / "run").info.layout_checks
    assert len(checks) == 1
    assert found == dissect(build(), broden, config=settings()).info.layout_checks


@pytest.mark.parametrize("damage", ["changed", "cut", "foreign"])
def test_a_damaged_or_foreign_file_of_the_check_is_replaced(
    broden: Path, tmp_path: Path, checks: list[int], monkeypatch: pytest.MonkeyPatch, damage: str
):
    with monkeypatch.context() as broken:
        broken.setattr(run_dissection.TwoPass, "count_pass", _stopped)
        with pytest.raises(KeyboardInterrupt, match="by the test"):
            dissect(build(), broden, config=settings(), out=tmp_path / "run")
    file = tmp_path / "run" / "work" / "layout.json"
    text = file.read_text()
    content = json.loads(text)
    content["fingerprint"] = "0" * 64
    changed = {
        "changed": text.replace('"no evidence"', '"confirmed"', 1),
        "cut": text[:100],
        "foreign": json.dumps(content),
    }
    file.write_text(changed[damage])
    info = dissect(build(), broden, config=settings(), out=tmp_path / "run").info
    assert len(checks) == 2
    assert info.layout_checks["deep_relu"].verdict == "no evidence"


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt("by the test")


def test_shards_of_one_folder_check_once_and_the_merged_run_holds_it(broden: Path, tmp_path: Path, checks: list[int]):
    folder = tmp_path / "run"
    parts = [ShardTask(folder, f"{number}/2", range(number - 1, number)) for number in (1, 2)]
    for _stage in ("first", "second"):
        for part in parts:
            run_shard(open_inputs(build(), broden, settings(), Execution()), part)
        merge_shards(folder)
    assert checks == [3]
    whole = dissect(build(), broden, config=settings()).info
    assert load_result(folder).info.layout_checks == whole.layout_checks


def _no_evidence(source: DissectionInputs) -> dict[str, LayoutCheckInfo]:
    found = CHECK(source)
    return {name: one.model_copy(update={"verdict": "no evidence"}) for name, one in found.items()}


def test_shards_whose_verdicts_differ_are_not_merged(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2):
        with monkeypatch.context() as other:
            if number == 2:
                other.setattr(layout_checks, "check_layouts", _no_evidence)
            part = ShardTask(tmp_path / f"run{number}", f"{number}/2", range(number - 1, number))
            run_shard(open_inputs(build(), broden, settings(), Execution()), part)
    with pytest.raises(ResultError, match=r"layout check\.wide_relu"):
        merge_shards(tmp_path / "run", [tmp_path / "run1", tmp_path / "run2"])
