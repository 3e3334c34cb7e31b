"""Modules of torchvision, timm and transformers become networks, with the pixels that their libraries would give."""

import functools
import json

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from netdissect.errors import NetworkError
from netdissect.models import (
    ActivationRecorder,
    Network,
    Preprocessing,
    as_network,
    list_layers,
    load_network,
    reload_network,
)

WEIGHTS = torchvision.models.ResNet18_Weights.DEFAULT
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

TRANSFORMS = {
    "the preset of a classifier": WEIGHTS.transforms(),
    "the preset of a bicubic classifier": torchvision.models.EfficientNet_B0_Weights.DEFAULT.transforms(),
    "the preset of a segmentation network": torchvision.models.segmentation.FCN_ResNet50_Weights.DEFAULT.transforms(),
    "version 1": v1.Compose([v1.Resize(24), v1.CenterCrop(16), v1.ToTensor(), v1.Normalize(**IMAGENET)]),
    "nested, with conversion of a tensor": v1.Compose(
        [v1.PILToTensor(), v1.Compose([v1.Resize((20, 12)), v1.ConvertImageDtype(torch.float32)])]
    ),
    "version 2": v2.Compose(
        [v2.ToImage(), v2.RGB(), v2.Resize(16), v2.ToDtype(torch.float32, scale=True), v2.Normalize(**IMAGENET)]
    ),
    "pixels from 0 to 255": v2.Compose(
        [
            v2.CenterCrop((12, 18)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=False),
            v2.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ]
    ),
    "normalized twice": v1.Compose(
        [v1.CenterCrop(8), v1.ToTensor(), v1.Normalize([0.5] * 3, [0.25] * 3), v1.Normalize([0.1, 0.2, 0.3], [2.0] * 3)]
    ),
    "transforms that timm makes": timm.data.create_transform((3, 20, 20), crop_pct=0.9, interpolation="bicubic"),
}


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def given_to_network(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    return preprocessing(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


def without_resize(transform):
    """Set the sizes of resizing to that of the crop, as the image is stretched to it."""
    if hasattr(transform, "resize_size"):
        transform.resize_size = getattr(transform, "crop_size", transform.resize_size)
    for step in getattr(transform, "transforms", ()):
        if isinstance(step, v1.Resize) and isinstance(step.size, int):
            crops = [other.size for other in transform.transforms if isinstance(other, v1.CenterCrop)]
            step.size = crops[0] if crops else step.size
        without_resize(step)
    return transform


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_network_is_given_the_pixels_that_transforms_of_torchvision_give(name):
    preprocessing = Preprocessing.read(TRANSFORMS[name])
    image = noise(*preprocessing.size)
    expected = without_resize(TRANSFORMS[name])(image)
    torch.testing.assert_close(given_to_network(preprocessing, image)[0], expected, atol=3e-6, rtol=1e-6)


@pytest.mark.parametrize("side", [17, 64])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_square_image_is_resized_as_torchvision_timm_and_transformers_resize_images_of_pillow(mode, side):
    image, size = noise(side, side), {"height": 32, "width": 32}
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    processor = transformers.ViTImageProcessorPil(size=size, resample=filters[mode])
    for how, expected in (
        (v1.Compose([v1.Resize(32, v1.InterpolationMode(mode)), v1.ToTensor()]), None),
        (timm.data.create_transform((3, 32, 32), crop_pct=1, interpolation=mode), None),
        (processor, lambda image: processor(image, return_tensors="pt")["pixel_values"][0]),
    ):
        preprocessing = Preprocessing.read(how)
        stretched = image.resize((32, 32), filters[preprocessing.interpolation])
        found = given_to_network(preprocessing, stretched)[0]
        torch.testing.assert_close(found, (expected or how)(image).float(), atol=1e-5, rtol=1e-5)


def test_size_and_filter_of_transforms_are_those_of_the_last_crop_and_resize():
    crop = [v1.Resize(256, interpolation=v1.InterpolationMode.BICUBIC), v1.CenterCrop((224, 192)), v1.ToTensor()]
    assert Preprocessing.read(v1.Compose(crop)).size == (224, 192)
    assert Preprocessing.read(crop).interpolation == "bicubic"
    exact = torch.nn.Sequential(
        v2.Resize((30, 40), interpolation=v2.InterpolationMode.NEAREST_EXACT), v2.ToDtype(torch.float32, scale=True)
    )
    assert Preprocessing.read(exact) == Preprocessing((30, 40), (0, 0, 0), (1, 1, 1), "nearest")
    assert Preprocessing.read(WEIGHTS.transforms()).size == (224, 224)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([v1.RandomHorizontalFlip()], "RandomHorizontalFlip cannot be used: it changes images at random"),
        ([v2.RandAugment()], "RandAugment cannot be used: it changes images at random"),
        ([v1.Grayscale()], "Grayscale cannot be used: a network with one input channel is given gray images"),
        ([v1.Lambda(lambda image: image)], "Lambda cannot be used: a function cannot be read"),
        ([lambda image: image], "<lambda> cannot be used: a function cannot be read"),
        ([v1.Pad(4)], "Pad cannot be used: label maps cover the whole image"),
        ([v1.FiveCrop(8)], "FiveCrop cannot be used: it is none of those that can be read"),
        ([v1.Resize(8, max_size=9)], "Resize limits the longer edge to 9 pixels"),
        ([v1.Normalize([0.5], [0.5])], "normalize pixels before they are converted"),
        ([v1.PILToTensor(), v1.Resize(8)], "do not convert pixels to floating-point numbers"),
        ([v1.ConvertImageDtype(torch.int32)], "converts images to torch.int32"),
        ([v1.ToTensor(), v1.ConvertImageDtype(torch.uint8)], "back to torch.uint8"),
        ([v1.ToTensor(), v1.Normalize(**IMAGENET)], r"no input size.*size=\(224, 224\), mean=\(0.485, 0.456, 0.406\)"),
    ],
)
def test_transforms_that_are_not_those_of_an_input_are_refused_with_the_reason(steps, message):
    with pytest.raises(NetworkError, match=message):
        Preprocessing.read(v1.Compose(steps))


