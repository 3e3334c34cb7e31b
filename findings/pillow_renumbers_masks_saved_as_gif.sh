#!/bin/sh
# Pillow 13.0.0: a mask saved as GIF comes back with other numbers.
#
# Expected: GIF is lossless for 8-bit images with a palette; what is saved as indices 0, 3, 7 is read as 0, 3, 7.
# Seen: unused palette entries are dropped on saving, and the indices are numbered anew: 0, 1, 2. Saved with
#   optimize=False they stay. PNG keeps them in both cases.
# Why it matters: a segmentation mask is its indices. Saved as GIF every class becomes another one, differently in each
#   mask, depending on which classes the mask holds.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'pillow==13.0.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import io
import sys

import numpy as np
from PIL import Image


def read_back(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return np.unique(np.asarray(Image.open(file))).tolist()


mask = Image.fromarray(np.repeat(np.array([0, 3, 7, 3], np.uint8), 16).reshape(8, 8))
mask = mask.convert("P")
seen = {
    "PNG": read_back(mask, format="PNG"),
    "GIF": read_back(mask, format="GIF"),
    "GIF, optimize=False": read_back(mask, format="GIF", optimize=False),
}
stored = np.unique(np.asarray(mask)).tolist()
print("stored:", stored)
for name, values in seen.items():
    print(f"{name}:", values)
known = {"PNG": [0, 3, 7], "GIF": [0, 1, 2], "GIF, optimize=False": [0, 3, 7]}
sys.exit(0 if stored == [0, 3, 7] and seen == known else "The behavior has changed.")
PY
