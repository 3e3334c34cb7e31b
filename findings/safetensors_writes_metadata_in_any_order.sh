#!/bin/sh
# safetensors 0.8.0: the same tensors with the same metadata are another file each time they are written.
#
# Expected: save(tensors, metadata) gives the same bytes for the same arguments: the tensors are written in a fixed order.
# Seen: entries of the metadata are written in an order that is drawn anew in each call. Five entries give dozens of
#   different files in a hundred calls of one process; without metadata, or with one entry, there is one file.
# Why it matters: a file's SHA-256 says nothing about its content. A dictionary or a model that was trained twice to the
#   last bit looks different, caches that are named by the digest of a file miss, and builds are not reproducible.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
from safetensors.numpy import save

tensors = {name: np.zeros(2, np.float32) for name in "abcde"}
files = {count: {save(tensors, {name: "text" for name in "abcde"[:count]} or None) for _ in range(100)} for count in (0, 1, 5)}
for count, different in files.items():
    print(f"{count} entries of metadata: {len(different)} different files in 100 calls, of {len(max(different))} bytes")
sys.exit(0 if [len(files[0]), len(files[1])] == [1, 1] and len(files[5]) > 20 else "The behavior has changed.")
PY
