#!/bin/sh
# scipy 1.17.1: mannwhitneyu computes in the type of its samples, so that float32 activations give p-values of exactly 0
# and float16 activations no result at all.
#
# Expected: ranks are the same in every type that holds the samples exactly, and so are U and its p-value.
# Seen: of 300 numbers and 300 larger ones, all exact in float16, the p-value is 1.1e-99 in float64, 0 in float32, and NaN
#   in float16, with an overflow warning. In float32 U is rounded beyond 2^24, that is from two samples of 5,000 on.
# Why it matters: activations of networks are float32 or float16, and their test is one call. Minus log p of the strongest
#   units is infinite. Cast to float64 first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'scipy==1.17.1' 'numpy==2.4.6'
"$folder/env/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import scipy

low, high = np.arange(300), np.arange(300, 600)
seen = {}
for name in ("float64", "float32", "float16"):
    test = scipy.stats.mannwhitneyu(low.astype(name), high.astype(name))
    seen[name] = test
    print(f"{name}: U {test.statistic}, p {test.pvalue}")
known = 0 < seen["float64"].pvalue < 1e-90 and seen["float32"].pvalue == 0 and np.isnan(seen["float16"].pvalue)
sys.exit(0 if known else "The behavior has changed.")
PY
