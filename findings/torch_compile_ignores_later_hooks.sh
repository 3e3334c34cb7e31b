#!/bin/sh
# PyTorch 2.13.0: a forward hook that is added after a compiled module has run once never fires, without a warning.
#
# Expected: hooks fire on a compiled module as they do on the plain one, or registering one says that it cannot.
# Seen: a hook that stands before the first call fires. On a module that was compiled and called without hooks, one that
#   is added to a submodule is not called by the compiled module, while the original module, which shares the
#   submodule, calls it.
# Why it matters: every recorder of activations is made of such hooks. On a network that was compiled and used before it
#   sees nothing, or keeps the values of an earlier batch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import torch
from torch import nn

images = torch.ones(1, 2)


def calls(*, hook_first):
    """Return how often a hook fires on the compiled module and on the original one."""
    torch.compiler.reset()
    fired = []
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    compiled = torch.compile(module, backend="eager")
    if not hook_first:
        compiled(images)
    module[0].register_forward_hook(lambda *_: fired.append(True))
    compiled(images)
    by_compiled = len(fired)
    module(images)
    return by_compiled, len(fired) - by_compiled


first, later = calls(hook_first=True), calls(hook_first=False)
print("hook before the first call: fired by the compiled module", first[0], "times, by the original", first[1])
print("hook after the first call:  fired by the compiled module", later[0], "times, by the original", later[1])
sys.exit(0 if (first, later) == ((1, 1), (0, 1)) else "The behavior has changed.")
PY
