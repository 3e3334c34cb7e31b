#!/bin/sh
# overcomplete 0.3.0: BatchTopKSAE keeps top_k values of a whole batch, and its state dict lacks the threshold.
#
# Expected: as in the paper that its docstring names (Bussmann et al. 2024, "BatchTopK sparse autoencoders") and in saev
#   and SAELens, top_k values are kept of each cell on average: n * top_k of a batch of n cells. A model that is saved
#   by its state dict and loaded again encodes.
# Seen: top_k values are kept of all cells of a batch together, so L0 is top_k / n. The running threshold is a plain
#   attribute: the state dict does not hold it, and a loaded model refuses to encode in evaluation mode.
# Why it matters: with the k of a paper a dictionary of thousands of latents has nearly no active latent, and one that
#   was trained for days cannot be used from its file alone: save the threshold beside the state dict.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'overcomplete==0.3.0' 'torch==2.14.1' 'matplotlib==3.11.2' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import matplotlib
import torch

matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # overcomplete uses it, and matplotlib has it no more
from overcomplete.sae import BatchTopKSAE

torch.manual_seed(0)
cells, top_k = torch.randn(256, 16), 8
sae = BatchTopKSAE(16, 64, top_k=top_k).train()
_, codes, _ = sae(cells)
active = int((codes > 0).sum())
again = BatchTopKSAE(16, 64, top_k=top_k)
again.load_state_dict(sae.state_dict())
try:
    again.eval()(cells)
    loaded = "encodes"
except AssertionError as error:
    loaded = str(error)
print(f"{active} active codes of {len(cells)} cells with top_k = {top_k}; loaded again: {loaded}")
sys.exit(0 if active == top_k and "not initialized" in loaded else "The behavior has changed.")
PY
