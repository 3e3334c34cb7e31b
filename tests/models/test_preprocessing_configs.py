"""Preprocessing that timm and transformers write down, and that belongs to weights."""

import json
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image

from netdissect.errors import NetworkError
from netdissect.models import Preprocessing, load_network

IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)

PROCESSORS = {
    "ViT": lambda: transformers.ViTImageProcessorPil(size={"height": 32, "width": 24}),
    "CLIP without its crop": lambda: transformers.CLIPImageProcessorPil(
        size={"height": 24, "width": 24}, do_center_crop=False
    ),
    "not normalized": lambda: transformers.ViTImageProcessorPil(size={"height": 8, "width": 8}, do_normalize=False),
    "not scaled": lambda: transformers.ViTImageProcessorPil(
        size={"height": 8, "width": 8}, do_rescale=False, image_mean=[104.0, 117, 123], image_std=[58.0] * 3
    ),
    "scaled to -1..1": lambda: transformers.EfficientNetImageProcessorPil(
        size={"height": 20, "width": 20}, rescale_factor=1 / 127.5, rescale_offset=True, resample=3, include_top=False
    ),
    "divided by the deviation twice": lambda: transformers.EfficientNetImageProcessorPil(
        size={"height": 20, "width": 20}, image_mean=[0.4, 0.5, 0.6], image_std=[0.25] * 3
    ),
    "divided by the deviation and not normalized": lambda: transformers.EfficientNetImageProcessorPil(
        size={"height": 20, "width": 20}, image_std=[0.25] * 3, do_normalize=False
    ),
}


def as_netdissect(how: Preprocessing, pixels: np.ndarray) -> torch.Tensor:
    height, width = how.size
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling[how.interpolation.upper()])
    return how(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("saved", [False, True])
def test_a_processor_of_transformers_and_its_configuration_give_the_same_input(name, saved, tmp_path):
    processor = PROCESSORS[name]()
    if saved:
        processor.save_pretrained(tmp_path)
    expected = processor(Image.fromarray(IMAGE), return_tensors="pt")["pixel_values"]
    found = as_netdissect(Preprocessing.read(tmp_path if saved else processor), IMAGE)
    torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=1e-5)


SQUARE = {"height": 24, "width": 24}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda: transformers.PerceiverImageProcessor(), r"256 x 256 pixels becomes an array \(1, 3, 224, 224\)"),
        (lambda: transformers.VideoMAEImageProcessor(size=SQUARE, crop_size=SQUARE), r"array \(1, 1, 3, 24, 24\)"),
        (lambda: transformers.PPLCNetImageProcessor(crop_size=24), "does more than its size, mean and deviation say"),
        (lambda: transformers.Qwen2VLImageProcessor(), r"array \(4900, 1176\)"),
        (lambda: transformers.Glm4vImageProcessor(), "12,544 x 12,544 pixels.*some processors name an area"),
        (
            lambda: transformers.ImageGPTImageProcessor(),
            "do_color_quantize changes the image",
        ),
        (lambda: transformers.SamImageProcessor(pad_size=SQUARE), "pad_size changes the image"),
        (lambda: transformers.VideoLlavaImageProcessor(size=SQUARE, crop_size=SQUARE), "fails on an image of 24 x 24"),
        (lambda: transformers.MobileViTImageProcessor(), "it puts blue before red"),
    ],
)
def test_an_image_processor_that_does_more_than_its_configuration_says_is_refused(processor, message):
    with pytest.raises(NetworkError, match=message):
        Preprocessing.read(processor())


def test_of_a_processor_of_text_and_images_that_of_images_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\n")
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    images = transformers.BlipImageProcessor(size=SQUARE)
    both = transformers.BlipProcessor(images, tokenizer)
    assert Preprocessing.read(both) == Preprocessing.read(images)
    both.image_processor = transformers.VideoMAEImageProcessor(size=SQUARE, crop_size=SQUARE)
    with pytest.raises(NetworkError, match="VideoMAEImageProcessor does more than its size"):
        Preprocessing.read(both)


def test_padding_to_the_size_of_the_input_changes_no_image_that_has_it():
    assert Preprocessing.read(transformers.SamImageProcessor()).size == (1024, 1024)


