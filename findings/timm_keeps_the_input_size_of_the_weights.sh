#!/bin/sh
# timm 1.0.31: a model that is built for another input keeps the stated input of its weights.
#
# Expected: resolve_model_data_config(model), given the model itself, states the input for which the model was built.
# Seen: of a vision transformer built with img_size=64 it states 224 x 224. The transforms that timm makes of it give
#   images that the model refuses, or, with dynamic_img_size=True, takes: it then runs on 14 x 14 patches in place of
#   4 x 4. Of a model built with in_chans=1 it states three channels, means and deviations.
# Why it matters: a network that takes any size is then dissected at an input for which its position embedding was never
#   trained, with maps, units' fields and activations of another network than the one that was built.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'timm==1.0.31' 'torch==2.14.1' 'torchvision==0.29.1' 'pillow==13.0.0' \
    'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

image = Image.new("RGB", (300, 300))


def stated_and_run(**options):
    """Return the stated input size and the number of patches on which the model runs, None if it refuses the image."""
    model = timm.create_model("vit_tiny_patch16_224", depth=1, **options).eval()
    config = resolve_model_data_config(model)
    images = create_transform(**config)(image)[None]
    try:
        with torch.no_grad():
            patches = model.forward_features(images).shape[1] - model.num_prefix_tokens
    except (AssertionError, RuntimeError) as error:
        print(f"{options}: stated {config['input_size']}; refused: {str(error).splitlines()[0]}")
        return config["input_size"], None
    print(f"{options}: stated {config['input_size']}; runs on {patches} patches")
    return config["input_size"], patches


seen = [
    stated_and_run(),
    stated_and_run(img_size=64),
    stated_and_run(img_size=64, dynamic_img_size=True),
    stated_and_run(in_chans=1),
]
stated = (3, 224, 224)
sys.exit(0 if seen == [(stated, 196), (stated, None), (stated, 196), (stated, None)] else "The behavior has changed.")
PY
