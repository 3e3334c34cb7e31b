"""A run with bases is measured: cells and their concepts by brute force, tables, resumption, and what is refused."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
import torch
from polars.testing import assert_frame_equal
from scipy.spatial.distance import cosine

import netdissect
from netdissect.activations import ImageReader
from netdissect.concepts import Size
from netdissect.config import DissectConfig, Execution, Protocol
from netdissect.dissect.forward import DissectionInputs
from netdissect.dissect.image_maps import run_layers
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, ResultError, ShapeError
from netdissect.evaluation.dictionaries.bases_evaluation import load_bases
from netdissect.evaluation.dictionaries.basis_metrics import BASIS_METRICS, EMBEDDING_METRICS
from netdissect.evaluation.dictionaries.labeled_cells import CellRequest, read_cells
from netdissect.evaluation.dictionaries.measure import encode_cells
from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource
from netdissect.models import ActivationRecorder, exact_patterns
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary
from netdissect.scoring import FieldSpan, FieldSpans, make_upsampler
from netdissect.scoring.statistics.holdout import is_held_out
from networks import SIDE, build

LAYER = "deep_relu"


@pytest.fixture(scope="module")
def network():
    turned = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    latents = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    positive = SparseDictionary(LAYER, DictionaryWeights(latents, torch.zeros(12), latents, torch.zeros(5)))
    return replace(build(), bases={f"{LAYER}@turned": LinearBasis(LAYER, turned), f"{LAYER}@positive": positive})


@pytest.fixture(scope="module")
def run(network, labeled_data, tmp_path_factory):
    config = DissectConfig(
        layers=exact_patterns((LAYER, *network.bases, "fc")), batch_size=8, top_images=3,
        protocol=Protocol(quantiles=(0.05,)), statistics={"bootstrap": 0, "permutations": 0},
    )  # fmt: skip
    return netdissect.dissect(network, labeled_data, config=config, out=tmp_path_factory.mktemp("bases") / "run")


def inputs_of(run, network, labeled_data):
    data = netdissect.ConceptData.open(labeled_data)
    return DissectionInputs.of(network, data, run_layers(network, run.info), run.info.config, Execution())


@pytest.fixture(scope="module")
def files(run, network, labeled_data, tmp_path_factory):
    source = inputs_of(run, network, labeled_data)
    return read_cells(source, CellRequest(10**6, 0, "mean"), tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(0).normal([1.0, 0, 0, 0], size=(60, 4))


@pytest.fixture(scope="module")
def found(run, network, embeddings):
    config = netdissect.EvaluateBasesConfig(equal_units=(3,), equal_active=(2,), replicates=20)
    return netdissect.evaluate_bases(run, network=network, embeddings=embeddings, config=config)


@pytest.mark.parametrize("name", ["equal_units", "equal_active"])
def test_no_units_at_all_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name}.*greater than 0"):
        netdissect.EvaluateBasesConfig(**{name: (8, 0)})


def test_a_cell_has_the_concepts_that_cover_more_than_half_of_its_pixels(run, files, labeled_data):
    data, labels = netdissect.ConceptData.open(labeled_data), files.concepts(LAYER)
    present = labels.concepts.toarray()
    layer = next(each for each in run.info.layers if each.name == LAYER)
    grid, index = (layer.height, layer.width), {concept.label_id: n for n, concept in enumerate(data.concepts)}
    assert len(present) == 60 * grid[0] * grid[1]
    counts = np.zeros(2, int)
    for row in range(60):
        image = data.labels(row)
        size = image.label_channels.shape[1:]
        anchor = run.info.config.protocol.anchor
        upsampler = make_upsampler(Size(*grid), Size(*size), Size(SIDE, SIDE), spans(layer.field), anchor)
        weights = upsampler.upsample(np.eye(grid[0] * grid[1], dtype=np.float32).reshape(-1, *grid))
        owner = np.argmax(weights > weights.max(axis=0) - 1e-6, axis=0)
        own = np.zeros((grid[0] * grid[1], len(index)), bool)
        for label_id, concept in index.items():
            has = (image.label_channels == label_id).any(axis=0) | (label_id in image.image_level)
            for cell in range(len(own)):
                pixels = has[owner == cell]
                own[cell, concept] = len(pixels) > 0 and pixels.mean() > 0.5
        np.testing.assert_array_equal(present[labels.image_index == row], own)
        counts += own.sum(), (~own).sum()
    assert (counts > 500).all()
    assert labels.held_out.tolist() == is_held_out(0, labels.image_index, 0.5).tolist()


def spans(field):
    return FieldSpans(*(FieldSpan(axis.offset, axis.size, axis.step) for axis in (field.vertical, field.horizontal)))


def test_cells_and_values_are_those_of_the_network(network, files, labeled_data):
    data = netdissect.ConceptData.open(labeled_data)
    pixels = torch.from_numpy(ImageReader(data, network.preprocessing).read(range(60)))
    layers = [layer for layer in netdissect.list_layers(network) if layer.name in (LAYER, f"{LAYER}@turned")]
    with network.prepared(), ActivationRecorder(network, layers) as record:
        maps = record(network.preprocessing.normalize(pixels))
    cells = maps[LAYER].flatten(2).transpose(1, 2).flatten(0, 1).numpy()
    np.testing.assert_allclose(files.cells(LAYER), cells, rtol=1e-5, atol=1e-6)
    means = np.concatenate([values for _, values in files.values(f"{LAYER}@turned")])
    np.testing.assert_allclose(means, maps[f"{LAYER}@turned"].mean(dim=(2, 3)).numpy(), rtol=1e-4, atol=1e-5)


def test_fewer_cells_are_an_equal_number_of_each_image(run, network, labeled_data, files, tmp_path):
    source = inputs_of(run, network, labeled_data)
    some = read_cells(source, CellRequest(300, 0), tmp_path)
    labels = some.concepts(LAYER)
    assert np.bincount(labels.image_index).tolist() == [5] * 60
    every = {row.tobytes() for row in files.cells(LAYER)}
    assert all(row.tobytes() in every for row in some.cells(LAYER))
    assert read_cells(source, CellRequest(300, 1), tmp_path).cells(LAYER).tolist() != some.cells(LAYER).tolist()


def test_average_precision_is_that_of_the_best_unit_on_held_out_cells(network, files, found):
    cells, labels = files.cells(LAYER), files.concepts(LAYER)
    codes = network.bases[f"{LAYER}@turned"].encode(torch.from_numpy(cells)).numpy()
    rows = found.concepts.filter(layer=f"{LAYER}@turned", choice="all").to_dicts()
    assert [row["concept"] for row in rows] == [concept.name for concept in files.data.concepts]
    scored = [(index, row) for index, row in enumerate(rows) if row["average_precision"] is not None]
    for index, row in scored:
        counted = labels.counted(index) & labels.held_out
        value = np.sign(row["weight"]) * codes[counted, row["unit"]]
        expected = sklearn.metrics.average_precision_score(labels.labels_of(index)[counted], value)
        assert row["average_precision"] == pytest.approx(expected, rel=1e-6)
    basis = found.bases.filter(layer=f"{LAYER}@turned", choice="all").row(0, named=True)
    assert basis["map"] == pytest.approx(np.mean([row["average_precision"] for _, row in scored]))
    assert basis["concepts"] == len(scored) > 2


def test_every_layer_and_basis_is_measured_at_every_choice(found):
    rows = {(row["layer"], row["choice"]): row for row in found.bases.iter_rows(named=True)}
    choices = ["all", "3 units", "L0 = 2"]
    expected = [(LAYER, choice) for choice in choices] + [(f"{LAYER}@turned", choice) for choice in choices]
    assert list(rows) == [*expected, (f"{LAYER}@positive", "all"), (f"{LAYER}@positive", "3 units"),
                          *(("fc", choice) for choice in choices)]  # fmt: skip
    assert [row["basis_of"] for row in rows.values()] == [None] * 3 + [LAYER] * 5 + [None] * 3
    for layer in (LAYER, f"{LAYER}@turned"):
        assert rows[layer, "all"]["nmse"] == pytest.approx(0, abs=1e-10)
        assert rows[layer, "3 units"]["nmse"] > 0
        assert rows[layer, "L0 = 2"]["l0"] <= 2
        assert rows[layer, "3 units"]["units"] == 3
    assert rows[f"{LAYER}@positive", "all"]["nmse"] > 0
    for metric in BASIS_METRICS:
        if metric.interval:
            row = rows[f"{LAYER}@positive", "all"]
            low, high = row[f"{metric.name}_ci_low"], row[f"{metric.name}_ci_high"]
            assert low - 1e-9 <= row[metric.name] <= high + 1e-9


def test_monosemanticity_of_a_run_is_the_mean_over_pairs_of_images(files, found, embeddings):
    values = np.concatenate([part for _, part in files.values(f"{LAYER}@turned")]).astype(float)
    scaled = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    similar = np.array([[1 - cosine(one, other) for other in embeddings] for one in embeddings])
    upper = np.triu_indices(60, 1)
    rows = found.units.filter(layer=f"{LAYER}@turned").to_dicts()
    for row in rows:
        weights = np.outer(scaled[:, row["unit"]], scaled[:, row["unit"]])[upper]
        assert row["monosemanticity"] == pytest.approx(np.average(similar[upper], weights=weights), rel=1e-6)
    mean = found.bases.filter(layer=f"{LAYER}@turned", choice="all")["monosemanticity"].item()
    assert mean == pytest.approx(np.mean([row["monosemanticity"] for row in rows]))


def test_without_embeddings_there_is_no_score_by_embeddings(run, network, found):
    config = netdissect.EvaluateBasesConfig(layers=("fc",), replicates=20)
    without = netdissect.evaluate_bases(run, network=network, config=config)
    assert set(EMBEDDING_METRICS) <= set(found.bases.columns)
    assert not any(name.startswith(EMBEDDING_METRICS) for name in (*without.bases.columns, *without.units.columns))
    assert without.bases["map"].to_list() == found.bases.filter(layer="fc", choice="all")["map"].to_list()
    assert repr(without) == "1 layer, 3 units\ntables: bases, concepts, units"


def test_the_newest_tables_are_kept_in_the_run_and_a_damaged_one_is_refused(run, network, embeddings, tmp_path):
    copied = netdissect.load_result(shutil.copytree(run.folder, tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "evaluations")
    assert load_bases(copied) is None
    config = netdissect.EvaluateBasesConfig(layers=("fc",), replicates=20)
    for given in (None, embeddings):
        found = netdissect.evaluate_bases(copied, network=network, embeddings=given, config=config)
        loaded = load_bases(netdissect.load_result(copied.folder))
        assert loaded.config == config
        for name in ("bases", "concepts", "units"):
            assert_frame_equal(getattr(loaded, name), getattr(found, name))
    other = replace(copied, info=copied.info.model_copy(update={"created": "2020-01-01T00:00:00+00:00"}))
    assert load_bases(other) is None  # a run that has taken the folder of another
    table = max(tmp_path.glob("run/evaluations/bases-*/units.parquet"), key=lambda path: path.stat().st_mtime_ns)
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ResultError, match=r"units\.parquet is missing or damaged"):
        load_bases(copied)


def test_a_unit_has_the_best_of_the_concepts_that_it_is_best_for(found):
    concepts = found.concepts.filter(layer=f"{LAYER}@turned", choice="all").drop_nulls("average_precision").to_dicts()
    rows = found.unit_scores(f"{LAYER}@turned").to_dicts()
    assert [row["unit"] for row in rows] == list(range(5))
    for row in rows:
        own = [each for each in concepts if each["unit"] == row["unit"]]
        best = max(
            own, key=lambda each: each["average_precision"], default={"concept": None, "average_precision": None}
        )
        assert (row["concept"], row["average_precision"]) == (best["concept"], best["average_precision"])
    assert len({row["concept"] for row in rows} - {None}) > 1


def test_an_interrupted_pass_resumes_and_a_damaged_part_is_refused(run, network, labeled_data, tmp_path, monkeypatch):
    source, request = inputs_of(run, network, labeled_data), CellRequest(10**6, 0)
    monkeypatch.setattr("netdissect.evaluation.dictionaries.labeled_cells.PART_IMAGES", 16)
    whole = read_cells(source, request, tmp_path / "whole").cells(LAYER)

    class KilledError(Exception):
        pass

    def kill(_stage, done, _total):
        if done > 32:
            raise KilledError

    with pytest.raises(KilledError):
        read_cells(source, request, tmp_path / "cut", kill)
    done = []
    resumed = read_cells(source, request, tmp_path / "cut", lambda _stage, count, _total: done.append(count))
    assert done == [40, 48, 56, 60]
    assert resumed.cells(LAYER).tobytes() == whole.tobytes()
    part = next((tmp_path / "cut").glob("*/part-00001.npz"))
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(ResultError, match=r"part-00001\.npz is damaged"):
        resumed.cells(LAYER)


@pytest.fixture(scope="module")
def run_of_some(network, labeled_data, tmp_path_factory):
    config = DissectConfig(layers=("fc",), max_images=20, sample_seed=3, protocol=Protocol(quantiles=(0.05,)),
                           statistics={"bootstrap": 0, "permutations": 0})  # fmt: skip
    return netdissect.dissect(network, labeled_data, config=config, out=tmp_path_factory.mktemp("some") / "run")


def test_embeddings_of_all_images_of_the_data_set_give_those_of_the_run(run_of_some, network, labeled_data, embeddings):
    with (labeled_data / "index.csv").open(encoding="utf-8") as file:
        names = [row["image"] for row in csv.DictReader(file)]
    own = [names.index(row.image) for row in data_of(run_of_some.info).rows]
    found = [
        netdissect.evaluate_bases(
            run_of_some, network=network, embeddings=given, config=netdissect.EvaluateBasesConfig(replicates=20)
        )
        for given in (embeddings, embeddings[own], embeddings[:20])
    ]
    assert own != list(range(20))
    assert_frame_equal(found[0].units, found[1].units)
    assert not found[0].units.equals(found[2].units)
    space = EmbeddingSource((embeddings, np.eye(2, 4) + 1)).space(run_of_some, ("tree", "car"))  # of netdissect label
    expected = embeddings[own] / np.linalg.norm(embeddings[own], axis=1, keepdims=True)
    np.testing.assert_allclose(space.images, expected, rtol=1e-12)
    message = r"have 21 rows for 20 images. Expected one row for each of the 60 rows of .*index\.csv, in that order"
    with pytest.raises(ShapeError, match=message):
        netdissect.evaluate_bases(run_of_some, network=network, embeddings=embeddings[:21])


def test_embeddings_of_another_number_of_images_or_of_the_network_itself_are_refused(run, network, embeddings):
    with pytest.raises(ShapeError, match="59 rows for 60 images"):
        netdissect.evaluate_bases(run, network=network, embeddings=embeddings[:-1])

    class Own:
        name, digest, preprocessing = "own", network.digest, network.preprocessing

        def embed_images(self, pixels):
            return pixels.flatten(1)

        def embed_words(self, words):
            return torch.zeros(len(words), 1)

    with pytest.raises(ConfigError, match="those of 'tiny', the dissected network"):
        netdissect.evaluate_bases(run, network=network, embeddings=Own())


def test_codes_of_a_sparse_dictionary_are_those_of_its_dense_form(network, files):
    cells, dictionary = files.cells(LAYER), network.bases[f"{LAYER}@positive"]
    codes = encode_cells(dictionary, cells)
    np.testing.assert_array_equal(codes.toarray(), dictionary.encode(torch.from_numpy(cells)).numpy())
    assert codes.has_sorted_indices