def test_sizes_are_those_that_would_be_cropped():
    both = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    for size, expected in (
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 200}}, (224, 200)),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 200}, "do_center_crop": False},
            (256,) * 2,
        ),
        ({"size": 240, "crop_size": 224}, (224, 224)),
        ({"size": [30, 40]}, (30, 40)),
    ):
        assert Preprocessing.read(both | size).size == expected


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k", "mobilenetv3_small_050"])
def test_the_configuration_of_timm_weights_is_read_from_every_form_of_it(name, tmp_path):
    model = timm.create_model(name, pretrained=False)
    config = timm.data.resolve_model_data_config(model)
    found = Preprocessing.read(model.pretrained_cfg)
    assert (found.size, found.mean, found.std) == (config["input_size"][1:], config["mean"], config["std"])
    assert found.interpolation == config["interpolation"] == "bicubic"
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": model.pretrained_cfg}))
    assert Preprocessing.read(tmp_path) == Preprocessing.read(config) == found
    assert load_network(f"timm:{name}", weights="none").preprocessing == found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "The preprocessing is an object of type int, which is none"),
        ({"image_size": 224}, "The preprocessing is an object of type dict, which is none"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "KeyError: 'size'"),
        ({"image_mean": [0.5], "image_std": [0.5], "size": 8, "do_flip_channel_order": True}, "blue before red"),
        ({"image_mean": [0.5], "image_std": [0.5], "size": 8, "resample": 9}, "IndexError"),
        ({"mean": [0.5], "std": [0.5], "input_size": [3, 8]}, "ValueError"),
    ],
)
def test_an_unreadable_preprocessing_configuration_is_refused(config, message, tmp_path):
    with pytest.raises(NetworkError, match=message):
        Preprocessing.read(config)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(NetworkError, match=r"cannot be read .*JSON"):
        Preprocessing.read(tmp_path / "preprocessor_config.json")
    with pytest.raises(NetworkError, match="'imagenet', which is neither a file nor a folder"):
        Preprocessing.read("imagenet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NetworkError, match="holds no preprocessing configuration"):
        Preprocessing.read(tmp_path / "empty")


def test_the_configuration_in_the_folder_of_weights_is_used(tmp_path, caplog):
    caplog.set_level("INFO", "netdissect")
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pt")
    options = {"weights": str(tmp_path / "w.pt")}
    own = load_network("timm:resnet10t", **options).preprocessing
    config = {"input_size": [3, 96, 96], "mean": [0.1] * 3, "std": [0.2] * 3, "interpolation": "bilinear"}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": config}))
    found = load_network("timm:resnet10t", **options)
    assert found.preprocessing == Preprocessing((96, 96), (0.1,) * 3, (0.2,) * 3) != own
    assert any("config.json" in message for message in caplog.messages)
    changed = load_network("timm:resnet10t", **options, size=64, mean=own.mean, interpolation="nearest")
    assert changed.preprocessing == Preprocessing((64, 64), own.mean, (0.2,) * 3, "nearest")
    assert changed.source.interpolation == "nearest"


def test_every_preset_of_torchvision_names_its_interpolation():
    for name, expected in (("resnet50", "bilinear"), ("efficientnet_b0", "bicubic"), ("swin_t", "bicubic")):
        assert load_network(f"torchvision:{name}", weights="none").preprocessing.interpolation == expected


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_input_transform_of_published_weights_comes_with_their_file(name, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "netdissect")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision says that its initialization is slow
        state = torchvision.models.get_model(name, weights=None, init_weights=False).state_dict()
    torch.save(state, tmp_path / "w.pth")
    own = torchvision.models.get_model_weights(name).DEFAULT
    monkeypatch.setattr(type(own), "get_state_dict", lambda *_args, **_options: state)
    published, of_file = (
        load_network(f"torchvision:{name}"),
        load_network(f"torchvision:{name}", weights=str(tmp_path / "w.pth")),
    )
    assert of_file.preprocessing == published.preprocessing
    assert any("transforms its input" in message for message in caplog.messages)
    images = published.preprocessing(torch.zeros(1, 3, *published.preprocessing.size, dtype=torch.uint8))
    assert torch.equal(of_file.module._transform_input(images), published.module._transform_input(images))
    assert not torch.equal(of_file.module._transform_input(images), images)


def test_a_checkpoint_with_the_second_classifier_of_a_segmentation_network_is_loaded(tmp_path):
    options = {"weights": None, "weights_backbone": None, "aux_loss": True}
    source = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(**options)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    found = load_network("torchvision:deeplabv3_mobilenet_v3_large", weights=str(tmp_path / "w.pth"))
    assert torch.equal(found.module.classifier[4].weight, source.classifier[4].weight)


@pytest.mark.slow
def test_a_file_with_the_name_of_published_weights_has_their_preset(tmp_path):
    enum = torchvision.models.ViT_B_16_Weights
    swag = enum.IMAGENET1K_SWAG_E2E_V1
    source = torchvision.models.VisionTransformer(384, 16, 12, 12, 768, 3072)
    torch.save(source.state_dict(), tmp_path / swag.url.rpartition("/")[2])
    found = load_network("torchvision:vit_b_16", weights=str(tmp_path / swag.url.rpartition("/")[2]))
    assert (found.preprocessing.size, found.preprocessing.interpolation) == ((384, 384), "bicubic")
