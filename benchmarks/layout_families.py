"""Networks of the layout audit: one or two small members of every family of three libraries.

timm's families are its modules. An entry may end in ``@SIZE``, an input size in pixels other than the network's own.
Families of torchvision and transformers that take no single image (video, optical flow, text beside it) are absent.
"""

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
import transformers
from torch import nn

from netdissect.concepts import Size
from netdissect.models import Network, Preprocessing

TIMM: dict[str, tuple[str, ...]] = {
    "beit": ("beit_base_patch16_224@112",),
    "byoanet": ("botnet26t_256", "halonet_h1", "lambda_resnet26t"),
    "byobnet": ("gernet_s", "mobileone_s1", "repvgg_a0", "regnetz_b16", "bat_resnext26ts", "gcresnext26ts"),
    "cait": ("cait_xxs24_224",),
    "coat": ("coat_tiny", "coat_lite_tiny"),
    "convit": ("convit_tiny",),
    "convmixer": ("convmixer_768_32@112",),
    "convnext": ("convnext_atto_rms", "convnextv2_atto"),
    "cpubone": ("cpubone_nano",),
    "crossvit": ("crossvit_tiny_240",),
    "csatv2": ("csatv2@256",),
    "cspnet": ("cs3darknet_s", "cspresnet50"),
    "cspnext": ("cspnext_tiny",),
    "davit": ("davit_tiny",),
    "deepseek_vit": ("deepseek_vit_412m@112",),
    "deit": ("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    "densenet": ("densenet121",),
    "dla": ("dla46x_c",),
    "dpn": ("dpn48b",),
    "edgenext": ("edgenext_xx_small",),
    "efficientformer": ("efficientformer_l1",),
    "efficientformer_v2": ("efficientformerv2_s0",),
    "efficientnet": ("efficientnet_b0", "mixnet_s", "mobilenetv2_035", "tinynet_e"),
    "efficientvim": ("efficientvim_m1",),
    "efficientvit_mit": ("efficientvit_b0",),
    "efficientvit_msra": ("efficientvit_m0",),
    "eva": ("eva02_tiny_patch14_224", "vit_tiny_patch16_dinov3_qkvb"),
    "fasternet": ("fasternet_t0",),
    "fastvit": ("fastvit_t8",),
    "focalnet": ("focalnet_tiny_srf",),
    "gcvit": ("gcvit_xxtiny",),
    "gemma4_vit": ("gemma4_vit_167m@224",),
    "ghostnet": ("ghostnet_050", "ghostnetv3_050"),
    "hardcorenas": ("hardcorenas_b",),
    "hgnet": ("hgnetv2_b0",),
    "hiera": ("hiera_tiny_224",),
    "hieradet_sam2": ("hieradet_small@224",),
    "hrnet": ("hrnet_w18_small",),
    "iformer": ("iformer_t",),
    "inception_next": ("inception_next_atto",),
    "inception_resnet_v2": ("inception_resnet_v2@224",),
    "inception_v3": ("inception_v3@224",),
    "inception_v4": ("inception_v4@224",),
    "lcnetv2": ("lcnetv2_small",),
    "levit": ("levit_128s", "levit_conv_128s"),
    "lowformer": ("lowformer_b0",),
    "mambaout": ("mambaout_femto",),
    "maxxvit": ("coatnet_nano_rw_224", "maxvit_pico_rw_256", "maxxvitv2_nano_rw_256"),
    "metaformer": ("poolformer_s12", "poolformerv2_s12", "caformer_s18"),
    "mlp_mixer": ("mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224"),
    "mobilenetv3": ("mobilenetv3_small_050", "lcnet_035", "fbnetv3_b"),
    "mobilenetv5": ("mobilenetv5_base@128",),
    "mobilevit": ("mobilevit_xxs", "mobilevitv2_050"),
    "mvitv2": ("mvitv2_tiny",),
    "naflexvit": ("naflexvit_base_patch16_gap@112",),
    "nasnet": ("nasnetalarge@160",),
    "nest": ("nest_tiny",),
    "nextvit": ("nextvit_small",),
    "nfnet": ("nf_regnet_b0", "eca_nfnet_l0@160"),
    "pit": ("pit_ti_224", "pit_ti_distilled_224"),
    "pnasnet": ("pnasnet5large@160",),
    "pvt_v2": ("pvt_v2_b0", "pvt_v2_b2_li"),
    "qwen3_vit": ("qwen3_vit_88m@224",),
    "rdnet": ("rdnet_tiny@160",),
    "regnet": ("regnetx_002", "regnety_002", "regnetz_005"),
    "repghost": ("repghostnet_050",),
    "repvit": ("repvit_m1",),
    "res2net": ("res2next50",),
    "resnest": ("resnest14d",),
    "resnet": ("resnet10t", "resnetblur18", "ecaresnext26t_32x4d"),
    "resnetv2": ("resnetv2_18",),
    "rexnet": ("rexnet_100",),
    "selecsls": ("selecsls42",),
    "senet": ("legacy_seresnet18",),
    "sequencer": ("sequencer2d_s",),
    "shvit": ("shvit_s1",),
    "sknet": ("skresnet18",),
    "starnet": ("starnet_s050",),
    "swiftformer": ("swiftformer_xs",),
    "swin_transformer": ("swin_tiny_patch4_window7_224",),
    "swin_transformer_v2": ("swinv2_tiny_window8_256",),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", "swinv2_cr_tiny_ns_224"),
    "tiny_vit": ("tiny_vit_5m_224",),
    "tnt": ("tnt_s_legacy_patch16_224",),
    "tresnet": ("tresnet_m@160",),
    "twins": ("twins_svt_small", "twins_pcpvt_small"),
    "vgg": ("vgg11@160",),
    "visformer": ("visformer_tiny",),
    "vision_transformer": ("vit_tiny_patch16_224", "flexivit_small", "vit_medium_patch16_reg4_gap_256"),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224",),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_224@224",),
    "vision_transformer_sam": ("samvit_base_patch16_224@112",),
    "vitamin": ("vitamin_small_224",),
    "volo": ("volo_d1_224",),
    "vovnet": ("ese_vovnet19b_slim_dw",),
    "xception": ("legacy_xception@192",),
    "xception_aligned": ("xception41p@160",),
    "xcit": ("xcit_nano_12_p8_224",),
}

