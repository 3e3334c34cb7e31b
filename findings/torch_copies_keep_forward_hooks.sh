#!/bin/sh
# PyTorch 2.13.0: copy.deepcopy copies the forward hooks of a module, and removing a hook does not remove the copy's.
#
# Expected: a copy of a module has no hooks, or a hook's handle removes it from the copy as well.
# Seen: the copy calls the hook of the original, also after handle.remove(), and nothing that the caller holds removes it.
# Why it matters: libraries copy a network before they fuse, average or quantize it. A recorder of activations that is
#   attached at that time goes on recording inside the copy, and mixes its outputs with those of the network meant.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import copy
import sys

import torch
from torch import nn

fired = []
module = nn.Linear(2, 2)
handle = module.register_forward_hook(lambda *_: fired.append(True))
duplicate = copy.deepcopy(module)
handle.remove()
module(torch.ones(1, 2))
by_original = len(fired)
duplicate(torch.ones(1, 2))
by_copy = len(fired) - by_original
print("after handle.remove(): the original fires", by_original, "times, the copy", by_copy)
sys.exit(0 if (by_original, by_copy) == (0, 1) else "The behavior has changed.")
PY
