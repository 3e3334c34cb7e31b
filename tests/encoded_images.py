"""Images encoded by hand, number by number, so that no image library stands on both sides of a test."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.integer]

GRAY, COLOR, INDEXED, GRAY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6  # color types of PNG


def png(numbers: Numbers, bits: int, kind: int, filtered: int = 0) -> bytes:
    """Encode a PNG (ISO/IEC 15948); `filtered` 1 writes differences to the pixel on the left."""
    height, width = numbers.shape[:2]
    if bits < 8:
        each = np.stack([(numbers >> bit) & 1 for bit in reversed(range(bits))], axis=-1).reshape(height, -1)
        rows = np.packbits(each.astype(np.uint8), axis=1)
    else:
        rows = np.frombuffer(numbers.astype(">u2" if bits == 16 else "u1").tobytes(), np.uint8).reshape(height, -1)
    if filtered:
        step = max(1, bits // 8 * (numbers.shape[2] if numbers.ndim == 3 else 1))
        rows = rows - np.pad(rows, ((0, 0), (step, 0)))[:, :-step]
    body = np.pad(rows, ((0, 0), (1, 0)), constant_values=filtered).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    palette = [(b"PLTE", bytes(3 * 2**bits))] if kind == INDEXED else []
    chunks = [(b"IHDR", header), *palette, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    coded = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


def tiff(numbers: Numbers, order: str, white_is_zero: bool = False) -> bytes:
    """Encode an uncompressed TIFF of 8 or 16 bits in one strip (TIFF 6.0)."""
    height, width = numbers.shape[:2]
    channels, bits = (numbers.shape[2] if numbers.ndim == 3 else 1), 8 * numbers.dtype.itemsize
    pixels = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes()
    short, long = f"{order}HHIHxx", f"{order}HHII"
    photometric = 2 if channels > 1 else 0 if white_is_zero else 1
    depths = 8 + len(pixels)
    entries = [(long, 256, 4, 1, width), (long, 257, 4, 1, height)]
    entries += [(long, 258, 3, channels, depths) if channels > 2 else (short, 258, 3, 1, bits)]
    entries += [
        (short, 259, 3, 1, 1),
        (short, 262, 3, 1, photometric),
        (long, 273, 4, 1, 8),
        (short, 277, 3, 1, channels),
    ]
    entries += [(long, 278, 4, 1, height), (long, 279, 4, 1, len(pixels))]
    rows = b"".join(struct.pack(form, *values) for form, *values in entries)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, depths + 2 * channels)
    counted = struct.pack(f"{order}{channels}HH", *[bits] * channels, len(entries))
    return head + pixels + counted + rows + bytes(4)
