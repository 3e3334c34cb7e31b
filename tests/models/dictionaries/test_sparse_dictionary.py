"""Codes of sparse autoencoders, with NumPy one cell at a time as the oracle, and their files."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netdissect.dissect.sparse.encoders import encode_sparse_maps
from netdissect.errors import CheckpointError, ShapeError
from netdissect.models.dictionaries import sparse_dictionary
from netdissect.models.dictionaries.basis import LinearBasis, basis_bytes, encode_maps, load_basis
from netdissect.models.dictionaries.dictionary_files import dictionary_bytes, read_dictionary, read_facts
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary

UNITS, LATENTS = 5, 12


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def weights(threshold=None):
    return DictionaryWeights(
        numbers(LATENTS, UNITS), numbers(LATENTS, seed=1), numbers(LATENTS, UNITS, seed=2), numbers(UNITS, seed=3),
        threshold,
    )  # fmt: skip


def codes_by_cell(cells, parts, k=None):
    """Compute codes as the definition reads."""
    rows = []
    for cell in cells.double().numpy():
        values = [float(w @ cell + b) for w, b in zip(parts.encoder.double().numpy(), parts.encoder_bias, strict=True)]
        limits = np.broadcast_to(0.0 if parts.threshold is None else parts.threshold, LATENTS)
        largest = sorted(range(LATENTS), key=lambda i: -values[i])[:k]
        rows.append([v if i in largest and v > 0 and v > limits[i] else 0.0 for i, v in enumerate(values)])
    return np.array(rows)


@pytest.mark.parametrize(
    ("activation", "k", "threshold"),
    [
        ("relu", None, None),
        ("topk", 3, None),
        ("topk", 9, None),  # fewer are above zero on some cells
        ("jumprelu", None, numbers(LATENTS, seed=4).abs()),
        ("jumprelu", None, torch.tensor([0.8])),
        ("topk", 4, torch.tensor([0.8])),
    ],
)
def test_codes_are_those_of_the_definition_cell_by_cell(activation, k, threshold, monkeypatch):
    monkeypatch.setattr(sparse_dictionary, "PART_VALUES", 3 * LATENTS)  # three cells at a time
    dictionary = SparseDictionary("conv", weights(threshold), k)
    cells = numbers(20, UNITS, seed=5)
    assert dictionary.activation == activation
    expected = codes_by_cell(cells, dictionary.weights, k)
    codes = dictionary.encode(cells)
    np.testing.assert_allclose(codes.numpy(), expected, rtol=1e-4, atol=1e-5)
    cell, latent, value = dictionary.encode_sparse(cells)
    assert [cell.tolist(), latent.tolist()] == [part.tolist() for part in np.nonzero(expected)]
    assert torch.equal(codes[cell, latent], value)
    rebuilt = expected @ dictionary.weights.decoder.double().numpy() + dictionary.weights.decoder_bias.numpy()
    np.testing.assert_allclose(dictionary.decode(codes).numpy(), rebuilt, rtol=1e-4, atol=1e-4)
    assert not len(dictionary.encode_sparse(cells[:0]).cell)


@pytest.mark.parametrize("normalization", ["length", "layer"])
def test_normalized_cells_have_no_inverse_but_are_rebuilt_on_their_own_scale(normalization):
    eye = torch.cat([torch.eye(UNITS), -torch.eye(UNITS)])  # with ReLU the identity
    parts = DictionaryWeights(eye, torch.zeros(2 * UNITS), eye, torch.zeros(UNITS))
    dictionary, cells = SparseDictionary("conv", parts, normalization=normalization), numbers(7, UNITS) * 3 + 2
    codes = dictionary.encode(cells)
    signed = codes[:, :UNITS] - codes[:, UNITS:]
    centered = cells - (cells.mean(1, keepdim=True) if normalization == "layer" else 0)
    scale = cells.std(1, keepdim=True) if normalization == "layer" else cells.norm(dim=1, keepdim=True) / UNITS**0.5
    torch.testing.assert_close(signed, centered / scale, rtol=1e-4, atol=1e-4)
    assert dictionary.decode(codes) is None
    torch.testing.assert_close(dictionary.rebuild(cells), cells, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "threshold"), [(3, None), (None, torch.tensor([0.4])), (None, None)])
def test_a_dictionary_is_the_same_after_it_was_written_and_read(tmp_path, k, threshold):
    dictionary = SparseDictionary("conv", weights(threshold), k)
    facts = dict.fromkeys("edcba", "text ä")
    (tmp_path / "f.safetensors").write_bytes(dictionary_bytes(dictionary, facts))
    assert len({dictionary_bytes(dictionary, facts) for _ in range(8)}) == 1, "safetensors alone draws their order"
    assert read_facts(tmp_path / "f.safetensors").items() >= facts.items()
    read = read_dictionary(tmp_path / "f.safetensors", UNITS, "conv")
    assert [*read.state()] == [*dictionary.state()]
    assert all(torch.equal(tensor, dictionary.state()[name]) for name, tensor in read.state().items())
    (tmp_path / "basis.safetensors").write_bytes(basis_bytes(dictionary))
    again, maps = load_basis(tmp_path / "basis.safetensors", "conv"), numbers(2, UNITS, 3, 4)
    torch.testing.assert_close(encode_maps(again, maps)[:, :, 2, 3], dictionary.encode(maps[:, :, 2, 3]))


def test_codes_are_in_float32_where_the_network_runs_in_bfloat16():
    maps = numbers(2, UNITS, 3, 4).bfloat16()
    for basis in (SparseDictionary("conv", weights(), 3), LinearBasis("conv", numbers(LATENTS, UNITS))):
        expected = encode_maps(basis, maps.float())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encode_maps(basis, maps), expected)
            if basis.sparse:
                np.testing.assert_array_equal(encode_sparse_maps(basis, maps).dense(), expected)


def plain(parts, *, encoder_by_unit=True, decoder_by_unit=False, **more):
    tensors = {
        "W_enc": parts.encoder.T if encoder_by_unit else parts.encoder, "b_enc": parts.encoder_bias,
        "W_dec": parts.decoder.T if decoder_by_unit else parts.decoder, "b_dec": parts.decoder_bias, **more,
    }  # fmt: skip
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


@pytest.mark.parametrize("encoder_by_unit", [True, False])
@pytest.mark.parametrize("decoder_by_unit", [True, False])
def test_shapes_say_which_dimension_is_which(tmp_path, encoder_by_unit, decoder_by_unit):
    stored = plain(weights(), encoder_by_unit=encoder_by_unit, decoder_by_unit=decoder_by_unit, k=torch.tensor(3))
    save_file(stored, tmp_path / "f.safetensors")
    read, cells = read_dictionary(tmp_path / "f.safetensors", UNITS), numbers(6, UNITS)
    assert torch.equal(read.encode(cells), SparseDictionary("", weights(), 3).encode(cells))
    assert torch.equal(read.weights.decoder, weights().decoder)
    torch.save({"state_dict": stored}, tmp_path / "f.pt")
    assert torch.equal(read_dictionary(tmp_path / "f.pt", UNITS).encode(cells), read.encode(cells))


def overcomplete(encoder, **more):
    """Return the state dict of an SAE of overcomplete 0.3.0 with this encoder."""
    own = {f"encoder.final_block.{name}": tensor for name, tensor in encoder.state_dict().items()}
    scalar = {"dictionary.multiplier": torch.tensor(0.0)}
    return {"dictionary._weights": weights().decoder * 3} | scalar | own | more


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d])
def test_a_state_dict_of_overcomplete_is_its_encoder_and_unit_rows(tmp_path, norm):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(UNITS, LATENTS), norm(LATENTS))
    encoder(numbers(50, UNITS) * 4 + 1)  # running statistics
    torch.save(overcomplete(encoder, k=torch.tensor(4)), tmp_path / "f.pt")
    read, cells = read_dictionary(tmp_path / "f.pt", UNITS), numbers(9, UNITS)
    values = encoder.eval()(cells).relu().detach()
    expected = torch.zeros_like(values).scatter(1, values.topk(4).indices, values.topk(4).values)
    torch.testing.assert_close(read.encode(cells), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read.weights.decoder.norm(dim=1), torch.ones(LATENTS))


def test_thresholds_of_overcomplete_are_logarithms_and_a_tied_encoder_is_the_dictionary(tmp_path):
    tied = {"dictionary._weights": weights().decoder * 3, "thresholds": numbers(LATENTS, seed=6)}
    torch.save(tied, tmp_path / "f.pt")
    read = read_dictionary(tmp_path / "f.pt", UNITS)
    rows = weights().decoder / weights().decoder.norm(dim=1, keepdim=True)
    torch.testing.assert_close(read.weights.encoder, rows)
    torch.testing.assert_close(read.weights.threshold, numbers(LATENTS, seed=6).exp())


def saev(path, header, **more):
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(plain(weights(), **more), file)


@pytest.mark.parametrize(
    ("header", "tensors", "k", "threshold"),
    [
        ({"schema": 5, "cfg": {"activation": {"cls": "TopK", "params": {"top_k": 3}}}}, {}, 3, None),
        ({"schema": 1, "cls": "TopK", "cfg": {"top_k": 3}}, {}, 3, None),
        ({"d_vit": 5}, {}, None, None),
        ({"schema": 2, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": 3}}}}, {}, 3, None),
        (
            {"cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": 3}}}, "schema": 5},
            {"activation.threshold": torch.tensor(0.5)}, None, 0.5,
        ),
    ],
)  # fmt: skip
def test_a_checkpoint_of_saev_is_read_in_every_version(tmp_path, header, tensors, k, threshold):
    saev(tmp_path / "f.pt", header, **tensors)
    read, cells = read_dictionary(tmp_path / "f.pt", UNITS), numbers(9, UNITS)
    limit = None if threshold is None else torch.tensor([threshold])
    expected = SparseDictionary("", weights(limit), k)
    assert torch.equal(read.encode(cells), expected.encode(cells))


# A dictionary that rebuilds cells around (3, ..., 3) exactly where the convention is right, by the identity.
BASE = torch.cat([torch.eye(UNITS), -torch.eye(UNITS)])


@pytest.mark.parametrize("subtracted", [True, False])
def test_what_the_file_leaves_open_is_what_rebuilds_the_cells(tmp_path, subtracted, caplog):
    mean = torch.full((UNITS,), 3.0)
    bias = torch.zeros(2 * UNITS) if subtracted else -BASE @ mean
    save_file(plain(DictionaryWeights(BASE, bias, BASE, mean)), tmp_path / "f.safetensors", {"layer": "other"})
    cells = numbers(40, UNITS) + 3
    with caplog.at_level("INFO", "netdissect"):
        read = read_dictionary(tmp_path / "f.safetensors", UNITS, "conv", cells)
    torch.testing.assert_close(read.decode(read.encode(cells)), cells)
    prepared = "the decoder's bias subtracted" if subtracted else "cells as they are"
    assert f"rebuilds 40 cells of conv with NMSE 0.000 ({prepared}); it was trained on other" in caplog.text
    said = {"subtract_decoder_bias": json.dumps(not subtracted), "input_normalization": "none"}
    save_file(plain(DictionaryWeights(BASE, bias, BASE, mean)), tmp_path / "g.safetensors", said)
    with pytest.raises(CheckpointError, match=r"g\.safetensors does not rebuild the cells of layer 'conv'.*says what"):
        read_dictionary(tmp_path / "g.safetensors", UNITS, "conv", cells)


def test_a_dictionary_of_something_else_is_refused_with_what_was_tried(tmp_path):
    torch.save(overcomplete(nn.Sequential(nn.Linear(UNITS, LATENTS))), tmp_path / "f.pt")
    with pytest.raises(CheckpointError, match=r"error on 40 cells.*Tried .*rows of unit length: \d.*neither k nor"):
        read_dictionary(tmp_path / "f.pt", UNITS, "conv", numbers(40, UNITS) / 50)


def nan(parts):
    return plain(parts._replace(encoder_bias=parts.encoder_bias.index_fill(0, torch.tensor([1]), float("nan"))))


SQUARE = DictionaryWeights(numbers(UNITS, UNITS), numbers(UNITS), numbers(UNITS, UNITS), numbers(UNITS))
BAD_FILES = {
    "another width": (plain(weights()), 6, ShapeError, r"of cells of 5 units .* but the layer has 6"),
    "NaN": (nan(weights()), UNITS, CheckpointError, r"NaN or infinity in encoder_bias"),
    "two readings": (plain(SQUARE), UNITS, ShapeError, r"as many latents as the layer has units, 5"),
    "no such tensors": ({"weight": numbers(3, 3)}, UNITS, CheckpointError, r"its tensors are weight"),
    "k too large": (plain(weights(), k=torch.tensor(13)), UNITS, CheckpointError, r"latents and k = 13\. Expected k"),
    "k of 0": (plain(weights(), k=torch.tensor(0)), UNITS, CheckpointError, r"has 12 latents and k = 0\."),
    "k of fractions": (plain(weights(), k=torch.tensor(1.5)), UNITS, CheckpointError, r"k is 1\.5\."),
    "k of two numbers": (plain(weights(), k=torch.tensor([1, 2])), UNITS, CheckpointError, r"k is of shape \(2,\)"),
    "thresholds": (plain(weights(), threshold=numbers(3)), UNITS, CheckpointError, r"threshold of 3 numbers\. Expec"),
    "integers": ({n: t.int() for n, t in plain(weights()).items()}, UNITS, CheckpointError, r"weights of torch\.int32"),
    "other shapes": (plain(weights()) | {"W_dec": numbers(3, 3)}, UNITS, ShapeError, r"\(3, 3\).*Expected \(K, 5\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_a_file_that_is_no_dictionary_of_the_layer_is_refused(tmp_path, name, form):
    tensors, units, error, message = BAD_FILES[name]
    path = tmp_path / f"f.{form}"
    save_file(tensors, path) if form == "safetensors" else torch.save(tensors, path)
    with pytest.raises(error, match=message):
        read_dictionary(path, units)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return print, ("never",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save({"W_enc": Evil()}, tmp_path / "f.pt")
    (tmp_path / "f.saev").write_bytes(b'{"d_vit": 5}\n' + (tmp_path / "f.pt").read_bytes())
    for name in ("f.pkl", "f.pt", "f.saev"):
        with pytest.raises(CheckpointError, match=r"more than tensors: loading it would run"):
            read_dictionary(tmp_path / name, UNITS)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json\n", "begins with a brace, but is no checkpoint of saev"),
        (
            b'{"schema": 5, "cfg": {"activation": {"cls": "Gate", "params": {}}}}\n',
            "unknown activation function Gate",
        ),
        (b"[1]", "starts with"),
        (b"\x20\0\0\0\0\0\0\0{oops", "cannot be read as a safetensors file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_dictionary(tmp_path / "f", UNITS)
    with pytest.raises(CheckpointError, match=r"none cannot be opened .*correct the path"):
        read_dictionary(tmp_path / "none", UNITS)


ENCODERS = {
    "layer norm": nn.Sequential(nn.Linear(UNITS, LATENTS), nn.LayerNorm(LATENTS)),
    "two layers": nn.Sequential(nn.Linear(UNITS, LATENTS), nn.Identity(), nn.Linear(LATENTS, LATENTS)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_overcomplete_that_is_no_linear_map_is_refused(tmp_path, name):
    torch.save(overcomplete(ENCODERS[name]), tmp_path / "f.pt")
    with pytest.raises(CheckpointError, match=r"has an encoder of encoder\.final_block\.[12]\.bias.*one linear map"):
        read_dictionary(tmp_path / "f.pt", UNITS)
    torch.save(overcomplete(nn.Sequential(nn.Linear(UNITS, LATENTS))) | {"dictionary.multiplier": torch.tensor(0.5)},
               tmp_path / "g.pt")  # fmt: skip
    with pytest.raises(CheckpointError, match=r"scales its dictionary by exp\(0\.5\)"):
        read_dictionary(tmp_path / "g.pt", UNITS)


def test_tensors_that_do_not_fit_make_no_dictionary():
    with pytest.raises(ShapeError, match=r"Expected encoder \(K, U\), its bias \(K,\)"):
        SparseDictionary("conv", weights()._replace(encoder_bias=numbers(3)))
    with pytest.raises(ShapeError, match=r"keeps k = 0 of its 12 latents"):
        SparseDictionary("conv", weights(), 0)
