#!/bin/sh
# transformers 5.24.0: the image processor of EfficientNet divides by image_std twice, by default.
#
# Expected: a processor with do_normalize gives (pixel - image_mean) / image_std, as all others of the library and the
#   pipelines of torchvision and timm do. With mean and deviation 0.5 white becomes 1.
# Seen: it gives (pixel - image_mean) / image_std**2, because include_top, whose name speaks of the classifier, is True:
#   white becomes 2. The configuration of an EfficientNet that was trained with ImageNet's deviations therefore holds
#   their roots: with image_std 0.47853944, 0.4732864, 0.47434163 the result is that of 0.229, 0.224, 0.225.
# Why it matters: whoever reads mean and deviation from such a configuration and normalizes once gives the network
#   images of less than half the contrast. Nothing fails, while activations, thresholds and each IoU are of another
#   input.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'transformers==5.24.0' 'torch==2.14.1' 'torchvision==0.29.1' 'pillow==13.0.0' \
    'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
from PIL import Image
from transformers import EfficientNetImageProcessor, ViTImageProcessor

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet
white = Image.new("RGB", (32, 32), (255, 255, 255))


def white_becomes(processor):
    return processor(white, return_tensors="np")["pixel_values"][0, :, 0, 0]


half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
roots = {"image_mean": MEAN, "image_std": [0.47853944, 0.4732864, 0.47434163]}
seen = {
    "ViT, 0.5": (white_becomes(ViTImageProcessor(**half)), 1.0),
    "EfficientNet, 0.5": (white_becomes(EfficientNetImageProcessor(**half)), 2.0),
    "EfficientNet, 0.5, include_top=False": (white_becomes(EfficientNetImageProcessor(**half, include_top=False)), 1.0),
    "EfficientNet, roots": (white_becomes(EfficientNetImageProcessor(**roots)), (1 - np.array(MEAN)) / STD),
}
for name, (values, _) in seen.items():
    print(f"{name}: white becomes", values.round(4).tolist())
same = all(np.allclose(values, known, atol=1e-3) for values, known in seen.values())
sys.exit(0 if same else "The behavior has changed.")
PY