def test_other_presets_and_presets_that_were_not_called_are_refused():
    detection = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.transforms()
    with pytest.raises(NetworkError, match="ObjectDetection cannot be used: it names no size"):
        Preprocessing.read(detection)
    assert isinstance(WEIGHTS.transforms, functools.partial)
    with pytest.raises(NetworkError, match=r"ImageClassification as a class.*Expected.*weights.transforms\(\)"):
        Preprocessing.read(WEIGHTS.transforms)


def test_a_model_of_timm_is_a_network_by_itself():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64)
    network = as_network(model)
    assert (network.name, network.module) == ("vit_tiny_patch16_224 of timm", model)
    # timm's configuration names the size of the weights, 224, for a model that was built for 64.
    config = timm.data.resolve_model_data_config(model) | {"input_size": (3, 64, 64)}
    transform = timm.data.create_transform(**config)
    transform.transforms[0].size = 64  # without its enlarging by 1 / crop_pct
    image = noise(64, 64)
    torch.testing.assert_close(
        given_to_network(network.preprocessing, image)[0], transform(image), atol=3e-6, rtol=1e-6
    )
    assert network.preprocessing.interpolation == config["interpolation"] == "bicubic"
    assert "blocks.0.mlp.act" in [layer.name for layer in list_layers(network)]


def test_wrappers_do_not_hide_from_which_library_a_model_is():
    model = timm.create_model("resnet10t")
    for wrapped in (torch.nn.DataParallel(model), torch.compile(model)):
        network = as_network(wrapped)
        assert (network.name, network.module) == ("resnet10t of timm", wrapped)
        assert network.preprocessing == as_network(model).preprocessing
    assert as_network(torch.compile(torchvision.models.resnet18()), WEIGHTS.transforms()).name == "ResNet"


VIT = transformers.ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=8
)


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
        transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}),
        transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_a_network_is_given_the_pixels_that_an_image_processor_gives(processor):
    network = as_network(transformers.ViTModel(VIT), processor)
    image = noise(32, 32)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(given_to_network(network.preprocessing, image), expected, atol=1e-5, rtol=1e-5)


def test_the_layers_of_a_transformers_model_are_recorded_on_the_pixels_of_its_processor():
    model = transformers.ViTForImageClassification(VIT)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.25] * 3)
    network = as_network(model, processor)
    layer = next(layer for layer in list_layers(network) if layer.type == "GELUActivation")
    tokens, image = [], noise(32, 32)
    with model.get_submodule(layer.name).register_forward_hook(lambda *given: tokens.append(given[2])), torch.no_grad():
        model.eval()(**processor(image, return_tensors="pt"))
    expected = tokens[0][:, 1:].transpose(1, 2).unflatten(2, (4, 4))  # without the class token
    with ActivationRecorder(network, [layer]) as recorder:
        recorded = recorder(given_to_network(network.preprocessing, image))[layer.name]
    torch.testing.assert_close(recorded, expected, atol=1e-5, rtol=1e-5)


