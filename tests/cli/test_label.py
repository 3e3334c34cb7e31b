"""`netdissect label` from run to file, by the command and by the function."""

import json

import numpy as np
import polars as pl
import pytest

import networks
import strategies
from netdissect import dissect, label, load_result
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.errors import ConfigError, ResultError, ShapeError
from netdissect.evaluation.label_files import check_units, layer_sizes, read_label_file
from netdissect.evaluation.open_vocabulary.embedding_source import word_space
from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS
from netdissect.evaluation.open_vocabulary.word_statistics import WORD_LABELS, WordTest, word_labels
from netdissect.result import concept_shares, image_means
from netdissect.scoring.statistics.holdout import is_held_out

IMAGES = 90
WORDS = ("tree", "=car", "a red house", "sea")


def dissected(out, **statistics):
    drawn = networks.images(IMAGES)
    data = strategies.write_broden(out / "broden", drawn, networks.COVERAGE, image=(networks.SIDE, networks.SIDE))
    config = DissectConfig(
        layers=("wide_relu", "fc"), batch_size=8, top_images=3, protocol=Protocol(quantiles=(0.05,)),
        statistics=StatisticsConfig(bootstrap=0, permutations=0, stats_seed=4, **statistics),
    )  # fmt: skip
    return dissect(networks.build(), data, config=config, out=out / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    dissected(folder, moments=True)
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.normal(size=(IMAGES, 5)))
    np.save(folder / "words.npy", rng.normal(size=(4, 5)).astype(np.float32))
    (folder / "words.txt").write_text("\n".join(WORDS))
    return folder


SHORT = ("--function", "cos-cubed", "--bootstrap", 20, "--permutations", 30)


def test_the_command_writes_a_label_file_with_the_words_that_the_function_gives(run, netdissect, tmp_path):
    out = tmp_path / "labels.csv"
    spec = f"{run / 'images.npy'},{run / 'words.npy'}"
    done = netdissect("label", run / "run", "--words", run / "words.txt", "--embeddings", spec, *SHORT, "--out", out)
    assert done.code == 0, done.err
    assert f"Wrote {out}" in done.out
    assert "held-out rank" in done.out
    result = load_result(run / "run")
    found = label(
        result, run / "words.txt", (np.load(run / "images.npy"), np.load(run / "words.npy")),
        function="cos-cubed", bootstrap=20, permutations=30,
    )  # fmt: skip
    assert found.columns == list(WORD_LABELS)
    read = check_units(layer_sizes(result), "words", read_label_file(out), list(result.layers))
    assert read.select("layer", "unit", "label").equals(found.select("layer", "unit", "label"))
    assert "=car" in set(found["label"])
    as_json = netdissect(
        "label", run / "run", "--words", run / "words.txt", "--embeddings", spec, *SHORT, "--out", out, "--json"
    )
    assert json.loads(as_json.out)["units"] == found.to_dicts()


def test_labels_of_a_layer_are_those_of_its_image_means_with_the_seed_of_the_run(run):
    result = load_result(run / "run")
    images, words = np.load(run / "images.npy"), np.load(run / "words.npy")
    found = label(result, WORDS, (images, words), function="wpmi", layer="fc", bootstrap=10, permutations=20)
    means = image_means(result, "fc").astype(np.float64)
    test = WordTest(FUNCTIONS["wpmi"], bootstrap=10, permutations=20, seed=4)
    expected = word_labels(means, word_space(images, words, IMAGES, 4), WORDS, test)
    assert found.drop("layer").equals(expected.select(found.drop("layer").columns))
    assert found["layer"].unique().to_list() == ["fc"]
    other = label(
        result, WORDS, (images, words), function="wpmi", layer="fc", bootstrap=10, permutations=20, stats_seed=5
    )
    assert not other.equals(found)
    assert other["score"].equals(found["score"])


