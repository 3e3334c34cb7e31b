#!/bin/sh
# torchvision 0.29.1: the transforms of weights with a bicubic filter give other pixels for tensors than for images.
#
# Expected: weights.transforms() takes a PIL image, a uint8 tensor or a float tensor of pixels from 0 to 1, and gives
#   the same input for each, up to a rounded gray level, as it does with the bilinear filter of ResNet-18.
# Seen: at edges of high contrast bicubic interpolation overshoots. Pillow cuts that off after each of its two passes,
#   rows and columns; for uint8 tensors it is cut off once at the end, which differs by up to 12 of 255 gray levels; for
#   float tensors never: a black and white image gets pixels from -38 to 294.
# Why it matters: EfficientNet, Swin and other weights use this filter. The same network and images give other
#   activations, most of all at the outlines of things, if a file was decoded to a tensor and not to a PIL image.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.14.1' 'torchvision==0.29.1' 'pillow==13.0.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
import torch
from PIL import Image
from torchvision.models import EfficientNet_B0_Weights, ResNet18_Weights
from torchvision.transforms.functional import pil_to_tensor, to_tensor

rows, columns = np.mgrid[:120, :150]
board = ((rows // 41 + columns // 37) % 2 * 255).astype(np.uint8)
image = Image.fromarray(np.stack([board] * 3, axis=2))


def gray_levels(transforms, source):
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (transforms.mean, transforms.std))
    return (transforms(source) * std + mean) * 255


seen = {}
for name, weights in (("bilinear", ResNet18_Weights.IMAGENET1K_V1), ("bicubic", EfficientNet_B0_Weights.IMAGENET1K_V1)):
    transforms = weights.transforms()
    from_image = gray_levels(transforms, image)
    for kind, source in (("uint8", pil_to_tensor(image)), ("float", to_tensor(image))):
        levels = gray_levels(transforms, source)
        off = (levels - from_image).abs().max().item()
        seen[name, kind] = (off, levels.min().item(), levels.max().item())
        extent = f"from {levels.min():.1f} to {levels.max():.1f}"
        print(f"{name}, {kind} tensor: up to {off:.1f} gray levels off the image; {extent}")
same = (
    max(seen["bilinear", "uint8"][0], seen["bilinear", "float"][0]) < 1.1
    and 8 < seen["bicubic", "uint8"][0] < 16
    and seen["bicubic", "uint8"][1] > -0.1
    and seen["bicubic", "float"][1] < -30
    and seen["bicubic", "float"][2] > 285
)
sys.exit(0 if same else "The behavior has changed.")
PY
