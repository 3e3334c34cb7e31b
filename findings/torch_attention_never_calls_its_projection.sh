#!/bin/sh
# PyTorch 2.13.0 and 2.14.1: hooks on the output projection of nn.MultiheadAttention never fire.
#
# Expected: out_proj, a Linear module with weights that named_modules() lists, is called in each forward pass like every
#   other Linear module of a transformer.
# Seen: the attention takes weight and bias of out_proj and never calls it. A forward hook on it sees nothing, and one
#   that returns zeros changes no output, with gradients and without. Hooks on all other modules of the layer fire.
# Why it matters: torchvision's vision transformers are made of this module. A recorder of activations on the projection
#   stays empty. Ablating its units by a hook leaves the network as it was, which reads as "these units do not matter".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import torch
from torch import nn

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(d_model=16, nhead=2, dim_feedforward=32, batch_first=True).eval()
tokens = torch.rand(1, 5, 16)
names = [name for name, _ in layer.named_modules() if name]
fired = set()
for name in names:
    layer.get_submodule(name).register_forward_hook(lambda *_, name=name: fired.add(name))
before = layer(tokens)
with torch.no_grad():
    layer(tokens)
silent = [name for name in names if name not in fired]
print(f"{len(fired)} of {len(names)} modules fired a hook; these did not: {silent}")


def ablate(_module, _inputs, output):
    return torch.zeros_like(output)


changes = {}
for name in ("self_attn.out_proj", "linear2"):
    with layer.get_submodule(name).register_forward_hook(ablate):
        changes[name] = not torch.allclose(layer(tokens), before, atol=1e-5)
    print(f"ablating {name} changes the output: {changes[name]}")
same = silent == ["self_attn.out_proj"] and changes == {"self_attn.out_proj": False, "linear2": True}
sys.exit(0 if same else "The behavior has changed.")
PY
