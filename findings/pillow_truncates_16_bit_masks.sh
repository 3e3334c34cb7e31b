#!/bin/sh
# Pillow 13.0.0: 16-bit PNG masks with more than one channel keep only the high byte of each value.
#
# Expected: a 16-bit PNG gives 16-bit numbers whatever its channels, as a 16-bit gray one does, or an error.
# Seen: RGB, RGBA and gray-with-alpha files are opened with 8 bits a channel: label 1000 is read as 3, label 200 as 0.
# Why it matters: panoptic and part masks hold ids above 255, and some tools write them as three equal channels or with
#   an alpha channel. Classes then fall together or vanish, with no sign that anything was lost.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'pillow==13.0.0' 'numpy==2.4.6'
"$folder/env/bin/python" - <<'PY'
import io
import struct
import sys
import zlib

import numpy as np
from PIL import Image


def png(color_type, *pixels):
    """A 16-bit PNG of one row, written chunk by chunk."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" + b"".join(struct.pack(f">{len(pixel)}H", *pixel) for pixel in pixels)
    header = struct.pack(">IIBBBBB", len(pixels), 1, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


files = {
    "gray": (png(0, (200,), (1000,)), [200, 1000]),
    "gray and alpha": (png(4, (200, 65535), (1000, 65535)), [0, 3]),
    "RGB": (png(2, (200, 200, 200), (1000, 1000, 1000)), [0, 3]),
    "RGBA": (png(6, (200, 200, 200, 65535), (1000, 1000, 1000, 65535)), [0, 3]),
}
same = True
for name, (file, known) in files.items():
    values = np.asarray(Image.open(io.BytesIO(file)))
    read = (values if values.ndim == 2 else values[..., 0]).ravel().tolist()
    print(f"{name}: stored [200, 1000], read {read} ({values.dtype})")
    same = same and read == known
sys.exit(0 if same else "The behavior has changed.")
PY
