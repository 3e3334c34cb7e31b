"""Uploaded images: what is accepted, what is refused, and that nothing is written to disk."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from explorer_client import image_bytes
from netdissect.errors import RequestError
from netdissect.explorer import uploads
from netdissect.explorer.uploads import decode_upload, display_copy, network_input
from netdissect.result import NetworkInfo

INFERENCE = "/api/runs/first-run/inference"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_images_of_three_formats_are_decoded(kind: str) -> None:
    image = decode_upload(image_bytes((40, 30), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (image_bytes(kind="GIF"), "cannot be decoded", 415),
        (image_bytes(kind="TIFF"), "cannot be decoded", 415),
        (image_bytes(kind="BMP"), "cannot be decoded", 415),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "cannot be decoded", 415),
        (b"", "cannot be decoded", 415),
        (image_bytes()[:200], "cannot be decoded", 415),
        (image_bytes(kind="JPEG")[:300], "cannot be decoded", 415),
        (bomb(60_000, 60_000), "far too large. Expected at most 40,000,000 pixels", 413),
        (bomb(10_000, 9_500), "far too large. Expected at most 40,000,000 pixels", 413),
        (bomb(8_000, 8_000), "8,000 x 8,000 pixels. Expected at most", 413),
        (bomb(30_000, 2), "30,000 x 2 pixels. Expected at most", 413),
        (bomb(64, 64), "cannot be decoded", 415),
    ],
    ids=["gif", "tiff", "bmp", "svg", "empty", "cut png", "cut jpeg", "bomb", "warned", "large", "too long", "short"],
)
def test_an_unsupported_image_is_refused_with_a_reason(data: bytes, reason: str, status: int) -> None:
    with pytest.raises(RequestError, match=reason) as refused:
        decode_upload(data)
    assert refused.value.status == status


def test_a_huge_image_is_refused_before_its_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(RequestError, match="pixels"):
        decode_upload(bomb(8_000, 8_000))


def test_exif_orientation_is_applied_and_an_animation_gives_its_first_frame() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_upload(image_bytes((40, 30), "JPEG", exif=exif)).size == (30, 40)
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode_upload(file.getvalue()).getpixel((4, 4)) == (255, 0, 0)  # type: ignore[comparison-overlap]


def test_transparent_pixels_lie_on_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(file, "PNG")
    assert np.asarray(decode_upload(file.getvalue())).min() == 255


def test_the_displayed_copy_is_small_and_the_network_gets_the_whole_image() -> None:
    image = Image.new("RGB", (3000, 1500), "white")
    assert display_copy(image).shape == (384, 768, 3)
    for channels in (1, 3):
        network = NetworkInfo(name="net", digest="", size=(24, 20), mean=(0.5,) * channels, std=(0.5,) * channels)
        assert network_input(image, network).shape == (channels, 24, 20)


def test_an_upload_is_processed_and_nothing_is_written(
    client: TestClient, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(f"tempfile.{name}", lambda *_, **__: pytest.fail("a file was made"))
    answer = client.post(INFERENCE, content=image, headers={"content-type": "image/png"})
    assert answer.status_code == 201
    uploaded = answer.json()
    assert (uploaded["width"], uploaded["height"]) == (40, 30)
    displayed = client.get(uploaded["url"])
    assert displayed.headers["content-type"] == "image/webp"
    assert displayed.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(displayed.content)).size == (40, 30)


@pytest.mark.parametrize("kind", ["image/gif", "text/html", "multipart/form-data; boundary=x", ""])
def test_other_content_types_are_refused(client: TestClient, kind: str) -> None:
    answer = client.post(INFERENCE, content=b"GIF89a", headers={"content-type": kind})
    assert answer.status_code == 415
    assert "Expected image/jpeg, image/png, image/webp" in answer.json()["message"]


def test_a_body_beyond_the_limit_is_refused_with_or_without_a_length(client: TestClient) -> None:
    large = b"\x89PNG" + b"0" * uploads.MAX_BYTES
    headers = {"content-type": "image/png"}
    announced = client.post(INFERENCE, content=large, headers=headers)
    pieces = (large[at : at + 2**20] for at in range(0, len(large), 2**20))
    piecewise = client.post(INFERENCE, content=pieces, headers=headers)
    assert (announced.status_code, piecewise.status_code) == (413, 413)
    for answer in (announced, piecewise):
        assert set(answer.json()) == {"error", "message"}


def test_the_content_type_does_not_decide_how_an_image_is_decoded(client: TestClient) -> None:
    answer = client.post(INFERENCE, content=image_bytes(kind="GIF"), headers={"content-type": "image/png"})
    assert answer.status_code == 415