def test_the_image_processor_of_a_transformers_model_is_found_where_it_was_loaded(tmp_path):
    transformers.ViTModel(VIT).save_pretrained(tmp_path)
    model = transformers.ViTModel.from_pretrained(tmp_path)
    with pytest.raises(NetworkError, match=r"input of ViTModel .*=transformers.AutoImageProcessor.from_pretrained"):
        as_network(model)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.25] * 3).save_pretrained(tmp_path)
    network = as_network(model)
    assert network.preprocessing == Preprocessing((32, 32), (0.25,) * 3, (0.5,) * 3)
    layers = {layer.name: layer for layer in list_layers(network)}
    mlp = next(layer for name, layer in layers.items() if layer.units == 24)
    assert mlp.grid == (4, 4), "the outputs of the model are a data class; its layers are maps of patches"


def test_a_model_of_text_and_images_is_refused_and_its_part_for_images_is_taken():
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes = {"image_size": 32, "patch_size": 8}
    model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision | sizes, text_config=dict(vision)))
    with pytest.raises(NetworkError, match=r"CLIPModel takes input_ids.*get_encoder\(modality='image'\)"):
        as_network(model)
    part = model.get_encoder(modality="image")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    assert len(list_layers(as_network(part, processor)))


def test_the_layers_of_a_bare_module_are_listed_with_the_preprocessing_of_its_weights():
    module = torchvision.models.resnet18()
    layers = {layer.name: layer for layer in list_layers(module, preprocessing=WEIGHTS.transforms())}
    assert (layers["layer4"].units, layers["layer4"].grid) == (512, (7, 7))
    with pytest.raises(NetworkError, match=r"=torchvision.models.ResNet18_Weights.DEFAULT.transforms\(\)"):
        list_layers(module)
    assert module.training, "the module is left as it was"


def test_a_name_and_a_network_are_taken_and_a_second_preprocessing_is_refused():
    own = Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3)
    network = Network("own", torch.nn.Conv2d(3, 2, 1), own)
    assert as_network(network) is network
    with pytest.raises(NetworkError, match="'own' has a preprocessing, and preprocessing= gives another one"):
        as_network(network, own)
    named = as_network("efficientnet_lite0", Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3, "bicubic"))
    assert named.preprocessing == Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3, "bicubic")
    assert named.source is not None
    assert (named.source.size, named.source.interpolation) == (64, "bicubic")
    with pytest.raises(NetworkError, match="'efficientnet_lite0' an input of 64 x 32 pixels"):
        as_network("efficientnet_lite0", Preprocessing((64, 32), (0.5,) * 3, (0.25,) * 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Conv2d(3, 2, 1), r"input of Conv2d .* not known.*preprocessing=netdissect.Preprocessing\(size=\(224"),
        ({"weight": torch.zeros(1)}, "mapping of 1 items, as a state_dict"),
        ((torch.nn.Conv2d(3, 2, 1), v1.Compose([])), "tuple of Conv2d, Compose. Expected the module alone"),
        (torchvision.models.resnet18, r"resnet18, a class or function.*call it, resnet18\(...\)"),
        (torch.nn.Conv2d, r"Conv2d, a class or function"),
        (3, "'int' was given a int as its module"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_module_or_has_no_known_preprocessing_is_refused_with_what_to_pass(model, message):
    with pytest.raises(NetworkError, match=message):
        as_network(model)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "convnext_tiny", "fcn_resnet50"])
def test_the_error_for_a_torchvision_model_names_its_own_preset_as_a_line_that_runs(name):
    options = {"fcn_resnet50": {"weights_backbone": None, "aux_loss": True}}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options.get(name, {}))
    with pytest.raises(NetworkError, match="is not known") as caught:
        as_network(model)
    line = str(caught.value).partition("preprocessing=torchvision")[2].partition(";")[0]
    preset = eval(f"torchvision{line}", {"torchvision": torchvision})  # noqa: S307
    expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    assert Preprocessing.read(preset) == Preprocessing.read(expected)
    assert line.startswith(".models.")


def save_vit(folder, **config):
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT.to_dict() | config))
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_std=[0.25] * 3).save_pretrained(folder)
    return model


def test_a_folder_of_transformers_gives_the_class_that_was_saved_and_its_run_can_load_it_again(tmp_path, monkeypatch):
    model = save_vit(tmp_path / "vit")
    monkeypatch.chdir(tmp_path)
    network = Network.from_transformers("vit")
    monkeypatch.chdir("/")
    assert network.name == "transformers:vit"
    assert network.preprocessing == Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
    assert torch.equal(network.module.classifier.weight, model.classifier.weight)
    assert reload_network(network.source).digest == network.digest
    changed = Network.from_transformers(tmp_path / "vit", Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))
    assert reload_network(changed.source).preprocessing == changed.preprocessing != network.preprocessing


TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
IMAGE_TOWER = TOWER | {"image_size": 32, "patch_size": 8}
TEXT_TOWER = TOWER | {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def clip():
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=IMAGE_TOWER, text_config=TEXT_TOWER))


def siglip():
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=IMAGE_TOWER, text_config=TEXT_TOWER))


def dinov2():
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**IMAGE_TOWER))


