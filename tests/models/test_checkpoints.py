"""Checkpoints: what fits is loaded, what does not is refused, and nothing in a file is ever run."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netdissect.errors import CheckpointError
from netdissect.models import load_checkpoint


def small(classes: int = 4, width: int = 3) -> nn.Sequential:
    features = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
    module = nn.Sequential()
    module.add_module("features", features)
    module.add_module("fc", nn.Linear(width, classes))
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1)
    return module


def prefixed(state, *prefixes):
    return {"".join(prefixes) + name: tensor for name, tensor in state.items()}


WRAPPINGS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best": torch.tensor(1.0)},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
    "nested twice": lambda s: {"checkpoint": {"net": s}},
    "DataParallel": lambda s: prefixed(s, "module."),
    "compiled DataParallel": lambda s: {"model_state_dict": prefixed(s, "module.", "_orig_mod.")},
    "Lightning": lambda s: {"state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(2)}},
    "backbone": lambda s: prefixed(s, "backbone.") | {"projector.weight": torch.ones(2, 2)},
    "encoder": lambda s: {"state_dict": prefixed(s, "module.", "encoder.") | {"module.decoder.w": torch.ones(2)}},
    "inner DataParallel": lambda s: {n.replace("features.", "features.module."): t for n, t in s.items()},
    "before num_batches_tracked": lambda s: {n: t for n, t in s.items() if not n.endswith("tracked")},
    "half precision": lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_are_found_however_they_are_wrapped(tmp_path, wrapping, zipped):
    source, target = small(), small()
    torch.save(WRAPPINGS[wrapping](source.state_dict()), tmp_path / "w.pth.tar", _use_new_zipfile_serialization=zipped)
    load_checkpoint(target, tmp_path / "w.pth.tar")
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(tensor, source.state_dict()[name], atol=1e-3, rtol=0)


def test_safetensors_are_recognized_by_content(tmp_path):
    source, target = small(), small()
    save_file(prefixed(source.state_dict(), "module."), tmp_path / "weights.bin")
    load_checkpoint(target, tmp_path / "weights.bin")
    assert torch.equal(target.fc.weight, source.fc.weight)


def test_the_trained_weights_come_before_their_moving_average(tmp_path):
    trained, average, target = small(), small(), small()
    torch.save({"ema": average.state_dict(), "model": trained.state_dict()}, tmp_path / "w.pt")
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(target.fc.weight, trained.fc.weight)


def test_a_module_that_is_itself_called_model_keeps_its_name(tmp_path):
    source, target = nn.ModuleDict({"model": small()}), nn.ModuleDict({"model": small()})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(target["model"].fc.weight, source["model"].fc.weight)


class _Evil:
    """What a malicious pickle does: run a function while it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path, zipped):
    marker = tmp_path / "was-run"
    content = {"state_dict": small().state_dict(), "extra": _Evil(marker)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth holds more than tensors.*refused"):
        load_checkpoint(small(), tmp_path / "evil.pth")
    assert not marker.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # the attack is real
    assert marker.exists()


def test_a_bare_pickle_that_runs_code_is_refused(tmp_path):
    marker = tmp_path / "was-run"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil(marker)))
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        load_checkpoint(small(), tmp_path / "evil.pt")
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused_with_the_remedy(tmp_path):
    torch.save(small(), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules.*save the weights with torch\.save"):
        load_checkpoint(small(), tmp_path / "module.pt")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_truncated_file_is_named_as_such(tmp_path, kind):
    path = tmp_path / "w.pt"
    if kind == "safetensors":
        save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(CheckpointError, match=r"w\.pt cannot be read.*truncated"):
            load_checkpoint(small(), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"<!DOCTYPE html>", "starts with"), (b"\x89PNG\r\n\x1a\n123", "starts with")],
)
def test_empty_and_foreign_files_are_refused(tmp_path, content, message):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(small(), tmp_path / "w.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pt cannot be opened"):
        load_checkpoint(small(), tmp_path / "nowhere.pt")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no dictionary of tensors"):
        load_checkpoint(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    source = small()
    source.fc.weight.data[0, 0] = value
    torch.save(source.state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 'fc\.weight'"):
        load_checkpoint(small(), tmp_path / "w.pt")


def test_another_architecture_is_recognized_and_the_module_left_alone(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).state_dict(), tmp_path / "w.pt")
    module = small()
    before = module.fc.weight.clone()
    with pytest.raises(CheckpointError, match=r"0 of 9 weights match; missing .*unexpected .*another architecture"):
        load_checkpoint(module, tmp_path / "w.pt")
    assert torch.equal(module.fc.weight, before)


def test_a_mismatch_names_the_keys_and_shapes(tmp_path):
    state = small(classes=7).state_dict() | {"extra": torch.ones(1)}
    del state["features.0.bias"]
    torch.save(state, tmp_path / "w.pt")
    message = r"6 of 9 .*missing features\.0\.bias; unexpected extra; .*fc\.weight \(7, 3\) instead of \(4, 3\)"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(small(), tmp_path / "w.pt")
