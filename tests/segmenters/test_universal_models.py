"""Universal segmenters of transformers: tiny models of each family, saved and loaded as real ones are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netdissect.segmenters import load_segmenter

transformers = pytest.importorskip("transformers")

NAMES = {0: "wall", 1: "signboard, sign", 2: "N/A", 3: "sky"}
LABELS = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
IDS = np.array([1, 2, 0, 3])
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
SIZE = {"height": 32, "width": 32}
SMALL: dict[str, Any] = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 8, "dim_feedforward": 8,
    "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6,
}  # fmt: skip
Inputs = dict[str, Any]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def swin() -> Any:
    return transformers.SwinConfig(
        image_size=32, embed_dim=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def saved(model: Any, processor: Any, folder: Path) -> Inputs:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return dict(processor(list(IMAGES), return_tensors="pt"))


def detr(folder: Path) -> Inputs:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=64, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=8, decoder_ffn_dim=8, num_queries=6, encoder_attention_heads=8, decoder_attention_heads=8,
        **LABELS,
    )  # fmt: skip
    processor = transformers.DetrImageProcessor(size={"shortest_edge": 32, "longest_edge": 53})
    return saved(transformers.DetrForSegmentation(config), processor, folder)


def mask2former(folder: Path) -> Inputs:
    config = transformers.Mask2FormerConfig(backbone_config=swin(), **SMALL, **LABELS)
    processor = transformers.Mask2FormerImageProcessor(size=SIZE)
    return saved(transformers.Mask2FormerForUniversalSegmentation(config), processor, folder)


def eomt(folder: Path) -> Inputs:
    config = transformers.EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, num_blocks=1,
        num_queries=6, num_register_tokens=1, num_upscale_blocks=1, **LABELS,
    )  # fmt: skip
    size = {"shortest_edge": 32, "longest_edge": None}
    processor = transformers.EomtImageProcessor(size=size, do_split_image=True)
    inputs = saved(transformers.EomtForUniversalSegmentation(config), processor, folder)
    return {"pixel_values": inputs["pixel_values"]}


def oneformer(folder: Path) -> Inputs:
    characters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*characters, *(f"{letter}</w>" for letter in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    small = {name: SMALL[name] for name in SMALL if "feature_size" not in name}
    config = transformers.OneFormerConfig(
        backbone_config=swin(), conv_dim=32, mask_dim=32, query_dec_layers=1, task_seq_len=24, text_encoder_width=8,
        text_encoder_context_length=24, text_encoder_num_layers=1, text_encoder_vocab_size=len(tokens),
        text_encoder_proj_layers=1, text_encoder_n_ctx=2, **small, **LABELS,
    )  # fmt: skip
    names = folder / "names.json"
    folder.mkdir(exist_ok=True)
    names.write_text('{"0": {"name": "wall", "isthing": 0}}')
    processor = transformers.OneFormerProcessor(
        transformers.OneFormerImageProcessor(size=SIZE, repo_path=str(folder), class_info_file="names.json"),
        transformers.CLIPTokenizer(vocab=vocabulary, merges=[]), max_seq_length=24, task_seq_length=24,
    )  # fmt: skip
    model = transformers.OneFormerForUniversalSegmentation(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    names.unlink()  # of real models it is on the hub, in another place
    inputs = processor(list(IMAGES), ["semantic", "semantic"], return_tensors="pt")
    return {name: inputs[name] for name in ("pixel_values", "task_inputs")}


@pytest.mark.parametrize("build", [detr, mask2former, eomt, oneformer])
def test_a_universal_model_gives_the_sum_over_its_queries(build: Callable[[Path], Inputs], tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = build(tmp_path)
    segmenter = load_segmenter(f"transformers:{tmp_path}")
    assert [label.name for label in segmenter.labels] == ["wall", "signboard;sign", "sky"]
    assert segmenter.input_size == (32, 32)
    model = getattr(transformers, transformers.AutoConfig.from_pretrained(tmp_path).architectures[0])
    with torch.no_grad():
        outputs = model.from_pretrained(tmp_path).eval()(**inputs)
    queries, masks = (
        (outputs.logits, outputs.pred_masks)
        if build is detr
        else (outputs.class_queries_logits, outputs.masks_queries_logits)
    )
    shares = queries.softmax(-1).numpy()[:, :, :4]
    scores = np.stack([
        sum(shares[image, query, :, None, None] * masks[image, query].sigmoid().numpy() for query in range(6))
        for image in range(2)
    ])  # fmt: skip
    large = torch.nn.functional.interpolate(torch.from_numpy(scores), (32, 32), mode="bilinear").numpy()
    found = segmenter.module(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(found, scores[:, [0, 1, 3]], rtol=1e-3, atol=1e-5)
    best, second = np.sort(large, axis=1)[:, :-3:-1].transpose(1, 0, 2, 3)
    clear = best - second > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(segmenter.segment(IMAGES)[:, 0][clear], IDS[large.argmax(1)][clear])
