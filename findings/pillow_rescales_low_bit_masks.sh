#!/bin/sh
# Pillow 13.0.0: label values of masks with fewer than 8 bits are multiplied.
#
# Expected: a gray PNG of 2 or 4 bits and a PGM file whose header names a maximum other than 255 give the stored
#   numbers, as 8-bit files do: a mask is a table of label ids.
# Seen: the numbers are stretched to 0..255 (or 0..65535): label 1 of a 2-bit PNG is read as 85, of a 4-bit PNG as 17,
#   of a PGM file with maximum 3 as 85, with maximum 1000 as 66. PGM files with maximum 255 or 65535 are read raw.
# Why it matters: tools write masks of few classes with few bits. Read this way every pixel gets another class, or
#   none, without a word, and each IoU computed from it belongs to another concept.
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


def gray_png(bits, packed):
    """A gray PNG of one row of four pixels, written chunk by chunk."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    data = zlib.compress(b"\0" + packed)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pgm(maximum):
    values = struct.pack(">4H", 0, 1, 2, 3) if maximum > 255 else bytes((0, 1, 2, 3))
    return b"P5\n4 1\n%d\n" % maximum + values


stored = [0, 1, 2, 3]
files = {
    "PNG, 2 bits": (gray_png(2, bytes([0b00011011])), [0, 85, 170, 255]),
    "PNG, 4 bits": (gray_png(4, bytes([0x01, 0x23])), [0, 17, 34, 51]),
    "PGM, maximum 3": (pgm(3), [0, 85, 170, 255]),
    "PGM, maximum 1000": (pgm(1000), [0, 66, 131, 197]),
    "PGM, maximum 255": (pgm(255), stored),
    "PGM, maximum 65535": (pgm(65535), stored),
}
same = True
for name, (file, known) in files.items():
    read = np.asarray(Image.open(io.BytesIO(file))).ravel().tolist()
    print(f"{name}: stored {stored}, read {read}")
    same = same and read == known
sys.exit(0 if same else "The behavior has changed.")
PY
