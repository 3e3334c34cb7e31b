"""Checkpoints: what fits is loaded, what does not is refused, and nothing in a file is ever run."""

import argparse
import collections
import datetime
import pathlib
import pickle
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netdissect.errors import CheckpointError
from netdissect.models import checkpoint_file, load_checkpoint


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


ONE, OTHER = small(), small()
PAIRS = {
    # Two sets of weights as training programs keep them in one file: content, and what chooses the one and the other.
    "DINO": (
        {"student": prefixed(ONE.state_dict(), "module.backbone."),
         "teacher": prefixed(OTHER.state_dict(), "backbone.")},
        "student", "teacher",
    ),
    "timm's moving average": (
        {"state_dict": ONE.state_dict(), "state_dict_ema": OTHER.state_dict()}, "state_dict", "state_dict_ema",
    ),
    "YOLO's moving average": ({"model": ONE.state_dict(), "ema": {"module": OTHER.state_dict()}}, "model", "ema"),
    "I-JEPA": (
        {"encoder": prefixed(ONE.state_dict(), "module."), "target_encoder": prefixed(OTHER.state_dict(), "module.")},
        "encoder", "target_encoder.module",
    ),
    "MoCo": (
        {"state_dict": prefixed(ONE.state_dict(), "module.encoder_q.") | {"module.queue": torch.ones(3)}
         | prefixed(OTHER.state_dict(), "module.encoder_k.")},
        "encoder_q", "module.encoder_k",
    ),
    "BYOL": (
        {"state_dict": prefixed(ONE.state_dict(), "online_encoder.net.")
         | prefixed(OTHER.state_dict(), "target_encoder.net.")},
        "online_encoder", "state_dict.target_encoder.net",
    ),
    "and plain names": ({"a": ONE.state_dict(), **OTHER.state_dict()}, "a", "."),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_sets_of_weights_there_is_no_default_and_either_can_be_chosen(tmp_path, pair):
    content, *keys = PAIRS[pair]
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"2 sets of weights that fit Sequential, and they differ.*--state-dict"):
        load_checkpoint(small(), tmp_path / "w.pt")
    for key, source in zip(keys, (ONE, OTHER), strict=True):
        target = small()
        load_checkpoint(target, tmp_path / "w.pt", key)
        assert torch.equal(target.fc.weight, source.fc.weight)


def test_the_set_of_weights_that_was_loaded_is_logged(tmp_path, caplog):
    caplog.set_level("INFO", "netdissect")
    torch.save(PAIRS["DINO"][0] | {"optimizer": {"step": torch.ones(1)}}, tmp_path / "w.pt")
    load_checkpoint(small(), tmp_path / "w.pt", "teacher")
    assert caplog.messages == [
        f"weights of {tmp_path / 'w.pt'}: took 'teacher.backbone'; the file also holds 'student', 'optimizer'"
    ]


def test_a_key_that_a_file_does_not_have_is_refused_with_those_that_it_has(tmp_path):
    torch.save(PAIRS["DINO"][0], tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"no weights 'teach'; it has 'student.module.backbone', 'teacher.back"):
        load_checkpoint(small(), tmp_path / "w.pt", "teach")


def test_two_equal_copies_of_the_weights_are_one_set(tmp_path):
    torch.save({"best": ONE.state_dict(), "last": prefixed(ONE.state_dict(), "module.")}, tmp_path / "w.pt")
    target = small()
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(target.fc.weight, ONE.fc.weight)


OTHER_OBJECTS = {
    "a NumPy number": np.float64(76.1),
    "a NumPy array and a random state": {
        "a": np.arange(6.0).reshape(2, 3),
        "rng": np.random.RandomState(0).get_state(),
    },
    "arguments": argparse.Namespace(lr=0.1, data=pathlib.Path("data"), when=datetime.datetime(2020, 1, 1)),
    "a path of Windows": pathlib.PureWindowsPath("C:/data"),
    "default dictionaries": collections.defaultdict(list, {"loss": [1.0]}),
    "names": types.SimpleNamespace(dtype=torch.float16, device=torch.device("cpu")),
}


@pytest.mark.parametrize("others", OTHER_OBJECTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_other_objects_in_a_checkpoint_are_ignored(tmp_path, others, zipped):
    target = small()
    content = {"others": OTHER_OBJECTS[others], "state_dict": ONE.state_dict()}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(target.fc.weight, ONE.fc.weight)


def test_a_harmless_type_in_a_checkpoint_is_never_instantiated(tmp_path):
    (tmp_path / "file").write_text("kept")
    torch.save({"w": torch.ones(2), "path": tmp_path / "file", "size": argparse.Namespace(a=1)}, tmp_path / "w.pt")
    content = checkpoint_file._pickled(tmp_path / "w.pt", b"PK\x03\x04")
    assert not isinstance(content["path"], pathlib.PurePath)
    assert not vars(content["size"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_weights_that_are_numpy_arrays_are_loaded(tmp_path, order):
    arrays = {name: np.array(tensor.numpy(), order=order) for name, tensor in ONE.state_dict().items()}
    torch.save({"model": arrays}, tmp_path / "w.pt")
    target = small()
    load_checkpoint(target, tmp_path / "w.pt")
    assert all(torch.equal(tensor, ONE.state_dict()[name]) for name, tensor in target.state_dict().items())


def test_an_array_whose_bytes_do_not_fill_its_shape_is_no_tensor():
    array = checkpoint_file._Array()
    for shape, content in (((3,), b"\0" * 8), ((-1,), b"\0" * 4), ((2**40,), b"\0" * 4)):
        array.__setstate__((1, shape, checkpoint_file._Dtype("f4"), False, content))
        assert array.tensor() is None
    array.__setstate__((1, (2,), checkpoint_file._Dtype("f4"), False, np.float32([1.5, -2]).tobytes()))
    assert array.tensor().tolist() == [1.5, -2.0]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_numbers_without_their_scales_are_refused_for_weights(tmp_path, dtype):
    state = {name: tensor.to(dtype) if tensor.ndim > 1 else tensor for name, tensor in ONE.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"another type of number features\.0\.weight \(torch\.\w+ instead of"):
        load_checkpoint(small(), tmp_path / "w.pt")


WRAPPED = {
    "compiled in parts": lambda s: {n.replace("features.", "features._orig_mod.", 1): t for n, t in s.items()},
    "FSDP": lambda s: prefixed(
        {n.replace("features.", "features._checkpoint_wrapped_module.", 1): t for n, t in s.items()},
        "_fsdp_wrapped_module.",
    ),
    "swa_utils": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(3)},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("compiled", [False, True])
def test_names_of_wrappers_are_ignored_in_the_file_and_in_the_network(tmp_path, wrapping, compiled):
    torch.save(WRAPPED[wrapping](ONE.state_dict()), tmp_path / "w.pt")
    target = small()
    load_checkpoint(torch.compile(target, backend="eager") if compiled else target, tmp_path / "w.pt")
    assert torch.equal(target.fc.weight, ONE.fc.weight)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_torchscript_archive_is_named_as_such(tmp_path):
    torch.jit.script(small()).save(str(tmp_path / "w.pt"))
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict"):
        load_checkpoint(small(), tmp_path / "w.pt")


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


@pytest.mark.parametrize("file_format", ["zip", "old", "safetensors"])
def test_a_truncated_file_is_named_as_such(tmp_path, file_format):
    path = tmp_path / "w.pt"
    if file_format == "safetensors":
        save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=file_format == "zip")
    content = path.read_bytes()
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * part)])
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


def test_another_architecture_is_recognized_and_the_module_is_not_changed(tmp_path):
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
