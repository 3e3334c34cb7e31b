#!/bin/sh
# polars 2.1.0: a quantile is the nearest value of the column, and the median does not equal the quantile at one half.
#
# Expected: quantile(0.5) is the median, and quantile(0.25) is what numpy.quantile gives.
# Seen: the default interpolation is "nearest": of 1, 2, 3, 4 the quantile at one half is 3 while median() is 2.5, and
#   describe() shows 3 in its row "50%". With interpolation="linear" both agree with numpy.
# Why it matters: confidence intervals and quartile bands of a few replicates (seeds, rotations) come out as single
#   replicates, and differ from the same numbers computed with numpy or pandas.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'polars==2.1.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
import polars as pl

values = pl.Series([1.0, 2.0, 3.0, 4.0])
seen = {
    "polars quantile(0.5)": (values.quantile(0.5), 3.0),
    "polars median()": (values.median(), 2.5),
    "polars quantile(0.25)": (values.quantile(0.25), 2.0),
    "polars quantile(0.25, interpolation='linear')": (values.quantile(0.25, interpolation="linear"), 1.75),
    "numpy.quantile(0.25)": (float(np.quantile(values.to_numpy(), 0.25)), 1.75),
}
for name, (number, _) in seen.items():
    print(f"{name} of 1, 2, 3, 4: {number}")
sys.exit(0 if all(number == known for number, known in seen.values()) else "The behavior has changed.")
PY
