"""A two-tower network learns which images and words belong together, and keeps it in a file."""

import numpy as np
import pytest
import torch

from netdissect.concepts import ConceptData
from netdissect.errors import CheckpointError, ConfigError
from netdissect.models import Preprocessing
from netdissect.training import load_two_tower, save_two_tower, train_two_tower
from netdissect.training.scene_net import TrainConfig
from netdissect.training.two_towers.captions import VisibleConcepts, visible_concepts
from netdissect.training.two_towers.train_two_tower import CaptionedImages
from netdissect.training.two_towers.two_tower import is_two_tower, token_shares
from shown_runs import write_data_set

TINY = TrainConfig(size=64, units=(8, 12, 12), steps=80, batch_size=12, learning_rate=1e-2, batch_norm=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ConceptData.open(write_data_set(tmp_path_factory.mktemp("shapes") / "data"))


@pytest.fixture(scope="module")
def trained(data):
    return train_two_tower(data, TINY)


def test_images_are_nearer_to_the_words_of_what_they_show(data, trained):
    pixels = CaptionedImages.read(data, 64).pixels
    images = trained.embed_images(trained.preprocessing.normalize(pixels))
    cosine = torch.nn.functional.cosine_similarity(images[:, None], trained.embed_words(["red", "blue"])[None], dim=2)
    for word, shape in ((0, 0), (1, 1)):
        shows = np.arange(24) % 3 == shape
        assert cosine[shows, word].min() > cosine[~shows, word].max()


def test_the_same_seed_trains_the_same_network_and_its_file_gives_it_again(data, trained, tmp_path):
    path = save_two_tower(trained, tmp_path / "towers.safetensors")
    loaded = load_two_tower(path)
    assert (loaded.digest, loaded.vocabulary, loaded.train_config) == (trained.digest, trained.vocabulary, TINY)
    pixels = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded.embed_images(pixels), trained.embed_images(pixels))
    assert torch.equal(loaded.embed_words(["red disk"]), trained.embed_words(["red disk"]))
    assert is_two_tower(path)
    short = TINY.model_copy(update={"steps": 2})
    assert train_two_tower(data, short).digest == train_two_tower(data, short).digest != trained.digest
    assert isinstance(loaded.preprocessing, Preprocessing)


def test_a_word_that_no_caption_had_is_refused_with_a_near_one(trained):
    with pytest.raises(ConfigError, match=r"no embedding for 2 of 3 words: 'squares', '!'.*Did you mean square"):
        trained.embed_words(["red", "squares", "!"])


@pytest.mark.parametrize("content", [None, b"", b"12345678{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_files_that_are_no_two_tower_network_are_refused(tmp_path, content):
    path = tmp_path / "towers.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert not is_two_tower(path)
    with pytest.raises(CheckpointError, match="does not exist" if content is None else "is not a two-tower network"):
        load_two_tower(path)


def test_too_few_images_for_a_batch_are_refused(data):
    with pytest.raises(ConfigError, match="has 24 images in which a concept is visible, and a batch takes 64"):
        train_two_tower(data, TINY.model_copy(update={"batch_size": 64}))


def test_captions_are_made_of_visible_concepts_and_true_of_the_images_that_show_all_of_them(data):
    visible = visible_concepts(data)
    assert visible.names[0] == "square"
    assert {"red", "blue"} <= set(visible.names)
    present = np.random.default_rng(0).random((30, 9)) < 0.4
    concepts, images = VisibleConcepts(tuple("abcdefghi"), present), np.arange(30)
    captions = concepts.captions(images, np.random.default_rng(1))
    assert not (captions & ~present).any()
    assert (captions.sum(axis=1) == 0).tolist() == (present.sum(axis=1) == 0).tolist()
    pairs = concepts.true_of(captions, images)
    expected = [
        [set(np.flatnonzero(caption)) <= set(np.flatnonzero(shown)) for caption in captions] for shown in present
    ]
    np.testing.assert_array_equal(pairs, expected)


def test_the_share_of_a_token_is_that_among_the_tokens_of_the_text():
    shares = token_shares(["street lamp", "Lamp, lamp street"], ("lamp", "street"), "here")
    torch.testing.assert_close(shares, torch.tensor([[1 / 2, 1 / 2], [2 / 3, 1 / 3]]))