@pytest.mark.parametrize(
    ("make", "blocks", "before"),
    [(clip, "encoder.layers.{}", 1), (siglip, "encoder.layers.{}", 0), (dinov2, "encoder.layer.{}", 5)],
)
def test_hidden_states_of_image_towers_in_folders_are_layers(tmp_path, monkeypatch, make, blocks, before):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", None)  # a folder needs no hub
    make().save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    network = load_network(f"transformers:{tmp_path}")
    names = [blocks.format(index) for index in (0, 1)]
    layers = [layer for layer in list_layers(network) if layer.name in names]
    assert [layer.grid for layer in layers] == [(4, 4)] * 2
    images = torch.randn(2, 3, 32, 32)
    with ActivationRecorder(network, layers) as record:
        maps = record(images)
    states = network.module(images, output_hidden_states=True).hidden_states
    for name, state in zip(names, states[1:], strict=True):
        assert torch.equal(maps[name], state[:, before:].transpose(1, 2).reshape(2, 16, 4, 4))


def test_a_tower_for_images_of_any_shape_is_refused(tmp_path):
    vision = TOWER | {"num_patches": 16, "patch_size": 8}
    config = transformers.Siglip2Config(vision_config=vision, text_config=TEXT_TOWER)
    transformers.Siglip2Model(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(NetworkError, match="Siglip2VisionModel takes pixel_attention_mask and spatial_shapes beside"):
        load_network(f"transformers:{tmp_path}")


def test_random_weights_and_checkpoints_of_transformers_are_those_of_their_seed_and_file(tmp_path):
    save_vit(tmp_path)
    spec = f"transformers:{tmp_path}"
    random = load_network(spec, weights="none", weights_seed=1)
    digests = {load_network(spec, weights="none", weights_seed=seed).digest for seed in (1, 1, 2)}
    assert random.digest in digests
    assert len(digests | {Network.from_transformers(tmp_path).digest}) == 3
    torch.save(random.module.state_dict(), tmp_path / "w.pt")
    assert Network.from_transformers(tmp_path, weights=str(tmp_path / "w.pt")).digest == random.digest
    three = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT.to_dict() | {"num_labels": 3}))
    torch.save(three.state_dict(), tmp_path / "three.pt")
    assert load_network(spec, weights=str(tmp_path / "three.pt")).module.classifier.out_features == 3
    assert load_network(spec, weights="none", size=64).module.config.image_size == 64
    with pytest.raises(NetworkError, match="weights='none' are given for a ViTForImageClassification"):
        Network.from_transformers(three, weights="none")


def test_of_a_folder_with_text_and_images_the_part_for_images_is_loaded(tmp_path):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = small | {"image_size": 32, "patch_size": 8}
    model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=small))
    model.save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    network = Network.from_transformers(tmp_path)
    assert torch.equal(next(network.module.parameters()), next(model.get_encoder(modality="image").parameters()))
    assert network.preprocessing.size == (32, 32)
    text = transformers.BertModel(transformers.BertConfig(**small, vocab_size=8))
    text.save_pretrained(tmp_path / "text")
    with pytest.raises(NetworkError, match=r"BertModel takes input_ids\. Expected a network for images"):
        Network.from_transformers(tmp_path / "text")


def test_a_model_of_timm_inside_transformers_has_the_preprocessing_of_timm(tmp_path):
    config = transformers.TimmWrapperConfig(architecture="resnet10t", num_labels=3)
    transformers.TimmWrapperForImageClassification(config).save_pretrained(tmp_path)
    timms = Network.from_timm("resnet10t", weights="none")
    assert Network.from_transformers(tmp_path).preprocessing == timms.preprocessing
    assert timms.source.spec == "timm:resnet10t"
    assert Network.from_timm(timm.create_model("resnet10t")).preprocessing == timms.preprocessing


def test_pickled_weights_and_code_beside_a_model_of_transformers_are_not_run(tmp_path):
    save_vit(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(transformers.ViTForImageClassification(VIT).state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(NetworkError, match=r"no file named model.safetensors .* pickled weights of others are not run"):
        Network.from_transformers(tmp_path / "pickled")
    save_vit(tmp_path / "code")
    code = tmp_path / "code"
    (code / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Model: ...\n")
    config = json.loads((code / "config.json").read_text())
    (code / "config.json").write_text(
        json.dumps(config | {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Model", "AutoModel": "evil.Model"}})
    )
    with pytest.raises(NetworkError, match=r"transformers cannot load .* code .* not run"):
        Network.from_transformers(code)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name"])
def test_what_is_neither_a_folder_nor_a_name_of_transformers_is_refused(name):
    with pytest.raises(NetworkError, match=r"transformers cannot load .*a folder with config.json, model.safetensors"):
        Network.from_transformers(name)
