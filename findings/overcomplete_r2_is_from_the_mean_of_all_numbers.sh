#!/bin/sh
# overcomplete 0.3.0: the R2 of rebuilt activations is measured from one mean for all units.
#
# Expected: r2_score(x, x_hat) is 0 where x_hat is the mean activation of each unit, as its docstring says ("as good as
#   the mean") and as scikit-learn's r2_score gives it.
# Seen: the reference is the mean of all numbers of x. Where units have different means, as those of every layer do, a
#   dictionary that rebuilds nothing but these means has an R2 of 0.9 and more.
# Why it matters: R2 is what sparse autoencoders are compared by. Values of this function are above those of saev (1 -
#   NMSE) and of papers for the same dictionary, the more so the more the means of the units differ.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'overcomplete==0.3.0' 'torch==2.14.1' 'matplotlib==3.11.2' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import matplotlib
import numpy as np
import torch
from sklearn.metrics import r2_score as reference

matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # overcomplete uses it, and matplotlib has it no more
from overcomplete.metrics import r2_score

generator = torch.Generator().manual_seed(0)
means = torch.randn(64, generator=generator) * 4
cells = means + torch.randn(1000, 64, generator=generator)
constant = cells.mean(dim=0).expand_as(cells)
seen = float(r2_score(cells, constant))
expected = float(reference(cells.numpy(), constant.numpy(), multioutput="variance_weighted"))
print(f"R2 of the mean of each unit: scikit-learn {expected:.4f}, overcomplete {seen:.4f}")
sys.exit(0 if abs(expected) < 1e-4 and seen > 0.9 else "The behavior has changed.")
PY
