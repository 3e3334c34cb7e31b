#!/bin/sh
# Numba 0.68.1: an assignment of an array to a slice compiles code that formats text, and takes many times as long.
#
# Expected: target[at : at + len(source)] = source compiles about as fast as a loop over the elements.
# Seen: a mismatch of shapes has a message with both shapes in it, and the code that writes it, integers to text
#   included, is compiled with every such function: more than three times the LLVM code, and more than three times the
#   processor time (two seconds in place of a tenth for the first function of a process).
# Why it matters: such an assignment in the loop that counts pixels tripled the time of the first run ever.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'numba==0.68.1' 'numpy==2.4.6'
cat >"$folder/compiled.py" <<'PY'
import sys
import time

import numpy as np
from numba import njit


def by_slice(target, source, at):
    target[at : at + len(source)] = source


def by_loop(target, source, at):
    for i in range(len(source)):
        target[at + i] = source[i]


njit(lambda x: x + 1)(1.0)
function, target = njit({"slice": by_slice, "loop": by_loop}[sys.argv[1]]), np.zeros(10)
start = time.process_time()
function(target, np.ones(3), 2)
seconds = time.process_time() - start
assert target.tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
(code,) = function.inspect_llvm().values()
print(round(seconds, 2), len(code), "unicode" in code)
PY
slice=$("$folder/env/bin/python" "$folder/compiled.py" slice)
loop=$("$folder/env/bin/python" "$folder/compiled.py" loop)
echo "processor time, characters of LLVM code, whether it names text: slice $slice, loop $loop"
echo "$slice $loop" | awk '{ exit !($1 > 3 * $4 && $2 > 3 * $5 && $3 == "True" && $6 == "False") }' || {
    echo "The behavior has changed." >&2
    exit 1
}