TORCHVISION: dict[str, tuple[str, ...]] = {
    "alexnet": ("alexnet",),
    "convnext": ("convnext_tiny@160",),
    "densenet": ("densenet121@160",),
    "efficientnet": ("efficientnet_b0", "efficientnet_v2_s@160"),
    "googlenet": ("googlenet",),
    "inception": ("inception_v3@224",),
    "maxvit": ("maxvit_t@224",),
    "mnasnet": ("mnasnet0_5",),
    "mobilenet_v2": ("mobilenet_v2",),
    "mobilenet_v3": ("mobilenet_v3_small",),
    "regnet": ("regnet_x_400mf", "regnet_y_400mf"),
    "resnet": ("resnet18", "resnet50@160"),
    "shufflenet_v2": ("shufflenet_v2_x0_5",),
    "squeezenet": ("squeezenet1_1",),
    "swin": ("swin_t",),
    "swin_v2": ("swin_v2_t@224",),
    "vgg": ("vgg11_bn@160",),
    "vit": ("vit_b_32@224",),
    "deeplabv3": ("deeplabv3_mobilenet_v3_large@192",),
    "fcn": ("fcn_resnet50@128",),
    "lraspp": ("lraspp_mobilenet_v3_large@192",),
}

_VIT = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 112,
    "patch_size": 8,
}  # fmt: skip
_DINO = _VIT | {"patch_size": 14}
_STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
_SWIN = {"image_size": 112, "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [2, 2, 4], "window_size": 7}

# Family, then the class of its model, the class of its configuration where it is called otherwise, and its settings.
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "aimv2": ("Aimv2VisionModel", "Aimv2VisionConfig", _DINO),
    "beit": ("BeitModel", "BeitConfig", _VIT),
    "bit": ("BitModel", "BitConfig", {"embedding_size": 16, **_STAGES, "num_groups": 8, "image_size": 224}),
    "blip": ("BlipVisionModel", "BlipVisionConfig", _VIT),
    "chinese_clip": ("ChineseCLIPVisionModel", "ChineseCLIPVisionConfig", _VIT),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", _VIT),
    "convnext": ("ConvNextModel", "ConvNextConfig", {**_STAGES, "image_size": 224}),
    "convnextv2": ("ConvNextV2Model", "ConvNextV2Config", {**_STAGES, "image_size": 224}),
    "cvt": ("CvtModel", "CvtConfig", {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3],
                                      "image_size": 224}),
    "data2vec_vision": ("Data2VecVisionModel", "Data2VecVisionConfig", _VIT),
    "deit": ("DeiTModel", "DeiTConfig", _VIT),
    "depth_anything": (
        "DepthAnythingForDepthEstimation",
        "DepthAnythingConfig",
        {
            "backbone_config": ("Dinov2Config", {**_DINO, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4],
                                                 "reshape_hidden_states": False}),
            "reassemble_hidden_size": 48, "neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16,
            "image_size": 112,
        },
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", _DINO),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", _DINO),
    "dinov3_convnext": ("DINOv3ConvNextModel", "DINOv3ConvNextConfig", {**_STAGES, "image_size": 224}),
    "dinov3_vit": ("DINOv3ViTModel", "DINOv3ViTConfig", _VIT | {"num_attention_heads": 3, "hidden_size": 48}),
    "dpt": ("DPTModel", "DPTConfig", _VIT | {"backbone_out_indices": [0, 0, 1, 1]}),
    "efficientnet": ("EfficientNetModel", "EfficientNetConfig", {"width_coefficient": 0.5, "depth_coefficient": 0.5,
                                                                 "hidden_dim": 640, "image_size": 224}),
    "eomt": ("EomtForUniversalSegmentation", "EomtConfig", _VIT | {"num_blocks": 1, "num_queries": 5, "num_labels": 3}),
    "focalnet": ("FocalNetModel", "FocalNetConfig", {"embed_dim": 24, "depths": [1, 1, 2], "image_size": 112,
                                                     "hidden_sizes": [48, 96, 192]}),
    "glpn": ("GLPNModel", "GLPNConfig", {"hidden_sizes": [16, 32, 80, 128], "depths": [1, 1, 1, 1], "image_size": 224}),
    "hgnet_v2": ("HGNetV2Backbone", "HGNetV2Config", {"image_size": 224}),
    "hiera": ("HieraModel", "HieraConfig", {"image_size": [224, 224], "embed_dim": 24, "depths": [1, 1, 2, 1]}),
    "ijepa": ("IJepaModel", "IJepaConfig", _VIT),
    "levit": ("LevitModel", "LevitConfig", {"image_size": 224, "hidden_sizes": [32, 48, 64], "depths": [1, 1, 1],
                                            "num_attention_heads": [2, 3, 4], "key_dim": [16, 16, 16]}),
    "mlcd": ("MLCDVisionModel", "MLCDVisionConfig", _VIT | {"hidden_size": 48, "num_key_value_groups": 1}),
    "mobilenet_v1": ("MobileNetV1Model", "MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 224}),
    "mobilenet_v2": ("MobileNetV2Model", "MobileNetV2Config", {"depth_multiplier": 0.35, "image_size": 224}),
    "mobilevit": ("MobileViTModel", "MobileViTConfig", {"image_size": 224, "hidden_sizes": [32, 48, 64],
                                                        "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 96]}),
    "mobilevitv2": ("MobileViTV2Model", "MobileViTV2Config", {"image_size": 224, "width_multiplier": 0.5}),
    "poolformer": ("PoolFormerModel", "PoolFormerConfig", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1],
                                                           "image_size": 224}),
    "pvt": ("PvtModel", "PvtConfig", {"image_size": 224, "hidden_sizes": [16, 32, 80, 128], "depths": [1, 1, 1, 1]}),
    "pvt_v2": ("PvtV2Model", "PvtV2Config", {"image_size": 224, "hidden_sizes": [16, 32, 80, 128],
                                             "depths": [1, 1, 1, 1]}),
    "regnet": ("RegNetModel", "RegNetConfig", {"embedding_size": 16, **_STAGES, "groups_width": 8, "image_size": 224}),
    "resnet": ("ResNetModel", "ResNetConfig", {"embedding_size": 16, **_STAGES, "image_size": 224}),
    "sam": ("SamVisionModel", "SamVisionConfig", _VIT | {"output_channels": 16, "window_size": 7,
                                                         "global_attn_indexes": [1]}),
    "segformer": ("SegformerModel", "SegformerConfig", {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1],
                                                        "image_size": 224}),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", _VIT),
    "superpoint": ("SuperPointForKeypointDetection", "SuperPointConfig", {"image_size": 128}),
    "swiftformer": ("SwiftFormerModel", "SwiftFormerConfig", {"image_size": 224, "depths": [1, 1, 2, 1],
                                                              "embed_dims": [16, 32, 48, 64]}),
    "swin": ("SwinModel", "SwinConfig", _SWIN | {"image_size": 224}),
    "swin2sr": ("Swin2SRModel", "Swin2SRConfig", {"image_size": 48, "embed_dim": 24, "depths": [2, 2],
                                                  "num_heads": [2, 2], "window_size": 8}),
    "swinv2": ("Swinv2Model", "Swinv2Config", _SWIN | {"image_size": 224}),
    "textnet": ("TextNetModel", "TextNetConfig", {"image_size": 224}),
    "vit": ("ViTModel", "ViTConfig", _VIT),
    "vit_mae": ("ViTMAEModel", "ViTMAEConfig", _VIT | {"mask_ratio": 0.5}),
    "vit_msn": ("ViTMSNModel", "ViTMSNConfig", _VIT),
    "vitdet": ("VitDetModel", "VitDetConfig", _VIT | {"window_size": 7, "window_block_indices": [0],
                                                      "pretrain_image_size": 112}),
    "vitpose": ("VitPoseBackbone", "VitPoseBackboneConfig", _VIT | {"image_size": [112, 112], "patch_size": [8, 8]}),
    "yolos": ("YolosModel", "YolosConfig", _VIT | {"image_size": [112, 112], "num_detection_tokens": 5}),
}  # fmt: skip

NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def networks() -> list[tuple[str, str, str]]:
    """Return library, family and name of every network, the first members of all families first."""
    timms = [("timm", family, name) for family, names in TIMM.items() for name in names[:1]]
    timms += [("timm", family, name) for family, names in TIMM.items() for name in names[1:]]
    visions = [("torchvision", family, name) for family, names in TORCHVISION.items() for name in names]
    return [*(("transformers", family, family) for family in TRANSFORMERS), *visions, *timms]


def build(library: str, name: str) -> Network:
    """Make a network with random weights."""
    torch.manual_seed(0)
    name, _, size = name.partition("@")
    makers: dict[str, Callable[[str, int], tuple[nn.Module, int]]] = {
        "timm": _timm, "torchvision": _torchvision, "transformers": _transformers
    }  # fmt: skip
    module, side = makers[library](name, int(size or 0))
    return Network(f"{library}:{name}", module, Preprocessing(Size(side, side), *NORM))


def missing() -> list[str]:
    """Return the families of the installed timm that the table lacks."""
    return sorted(set(timm.models.list_modules()) - TIMM.keys())


def _timm(name: str, size: int) -> tuple[nn.Module, int]:
    own = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    side = size or (own.input_size[1] if own else 224)
    try:
        module = timm.create_model(name, pretrained=False, **({"img_size": size} if size else {}))
    except TypeError:  # of networks that take any size, and say so by having no such argument
        module = timm.create_model(name, pretrained=False)
    return module, side


def _torchvision(name: str, size: int) -> tuple[nn.Module, int]:
    options: dict[str, Any] = {"weights": None}
    if name.startswith(("deeplab", "fcn", "lraspp")):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name == "vit_b_32" and size:
        options["image_size"] = size
    return torchvision.models.get_model(name, **options), size or 224


def _transformers(name: str, size: int) -> tuple[nn.Module, int]:
    del size
    model, config, options = TRANSFORMERS[name]
    settings = {key: _config(*value) if isinstance(value, tuple) else value for key, value in options.items()}
    side = settings["image_size"]
    side = side[0] if isinstance(side, list) else side
    return getattr(transformers, model)(_config(config, settings)), side


def _config(name: str, settings: dict[str, Any]) -> Any:
    return getattr(transformers, name)(**settings)