def test_a_run_without_image_means_and_other_mistakes_are_refused(run, netdissect, tmp_path):
    plain = dissected(tmp_path)
    pair = (np.load(run / "images.npy"), np.load(run / "words.npy"))
    with pytest.raises(ResultError, match=r"kept no mean activations of single images. .*--moments"):
        label(plain, WORDS, pair)
    result = load_result(run / "run")
    with pytest.raises(ShapeError, match="have 4 rows for 3 words"):
        label(result, WORDS[:3], pair)
    with pytest.raises(ConfigError, match="the run has 90 images, and this function takes 100"):
        label(result, WORDS, pair)
    with pytest.raises(ConfigError, match="embeddings are no pair of arrays"):
        label(result, WORDS, (pair[0],))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no option 'functions'"):
        label(result, WORDS, pair, functions="wpmi")  # type: ignore[call-arg]
    spec = f"{run / 'images.npy'},{run / 'images.npy'}"
    done = netdissect(
        "label", run / "run", "--words", run / "words.txt", "--embeddings", spec, "--out", tmp_path / "o.csv"
    )
    assert (done.code, done.out) == (2, "")
    assert "ShapeError: the embeddings of words have 90 rows for 4 words" in done.err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(run, netdissect, tmp_path):
    for out, reason in ((tmp_path / "missing" / "o.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        for command in (("label", run / "run", "--words", tmp_path / "none.txt", "--embeddings", "none.safetensors"),
                        ("evaluate", run / "run", tmp_path / "none.csv")):  # fmt: skip
            done = netdissect(*command, "--out", out)
            said = " ".join(done.err.split())
            assert done.code == 2
            assert f"{out} cannot be written" in said
            assert reason in said
            assert "Choose a folder that exists" in said


def test_statistics_that_were_left_out_are_empty_in_the_table(run, netdissect, tmp_path):
    spec = f"{run / 'images.npy'},{run / 'words.npy'}"
    done = netdissect(
        "label", run / "run", "--words", run / "words.txt", "--embeddings", spec, "--out", tmp_path / "o.csv",
        "--function", "cos-cubed", "--holdout", "none", "--bootstrap", 0, "--permutations", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    frame = pl.read_csv(tmp_path / "o.csv")
    assert frame["stability"].null_count() == frame["heldout_rank"].null_count() == len(frame)


def test_evaluate_scores_the_file_that_label_writes(run, netdissect, tmp_path):
    result, out = load_result(run / "run"), tmp_path / "labels.csv"
    concepts = result.concepts["concept"].cast(pl.String).to_list()
    (tmp_path / "words.txt").write_text("\n".join([*concepts, "a word of no concept"]))
    np.save(tmp_path / "words.npy", np.random.default_rng(1).normal(size=(len(concepts) + 1, 5)))
    spec = f"{run / 'images.npy'},{tmp_path / 'words.npy'}"
    done = netdissect(
        "label", run / "run", "--words", tmp_path / "words.txt", "--embeddings", spec, *SHORT, "--out", out
    )
    assert done.code == 0, done.err
    scored = netdissect("evaluate", run / "run", out, "--json", "--replicates", 100)
    assert scored.code == 0, scored.err
    found, labels = json.loads(scored.out), pl.read_csv(out)
    exact = {row["label"]: row["how"] for row in found["matches"]}
    assert exact == {word: "exact" if word in concepts else "unmatched" for word in labels["label"]}
    means = {layer: image_means(result, layer) for layer in result.layers}
    shares = concept_shares(result, "fc")
    held = is_held_out(4, np.arange(IMAGES), 0.5)
    for layer in result.layers:
        known = labels.filter(pl.col("layer") == layer, pl.col("label").is_in(concepts))
        pairs = [
            (shares[held, concepts.index(word)], means[layer][held, unit])
            for unit, word in known.select("unit", "label").iter_rows()
        ]
        expected = np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])
        (row,) = (
            row for row in found["scores"]
            if (row["layer"], row["level"], row["metric"]) == (layer, "images", "simulation_correlation")
        )  # fmt: skip
        assert (row["value"], row["units"]) == (pytest.approx(expected, abs=1e-6), len(known))
