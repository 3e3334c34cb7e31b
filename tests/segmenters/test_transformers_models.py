"""Segmenters of transformers: tiny models, saved and loaded as real ones are, against the library's own readout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from netdissect.errors import SegmenterError
from netdissect.segmenters import load_segmenter

transformers = pytest.importorskip("transformers")

NAMES = {0: "wall", 1: "signboard, sign", 2: "N/A", 3: "sky"}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
SIZE = {"height": 32, "width": 32}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segformer")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8], patch_sizes=[3, 3], strides=[4, 2],
        num_attention_heads=[1, 1], mlp_ratios=[1, 1], decoder_hidden_size=8, id2label=NAMES,
        label2id={name: index for index, name in NAMES.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


def test_a_semantic_model_labels_pixels_as_the_library_reads_it_out(segformer: Path) -> None:
    segmenter = load_segmenter(f"transformers:{segformer}")
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(segformer).eval()
    processor = transformers.SegformerImageProcessor.from_pretrained(segformer)
    with torch.no_grad():
        outputs = model(**processor(list(IMAGES), return_tensors="pt"))
    classes = processor.post_process_semantic_segmentation(outputs, target_sizes=[(16, 16)] * 2)
    expected = np.array([1, 2, 0, 3])[np.stack([one.numpy() for one in classes])]
    assert [label.name for label in segmenter.labels] == ["wall", "signboard;sign", "sky"]
    maps = segmenter.segment(IMAGES, segmenter.input_size._replace(height=16, width=16))
    np.testing.assert_array_equal(maps[:, 0], expected)
    assert len(np.unique(expected)) > 1


def test_words_keep_labels_of_a_model_with_fixed_ones(segformer: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text("name,category\nsign,part\n")
    kept = load_segmenter(f"transformers:{segformer}", words=words)
    assert kept.labels == (("signboard;sign", "part"),)
    everything = load_segmenter(f"transformers:{segformer}").segment(IMAGES)
    np.testing.assert_array_equal(kept.segment(IMAGES), everything == 2)
    words.write_text("signbord\n")
    with pytest.raises(SegmenterError, match=r"lists the word 'signbord'.*Did you mean signboard or sign"):
        load_segmenter(f"transformers:{segformer}", words=words)


def test_a_model_without_names_of_labels_needs_a_file(segformer: Path, tmp_path: Path) -> None:
    for file in segformer.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(index): f"LABEL_{index}" for index in range(4)}
    config["label2id"] = {name: int(index) for index, name in config["id2label"].items()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SegmenterError, match=r"does not say what its 4 classes are.*--labels FILE"):
        load_segmenter(f"transformers:{tmp_path}")
    labels = tmp_path / "labels.txt"
    labels.write_text("wall\n\nfloor\nsky\n")
    named = load_segmenter(f"transformers:{tmp_path}", labels=labels)
    assert [label.name for label in named.labels] == ["wall", "floor", "sky"]
    labels.write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(SegmenterError, match=r"names the class 4, but .* has the 4 classes 0 to 3"):
        load_segmenter(f"transformers:{tmp_path}", labels=labels)


def test_a_panoptic_model_gives_the_sum_over_its_queries(tmp_path: Path) -> None:
    backbone = transformers.SwinConfig(
        image_size=32, embed_dim=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.MaskFormerConfig(
        fpn_feature_size=32, mask_feature_size=32, backbone_config=backbone, id2label=NAMES,
        label2id={name: index for index, name in NAMES.items()},
        decoder_config=transformers.DetrConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8, num_queries=6,
            encoder_attention_heads=1, decoder_attention_heads=1,
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.MaskFormerForInstanceSegmentation(config).save_pretrained(tmp_path)
    processor = transformers.MaskFormerImageProcessor(size=SIZE)
    processor.save_pretrained(tmp_path)
    model = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        outputs = model(**processor(list(IMAGES), return_tensors="pt"))
    classes = processor.post_process_semantic_segmentation(outputs, target_sizes=[(32, 32)] * 2)
    expected = np.array([1, 2, 0, 3])[np.stack([one.numpy() for one in classes])]
    np.testing.assert_array_equal(load_segmenter(f"transformers:{tmp_path}").segment(IMAGES)[:, 0], expected)
    queries = outputs.class_queries_logits.softmax(-1).numpy()
    masks = torch.nn.functional.interpolate(outputs.masks_queries_logits.sigmoid(), (32, 32), mode="bilinear").numpy()
    score = sum(queries[0, q, 3] * masks[0, q, 5, 7] for q in range(6))
    limited = load_segmenter(f"transformers:{tmp_path}", min_score=float(score) + 1e-4).segment(IMAGES)
    assert limited[0, 0, 5, 7] != 3


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clipseg")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    text = {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 1}
    config = transformers.CLIPSegConfig(
        text_config=small | text, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=8,
        reduce_dim=4, extract_layers=[0, 1, 2], decoder_num_attention_heads=1, decoder_intermediate_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


def test_a_text_prompted_model_finds_each_word_as_the_library_does(clipseg: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["cat", "dog", "cat", "", *(f"{letter}x" for letter in "abcdefghijklmnopqrs")]))
    segmenter = load_segmenter(f"transformers:{clipseg}", words=words)
    names = [label.name for label in segmenter.labels]
    assert names[:3] == ["cat", "dog", "ax"]
    assert len(names) == 21
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(clipseg).eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(clipseg)(names, padding=True, return_tensors="pt")
    pixels = transformers.ViTImageProcessor.from_pretrained(clipseg)(list(IMAGES), return_tensors="pt").pixel_values
    with torch.no_grad():
        logits = torch.stack([model(**tokens, pixel_values=one.expand(21, -1, -1, -1)).logits for one in pixels])
    found = segmenter.module(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(found, logits.sigmoid(), rtol=1e-4, atol=1e-5)
    limit = float(np.quantile(logits.sigmoid(), 0.7))
    maps = load_segmenter(f"transformers:{clipseg}", words=words, min_score=limit).segment(IMAGES)
    present = np.stack([(maps == label).any(1) for label in range(1, 22)], 1)
    np.testing.assert_array_equal(present, (found >= limit).numpy())


def test_a_text_prompted_model_needs_words(clipseg: Path, tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match=r"searches for words and has no labels of its own.*--words FILE"):
        load_segmenter(f"transformers:{clipseg}")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(SegmenterError, match=r"empty.txt holds no word"):
        load_segmenter(f"transformers:{clipseg}", words=tmp_path / "empty.txt")


def test_a_classifier_is_no_segmenter(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(SegmenterError, match=r"is a ResNetForImageClassification, which is no segmenter"):
        load_segmenter(f"transformers:{tmp_path}")


def test_pickled_weights_are_refused(segformer: Path, tmp_path: Path) -> None:
    for file in segformer.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        SegmenterError, match=r"cannot load the segmenter .* code and pickled weights of others are not run"
    ):
        load_segmenter(f"transformers:{tmp_path}")
