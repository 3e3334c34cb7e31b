#!/bin/sh
# Pillow 13.0.0: an opened TIFF states the size after its EXIF turn, an opened JPEG or PNG the size before it.
#
# Expected: before its pixels are loaded, Image.size is the stored size in every format as long as getexif() states a
#   turn that is still to be made.
# Seen: of an image stored with 32 columns and 24 rows and orientation 6, JPEG and PNG say (32, 24), TIFF says (24, 32),
#   and all three still state orientation 6.
# Why it matters: whoever compares the sizes of photographs with those of masks or annotations without decoding them,
#   and swaps the sides by the orientation, turns TIFF photographs twice, and takes right masks for wrong ones.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'pillow==13.0.0'
"$folder/env/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

from PIL import Image

ORIENTATION = 0x0112
seen = {}
for ending in ("jpg", "png", "tif"):
    file = Path(sys.argv[1]) / f"photograph.{ending}"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (32, 24)).save(file, exif=exif)
    with Image.open(file) as image:
        seen[ending] = (image.size, image.getexif().get(ORIENTATION))
    print(f"{ending}: size {seen[ending][0]}, orientation {seen[ending][1]}")
known = {"jpg": ((32, 24), 6), "png": ((32, 24), 6), "tif": ((24, 32), 6)}
sys.exit(0 if seen == known else "The behavior has changed.")
PY
