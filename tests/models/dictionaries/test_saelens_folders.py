"""Folders of SAELens: codes and rebuilt cells are what SAELens itself gave for the same weights and cells."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from netdissect.errors import CheckpointError, ShapeError
from netdissect.models.dictionaries.dictionary_files import read_dictionary

UNITS, LATENTS = 5, 12
# Of SAELens 6.54.12: the codes of a cell, and what is rebuilt of it.
SAELENS: dict[str, tuple[list[float], list[float]]] = {
    "standard": (
        [0, 0, 0.4287, 2.789, 6.7, 0, 2.925, 6.379, 5.057, 10.46, 0, 0],
        [23.46, 6.039, 19.47, -27.93, -2.643],
    ),
    "without bias": (
        [0, 0, 0, 1.848, 2.059, 0.914, 0.9287, 7.6, 0, 5.29, 3.303, 0],
        [15.79, -6.381, 13.59, -14.87, -2.308],
    ),
    "length": (
        [0, 0, 1.293, 1.047, 6.062, 0, 2.115, 2.499, 6.023, 7.694, 0, 0],
        [44.08, 17.09, 25.48, -47.34, -5.021],
    ),
    "layer": (
        [0, 0, 3.144, 1.09, 5.286, 0, 2.371, 1.685, 4.915, 5.045, 0, 0],
        [41.68, 13.94, 17.71, -34.53, -4.98],
    ),
    "topk": (
        [0, 0, 0, 0, 6.7, 0, 0, 6.379, 0, 10.46, 0, 0],
        [19.62, -4.836, 22.02, -24.6, 1.883],
    ),
    "rescaled": (
        [0, 0, 0, 0, 0, 0, 0, 9.712, 11.72, 28.69, 0, 0],
        [15.22, 3.015, 15.94, -32.81, 5.806],
    ),
    "jumprelu": (
        [0, 0, 0, 2.789, 6.7, 0, 2.925, 6.379, 5.057, 10.46, 0, 0],
        [23.04, 6.172, 19.61, -27.59, -2.838],
    ),
    "gated": (
        [0, 0, 0.3381, 2.262, 16.87, 0, 6.121, 26.49, 6.636, 17.93, 0, 0],
        [48.01, 5.777, 52.79, -59.86, -12.77],
    ),
    "batchtopk": (
        [0, 0, 0, 3.402, 9.576, 0, 4.583, 9.712, 11.72, 28.69, 0, 0],
        [23.04, 6.172, 19.61, -27.59, -2.838],
    ),
}  # fmt: skip


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def tensors(form: str) -> dict[str, torch.Tensor]:
    """Return the tensors with which SAELens was given its cells."""
    plain = {"W_enc": numbers(LATENTS, UNITS).T.contiguous(), "W_dec": numbers(LATENTS, UNITS, seed=2)}
    plain |= {"b_dec": numbers(UNITS, seed=3)}
    if form == "gated":
        seeds = {"b_mag": 1, "b_gate": 4, "r_mag": 6}
        return plain | {name: numbers(LATENTS, seed=seed) for name, seed in seeds.items()}
    more = {
        "jumprelu": {"threshold": numbers(LATENTS, seed=4).abs()},
        "batchtopk": {"topk_threshold": torch.tensor(0.7)},
    }
    return plain | {"b_enc": numbers(LATENTS, seed=1)} | more.get(form, {})


def folder(path: Path, form: str = "standard", **config: object) -> Path:
    """Write a folder as SAELens does."""
    path.mkdir(exist_ok=True)
    said = {"d_in": UNITS, "d_sae": LATENTS, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
            "normalize_activations": "none", "reshape_activations": "none", "architecture": form,
            "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.3.hook_resid_post"}}  # fmt: skip
    (path / "cfg.json").write_text(json.dumps({**said, **config}))
    save_file(tensors(form), path / "sae_weights.safetensors")
    return path


FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "standard": ("standard", {}),
    "without bias": ("standard", {"apply_b_dec_to_input": False}),
    "length": ("standard", {"normalize_activations": "constant_norm_rescale"}),
    "layer": ("standard", {"normalize_activations": "layer_norm"}),
    "topk": ("topk", {"k": 3}),
    "rescaled": ("topk", {"k": 3, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": ("jumprelu", {}),
    "gated": ("gated", {}),
    "batchtopk": ("batchtopk", {"k": 2.5, "rescale_acts_by_decoder_norm": True}),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("given", ["folder", "weights"])
def test_codes_and_rebuilt_cells_are_those_of_saelens(tmp_path: Path, name: str, given: str) -> None:
    form, said = FORMS[name]
    path = folder(tmp_path / "sae", form, **said)
    read = read_dictionary(path if given == "folder" else path / "sae_weights.safetensors", UNITS)
    cell = numbers(4, UNITS, seed=5)[2:3] * 2 + 1
    codes, rebuilt = SAELENS[name]
    np.testing.assert_allclose(read.encode(cell)[0], codes, rtol=1e-3, atol=0)
    np.testing.assert_allclose(read.rebuild(cell)[0], rebuilt, rtol=1e-3, atol=0)


def test_configurations_before_version_6_are_read(tmp_path: Path) -> None:
    new = read_dictionary(folder(tmp_path, "topk", k=3), UNITS)
    old = {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3},
           "hook_point": "blocks.3.hook_resid_post", "normalize_activations": False}  # fmt: skip
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    read = read_dictionary(tmp_path, UNITS)
    assert (read.k, read.normalization) == (3, "none")
    assert all(torch.equal(one, other) for one, other in zip(read.state().values(), new.state().values(), strict=True))


def test_a_factor_that_the_folder_does_not_hold_is_named_where_cells_are_not_rebuilt(tmp_path: Path) -> None:
    folder(tmp_path, normalize_activations="expected_average_only_in")
    with pytest.raises(CheckpointError, match=r"does not rebuild the cells .*fold_activation_norm_scaling_factor"):
        read_dictionary(tmp_path, UNITS, "conv", numbers(9, UNITS))


def extra(path: Path, name: str, value: torch.Tensor) -> None:
    save_file(tensors("standard") | {name: value}, path / "sae_weights.safetensors")


@pytest.mark.parametrize(
    ("form", "said", "message"),
    [
        ("standard", {"architecture": "transcoder"}, r"architecture = transcoder, which is not read here. .*gated"),
        ("standard", {"architecture": "jumprelu"}, r"holds W_dec.* Expected .*threshold, as cfg.json says"),
        ("standard", {"activation_fn": "tanh-relu"}, r"activation_fn = tanh-relu"),
        ("standard", {"normalize_activations": "whiten"}, r"normalize_activations = whiten"),
        ("topk", {"k": 2.5}, r"k = 2\.5. Expected the whole number"),
        ("topk", {}, r"k = None. Expected the whole number"),
        ("topk", {"k": float("inf")}, r"k = inf. Expected the whole number"),
        ("topk", {"k": float("nan")}, r"k = nan. Expected the whole number"),
        ("topk", {"k": 13}, r"has 12 latents and k = 13"),
        ("standard", {"apply_b_dec_to_input": "perhaps"}, r"cfg.json cannot be used .apply_b_dec_to_input"),
    ],
)
def test_what_would_give_other_codes_is_refused(
    tmp_path: Path, form: str, said: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_dictionary(folder(tmp_path, form, **said), UNITS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "cfg.json").unlink(), r"cfg.json cannot be opened .No such file.*folder of SAELens"),
        (lambda path: (path / "cfg.json").write_text("{"), r"cfg.json cannot be used .the file: Invalid JSON"),
        (lambda path: (path / "cfg.json").write_text(" " * (2 << 20)), r"has 2,097,152 bytes, too many"),
        (lambda path: (path / "sae_weights.safetensors").unlink(), r"sae_weights.safetensors is missing"),
        (lambda path: (path / "sae_weights.safetensors").write_bytes(b"{"), r"cannot be read as a safetensors file"),
        (lambda path: extra(path, "scaling_factor", torch.full((LATENTS,), 2.0)), r"scaling_factor of latents"),
        (lambda path: extra(path, "scaling_factor", torch.ones(3)), r"scaling_factor of shape \(3,\)"),
        (lambda path: extra(path, "W_skip", numbers(UNITS, UNITS)), r"holds .*W_skip"),
    ],
)
def test_incomplete_and_damaged_folders_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        read_dictionary(tmp_path, UNITS)


def test_a_folder_of_another_width_is_refused_and_factors_of_1_are_not(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"of cells of 5 units .* but the layer has 6"):
        read_dictionary(folder(tmp_path), UNITS + 1)
    extra(tmp_path, "scaling_factor", torch.ones(LATENTS))
    assert read_dictionary(tmp_path, UNITS).activation == "relu"
