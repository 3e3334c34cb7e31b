#!/bin/sh
# pycocotools 2.0.11: a polygon of two points is an error or an empty mask, depending on where it stands in the list.
#
# Expected: frPyObjects treats each polygon of an annotation alike, whatever stands before it.
# Seen: the first entry alone decides how the whole list is read. Four numbers in the first place are taken for a box
#   and end in a TypeError; the same four numbers behind a polygon of four points give an empty mask.
# Why it matters: annotation programs export such degenerate outlines (a click and a release). Whether a data set can be
#   read, and with how many annotations, then depends on the order of the polygons in its file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'pycocotools==2.0.11' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import sys

from pycocotools import mask

line, square = [1.0, 1.0, 5.0, 5.0], [8.0, 8.0, 12.0, 8.0, 12.0, 12.0, 8.0, 12.0]


def areas(polygons):
    try:
        return mask.area(mask.frPyObjects(polygons, 32, 32)).tolist()
    except TypeError as error:
        return type(error).__name__


first, second = areas([line, square]), areas([square, line])
print("line before square:", first)
print("square before line:", second)
sys.exit(0 if (first, second) == ("TypeError", [16, 0]) else "The behavior has changed.")
PY
