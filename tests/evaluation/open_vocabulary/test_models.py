"""Models of transformers, factories and two-tower networks embed images and words; embeddings of images are cached."""

import sys

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import networks
import strategies
from netdissect.caches.cache_folder import EMBEDDINGS
from netdissect.concepts import ConceptData
from netdissect.errors import ConfigError, NetworkError, ShapeError
from netdissect.evaluation.open_vocabulary.embed import embed_images, embed_words
from netdissect.evaluation.open_vocabulary.embedding_model import check_model, load_embedding_model
from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource
from netdissect.models import Preprocessing

SIDE, TOKENS = 32, ["[pad]", "[unk]", "[end]", "tree", "red", "car", "a", "zebra"]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {
    **TOWER,
    "vocab_size": len(TOKENS),
    "max_position_embeddings": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 16}


def saved(kind, folder):
    """Build a tiny model and tokenizer from configurations, and save them as their library does."""
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
        model, processor = transformers.CLIPModel(config), transformers.CLIPImageProcessor(size=SIDE, crop_size=SIDE)
    else:
        config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION)
        model, processor = (
            transformers.SiglipModel(config),
            transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
        )
    special = {name: f"[{name[:3]}]" for name in ("pad_token", "unk_token")}
    text = Tokenizer(models.WordLevel({token: index for index, token in enumerate(TOKENS)}, special["unk_token"]))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    text.post_processor = processors.TemplateProcessing(single="$A [end]", special_tokens=[("[end]", 2)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=text, model_max_length=6, **special)
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return model.eval(), tokenizer


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_model_of_transformers_embeds_as_its_own_library_does(kind, tmp_path):
    model, tokenizer = saved(kind, tmp_path / kind)
    loaded = load_embedding_model(f"transformers:{tmp_path / kind}", "cpu")
    assert loaded.preprocessing.size == (SIDE, SIDE)
    pixels = loaded.preprocessing.normalize(torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8))
    words = ["tree", "a red car"]
    padded = tokenizer(words, padding="max_length", max_length=6, return_tensors="pt")
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        # SigLIP was trained without a mask of the padding.
        keys = ["input_ids", "attention_mask"][: 2 if kind == "clip" else 1]
        texts = model.get_text_features(**{key: padded[key] for key in keys}).pooler_output
        assert torch.equal(loaded.embed_images(pixels), images)
        torch.testing.assert_close(loaded.embed_words(words), texts)
    with pytest.raises(ConfigError, match=r"reads at most 6 tokens, and 'a a a a a a a' has 8"):
        loaded.embed_words(["tree", "a a a a a a a"])
    again = load_embedding_model(f"transformers:{tmp_path / kind}", "cpu")
    assert again.digest == loaded.digest


def test_a_folder_without_a_model_of_images_and_texts_is_refused(tmp_path):
    with pytest.raises(NetworkError, match=r"transformers cannot load .* Expected the name of one"):
        load_embedding_model(f"transformers:{tmp_path}", "cpu")
    config = transformers.ViTConfig(**VISION)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(NetworkError, match=r"ViTModel of .* has no get_image_features and no get_text_features"):
        load_embedding_model(f"transformers:{tmp_path}", "cpu")


def test_pickled_weights_of_others_are_not_read(tmp_path):
    model, _ = saved("clip", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(NetworkError, match="transformers cannot load"):
        load_embedding_model(f"transformers:{tmp_path}", "cpu")


class Colors:
    """Embeds an image by its mean color, and the words red, green and blue by themselves."""

    name, digest = "colors", "1"
    preprocessing = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3)

    def __init__(self):
        self.calls = 0

    def embed_images(self, pixels):
        """Count the calls."""
        self.calls += 1
        return pixels.mean(dim=(2, 3))

    def embed_words(self, words):
        """Know three words."""
        return torch.eye(3)[[("red", "green", "blue").index(word) for word in words]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    drawn = networks.images(5)
    root = strategies.write_broden(tmp_path_factory.mktemp("data"), drawn, networks.COVERAGE, image=(16, 16))
    return ConceptData.open(root)


def test_embeddings_of_images_are_cached_by_digest_of_images_and_model(data, tmp_path):
    model = Colors()
    first = embed_images(model, data, 2, tmp_path)
    assert (first.shape, model.calls) == ((5, 3), 3)
    np.testing.assert_array_equal(embed_images(model, data, 4, tmp_path), first)
    assert model.calls == 3
    (path,) = (file.path for file in EMBEDDINGS.files(tmp_path))
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # a flipped bit
    path.write_bytes(content)
    np.testing.assert_array_equal(embed_images(model, data, 5, tmp_path), first)
    assert model.calls == 4
    model.digest = "2"
    embed_images(model, data, 5, tmp_path)
    assert (model.calls, len(list(EMBEDDINGS.files(tmp_path)))) == (5, 2)
    model.digest = ""
    embed_images(model, data, 5, tmp_path)
    embed_images(model, data, 5, tmp_path)
    assert model.calls == 7


def test_a_factory_returns_what_embeds(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_towers.py").write_text("class Bad:\n    name = 'bad'\ndef bad():\n    return Bad()\n")
    with pytest.raises(ConfigError, match="gave a Bad without digest, preprocessing, embed_images, embed_words"):
        load_embedding_model("python:own_towers:bad")
    with pytest.raises(NetworkError, match="has no function 'towers'"):
        load_embedding_model("python:own_towers:towers")
    sys.modules.pop("own_towers")
    assert check_model(Colors(), "here").name == "colors"
    model = Colors()
    model.preprocessing = None
    with pytest.raises(ConfigError, match="the preprocessing of here is a NoneType"):
        check_model(model, "here")


def test_a_model_that_gives_another_number_of_rows_is_refused(data):
    model = Colors()
    model.embed_words = lambda _: torch.zeros(3)
    with pytest.raises(ShapeError, match=r"colors gave .* as the embeddings of 2 words"):
        embed_words(model, ["red", "blue"], 8)
    model.embed_images = lambda _: [1, 2]
    with pytest.raises(ShapeError, match="colors gave list as the embeddings of 5 images"):
        embed_images(model, data, 8)


def test_models_embed_without_gradients(data):
    model, enabled = Colors(), []
    model.embed_images = lambda pixels: enabled.append(torch.is_grad_enabled()) or pixels.mean(dim=(2, 3))
    model.embed_words = lambda words: enabled.append(torch.is_grad_enabled()) or torch.eye(3)[: len(words)]
    embed_images(model, data, 8)
    embed_words(model, ["red"], 8)
    assert enabled == [False, False]


def test_fixed_embeddings_embed_no_other_word():
    with pytest.raises(ConfigError, match="no other word can be embedded"):
        EmbeddingSource((np.ones((2, 2)), np.ones((2, 2)))).embed(("tree",))
