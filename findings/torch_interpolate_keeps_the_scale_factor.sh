#!/bin/sh
# PyTorch 2.13.0: interpolation by a scale factor places cells by that factor, not by the sizes of input and output.
#
# Expected: interpolate(x, scale_factor=1.5) and interpolate(x, size=N) with the same output size agree.
# Seen: of 15 cells a factor of 1.5 makes 22 (22.5 rounded down), and cell i is read at (i + 0.5) / 1.5 - 0.5, where the
#   sizes would give (i + 0.5) * 15 / 22 - 0.5. The last cell is read at 13.83 in place of 14.16, and the map's far edge
#   is not reached. With recompute_scale_factor=True both agree.
# Why it matters: decoders and feature pyramids use scale factors on maps of odd size. Whoever lays an upsampled map over
#   the image by its size alone is off by up to a third of a coarse cell, most at the far edge.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import torch
from torch.nn.functional import interpolate

row = torch.arange(15.0)[None, None]
by_factor = interpolate(row, scale_factor=1.5, mode="linear")
by_size = interpolate(row, size=22, mode="linear")
recomputed = interpolate(row, scale_factor=1.5, mode="linear", recompute_scale_factor=True)
stated = ((torch.arange(22) + 0.5) / 1.5 - 0.5).clamp(0, 14)
print("last three cells by factor:", by_factor[0, 0, -3:].tolist())
print("last three cells by size:  ", by_size[0, 0, -3:].tolist())
same = (
    by_factor.shape[2] == 22
    and torch.allclose(by_factor[0, 0], stated, atol=1e-5)
    and (by_factor - by_size).abs().max() > 0.3
    and torch.equal(recomputed, by_size)
)
sys.exit(0 if same else "The behavior has changed.")
PY
