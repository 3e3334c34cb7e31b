"""Units in the explorer by the words of a label file, and by similarity to any word."""

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import networks
import strategies
from netdissect import dissect
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.errors import ConfigError, ResultError
from netdissect.explorer import create_app
from netdissect.models import Preprocessing
from netdissect.result import image_means

HOME = "http://127.0.0.1"
WORDS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "light": (1.0, 1.0, 1.0)}


class MeanColor:
    """Embeds images by their mean color, and some words by theirs."""

    name, digest, preprocessing = "mean color", "", Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)

    def embed_images(self, pixels):
        """Take the mean of each channel."""
        return pixels.mean(dim=(2, 3)).numpy()

    def embed_words(self, words):
        """Know three words."""
        if words[0] not in WORDS:
            raise ConfigError(f"mean color has no embedding for {words[0]!r}.")
        return np.array([WORDS[word] for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("words")
    data = strategies.write_broden(root / "broden", networks.images(30), networks.COVERAGE, image=(24, 24))
    config = DissectConfig(
        layers=("wide_relu", "fc"), batch_size=8, top_images=3, protocol=Protocol(quantiles=(0.05,)),
        statistics=StatisticsConfig(bootstrap=0, permutations=0, moments=True),
    )  # fmt: skip
    return dissect(networks.build(), data, config=config, out=root / "run")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    rows = [("wide_relu", 2, "zebra <b>"), ("wide_relu", 0, "striped zebra"), ("fc", 1, "sea")]
    pl.DataFrame(rows, schema=["layer", "unit", "label"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def client(run, labels):
    with TestClient(create_app(run.origin.folder, labels=labels, embeddings=MeanColor()), base_url=HOME) as client:
        yield client


def units(client, **query):
    answer = client.get("/api/runs/run/layers/0/units", params={"images": 0, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_search_finds_the_words_of_a_label_file(client):
    found = units(client, q="ZEBRA")
    assert sorted(unit["unit"] for unit in found["units"]) == [0, 2]
    assert found["words"] == {
        "0": {"word": "striped zebra", "similarity": None},
        "2": {"word": "zebra <b>", "similarity": None},
    }
    assert units(client, q="striped")["total"] == 1
    assert units(client, q="sea")["total"] == 0


def test_units_are_sorted_by_their_similarity_to_any_word(client, run):
    found = units(client, q="red", sort="similarity")
    order = [unit["unit"] for unit in found["units"]]
    assert sorted(order) == [0, 1, 2, 3]
    means = image_means(run, "wide_relu").astype(np.float64)
    embedded = MeanColor.preprocessing
    assert embedded.size == (8, 8)
    similar = [found["words"][str(unit)]["similarity"] for unit in order]
    assert similar == sorted(similar, reverse=True)
    images = _embedded(run)
    of_word = images @ np.array(WORDS["red"])
    expected = [_cubed(means[:, unit]) @ _cubed(of_word) for unit in order]
    np.testing.assert_allclose(similar, expected, atol=1e-6)
    assert units(client, q="", sort="similarity")["units"] == units(client)["units"]


def _embedded(run):
    from netdissect.dissect.reload import data_of
    from netdissect.evaluation.open_vocabulary.embed import embed_images

    images = embed_images(MeanColor(), data_of(run.info), 8)
    return images / np.linalg.norm(images, axis=1, keepdims=True)


def _cubed(values):
    cubes = (values - values.mean()) ** 3
    return cubes / max(np.linalg.norm(cubes), 1e-3)


def test_pages_show_words_as_text_and_offer_the_order_only_with_embeddings(client, run, labels):
    page = client.get("/r0/l0/", params={"q": "green", "sort": "similarity"}).text
    assert "word: zebra &lt;b&gt;" in page
    assert "by similarity to the search" in page
    assert page.count(">similarity ") == 4
    assert "Word of the label file: <b>zebra &lt;b&gt;</b>" in client.get("/r0/l0/u2.html").text
    with TestClient(create_app(run, labels=labels), base_url=HOME) as plain:
        assert "by similarity to the search" not in plain.get("/r0/l0/").text
        refused = plain.get("/api/runs/tiny/layers/0/units", params={"q": "red", "sort": "similarity"})
        assert (refused.status_code, "has no embeddings" in refused.json()["message"]) == (404, True)


def test_a_word_without_embedding_is_answered_with_the_reason(client):
    answer = client.get("/api/runs/run/layers/0/units", params={"q": "re", "sort": "similarity"})
    assert answer.status_code == 404
    assert "mean color has no embedding for 're'" in answer.json()["message"]


def test_words_for_several_runs_fixed_embeddings_and_labels_of_another_run_are_refused(run, labels, tmp_path):
    with pytest.raises(ConfigError, match="labels or embeddings were given for 2 runs"):
        create_app([run, run], labels=labels)
    with pytest.raises(ConfigError, match="these embeddings are fixed"):
        create_app(run, embeddings=(np.ones((30, 2)), np.ones((2, 2))))
    other = tmp_path / "other.csv"
    other.write_text("layer,unit,label\nconv9,0,tree\n")
    with pytest.raises(ResultError, match="conv9"):
        create_app(run, labels=other)
