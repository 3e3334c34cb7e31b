#!/bin/sh
# PyTorch 2.13.0 and 2.14.1: torch.backends.cudnn.flags() also changes the flags that are not named in the call.
#
# Expected: "with cudnn.flags(enabled=True)" changes this flag, and the others stay as the program has set them.
# Seen: all others take the defaults of the function for the block: TF32 is switched on, deterministic algorithms are
#   switched off. As enabled is False by default, "with cudnn.flags(benchmark=True)" switches cuDNN off. Afterwards
#   everything is as before.
# Why it matters: whoever has chosen exact float32 and deterministic kernels for recorded activations loses both inside
#   each part of a network that uses such a block, and nothing that can be read outside of it shows that.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

from torch.backends import cudnn


def flags():
    return {name: getattr(cudnn, name) for name in ("enabled", "allow_tf32", "deterministic")}


cudnn.allow_tf32, cudnn.deterministic = False, True
seen = {"before": flags()}
with cudnn.flags(enabled=True):
    seen["in flags(enabled=True)"] = flags()
with cudnn.flags(benchmark=True):
    seen["in flags(benchmark=True)"] = flags()
seen["after"] = flags()
for name, values in seen.items():
    print(f"{name}: {values}")
chosen = {"enabled": True, "allow_tf32": False, "deterministic": True}
reset = {"allow_tf32": True, "deterministic": False}
known = [chosen, {"enabled": True, **reset}, {"enabled": False, **reset}, chosen]
sys.exit(0 if list(seen.values()) == known else "The behavior has changed.")
PY
