#!/bin/sh
# PyTorch 2.13.0 and 2.14.1: after TF32 is switched off by the new settings alone, reading the old flag of cuDNN raises an error.
#
# Expected: after torch.backends.fp32_precision = "ieee" the old flag cudnn.allow_tf32 is False, as that of matrix
#   products, cuda.matmul.allow_tf32, is.
# Seen: reading cudnn.allow_tf32, and torch's own cudnn.flags(), which reads it, raise a RuntimeError, also without a
#   GPU. It says that convolutions and RNNs differ, where both are "ieee", and advises to use only the new settings,
#   which was done. What helps is to set the old flag to False: alone, or before the new one.
# Why it matters: exact float32 activations need TF32 switched off. Code that runs later in the process and still uses
#   the old flag or flags() fails, and names a mixture that nobody made.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
cat >"$folder/read.py" <<'PY'
import sys

import torch

backends = torch.backends
exec(sys.argv[1])


def outcome(read):
    try:
        return str(read())
    except RuntimeError as error:
        return type(error).__name__


def enter_flags():
    with backends.cudnn.flags(enabled=True):
        return "works"


print(
    "convolutions:", backends.cudnn.conv.fp32_precision,
    "| RNNs:", backends.cudnn.rnn.fp32_precision,
    "| old flag:", outcome(lambda: backends.cudnn.allow_tf32),
    "| old flag of products:", outcome(lambda: backends.cuda.matmul.allow_tf32),
    "| flags():", outcome(enter_flags),
)
PY
new='convolutions: ieee | RNNs: ieee | old flag: RuntimeError | old flag of products: False | flags(): RuntimeError'
old='convolutions: none | RNNs: none | old flag: False | old flag of products: False | flags(): works'
both='convolutions: ieee | RNNs: ieee | old flag: False | old flag of products: False | flags(): works'
same=yes
while IFS='#' read -r setting known; do
    seen=$("$folder/env/bin/python" "$folder/read.py" "$setting" </dev/null)
    printf '%s\n    %s\n' "$setting" "$seen"
    [ "$seen" = "$known" ] || same=no
done <<SETTINGS
backends.fp32_precision = 'ieee'#$new
backends.cudnn.conv.fp32_precision = backends.cudnn.rnn.fp32_precision = 'ieee'#$new
backends.cudnn.allow_tf32 = False#$old
backends.cudnn.allow_tf32 = False; backends.fp32_precision = 'ieee'#$both
SETTINGS
if [ "$same" = no ]; then
    echo "The behavior has changed." >&2
    exit 1
fi
