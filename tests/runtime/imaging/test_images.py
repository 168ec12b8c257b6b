from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.errors import ImageError
from slimpath.runtime.imaging.image_headers import read_header
from slimpath.runtime.imaging.images import load_image

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "BMP": ".bmp", "TIFF": ".tiff"}
if tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 11):  # the first that reads GIF
    FORMATS["GIF"] = ".gif"

# 8 x 8 pixels of pure cyan ink, as Adobe programs write CMYK (inverted).
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6pseZqKuk"
    "/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABQAAQAAAAAAAAAAAAAAAAAAAAb/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oADgRDAE0AWQBLAAA/ADJMTEz/"
    "2Q=="
)


def encode(pixels: np.ndarray, suffix: str) -> bytes:
    """What OpenCV writes; colour is given as RGB(A). GIF by hand: OpenCV dithers, and writes none before 4.11."""
    if suffix == ".gif":
        return encode_gif(pixels)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def encode_gif(pixels: np.ndarray) -> bytes:
    """A GIF without compression: 7-bit codes, one byte each, because the table is cleared before it grows."""
    rgb = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)).reshape(-1, 3)
    palette, ids = np.unique(rgb, axis=0, return_inverse=True)
    if len(palette) > 128:
        palette, ids = np.unique(rgb & 0xC0, axis=0, return_inverse=True)
    table = palette.astype(np.uint8).tobytes().ljust(3 * 128, b"\0")
    codes = b"".join(b"\x80" + bytes(ids.ravel()[i : i + 100].tolist()) for i in range(0, ids.size, 100)) + b"\x81"
    blocks = b"".join(bytes([len(codes[i : i + 255])]) + codes[i : i + 255] for i in range(0, len(codes), 255))
    size = struct.pack("<HH", pixels.shape[1], pixels.shape[0])
    return b"GIF89a" + size + b"\xf6\0\0" + table + b",\0\0\0\0" + size + b"\0\x07" + blocks + b"\0;"


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF directory with nothing in it but the orientation."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def jpeg_with_exif(jpeg: bytes, note: bytes) -> bytes:
    body = b"Exif\0\0" + note
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    return png[:33] + chunk(kind, body) + png[33:]  # after IHDR


@pytest.fixture
def corners() -> np.ndarray:
    """16 x 32, its four quarters red, green / blue, white: any turn or mirroring shows."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16], image[:8, 16:] = (255, 0, 0), (0, 255, 0)
    image[8:, :16], image[8:, 16:] = (0, 0, 255), (255, 255, 255)
    return image


def near(left: np.ndarray, right: np.ndarray, tolerance: int = 40) -> bool:
    # 40 of 255 at the seams of a lossy picture; swapped channels or corners differ by 255 over whole quarters.
    difference = np.abs(left.astype(int) - right)
    return left.shape == right.shape and difference.mean() < 8 and np.percentile(difference, 80) < tolerance


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_loads_as_rgb(corners, name, tmp_path):
    path = tmp_path / f"picture{FORMATS[name]}"
    path.write_bytes(encode(corners, FORMATS[name]))
    for source in (path, str(path), path.read_bytes(), memoryview(path.read_bytes())):
        image = load_image(source)
        assert image.format == name and image.size_hw == (16, 32)
        assert image.rgb.dtype == np.uint8 and near(image.rgb, corners)


@pytest.mark.parametrize("name", FORMATS)
def test_one_pixel_is_a_picture(name):
    image = load_image(encode(np.full((1, 1, 3), 200, np.uint8), FORMATS[name]))
    assert image.size_hw == (1, 1) and near(image.rgb, np.full((1, 1, 3), 200))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "WebP"])  # WebP ends at 16,383
def test_picture_of_20000_pixels_width_is_read(name):
    image = load_image(encode(np.full((3, 20_000, 3), 90, np.uint8), FORMATS[name]))
    assert image.rgb.shape == (3, 20_000, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_grey_becomes_rgb(name):
    grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (16, 1))
    assert near(load_image(encode(grey, FORMATS[name])).rgb, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_and_rounded(suffix, channels):
    deep = np.linspace(0, 65535, 64 * channels).astype(np.uint16).reshape(8, 8, channels)
    data = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
    expected = np.round(deep / 257).astype(np.uint8)
    np.testing.assert_array_equal(load_image(data).rgb, np.broadcast_to(expected, (8, 8, 3)))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparency_is_shown_on_white(suffix):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (200, 0, 100, 255)
    rgba[4:] = (200, 0, 100, 51)  # a fifth
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # lossless
    data = cv2.imencode(suffix, cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), parameters)[1].tobytes()
    rgb = load_image(data).rgb
    np.testing.assert_array_equal(rgb[0, 0], (200, 0, 100))
    np.testing.assert_array_equal(rgb[7, 7], (244, 204, 224))  # 0.2 * colour + 0.8 * 255


def test_transparent_colour_of_a_palette_is_shown_on_white():
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", bytes([255, 0, 0, 0, 0, 255])), (b"tRNS", b"\0")]
    parts += [(b"IDAT", zlib.compress(b"\0\0\1")), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    np.testing.assert_array_equal(load_image(data).rgb, [[[255, 255, 255], [0, 0, 255]]])


def test_cmyk_jpeg_shows_its_colour():
    rgb = load_image(CMYK_JPEG).rgb
    assert rgb.shape == (8, 8, 3)
    assert near(rgb, np.broadcast_to(np.array([0, 255, 255], np.uint8), rgb.shape))


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera stores `upright` when it notes `orientation`; by the EXIF standard, by hand."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(stored[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_exif_orientation_is_applied(corners, orientation, order):
    stored, note = turned(corners, orientation), exif(orientation, order)
    lossless = png_with_chunk(encode(stored, ".png"), b"eXIf", note)
    np.testing.assert_array_equal(load_image(lossless).rgb, corners)
    image = load_image(jpeg_with_exif(encode(stored, ".jpg"), note))
    assert image.size_hw == (16, 32) and near(image.rgb, corners)


def test_exif_orientation_of_a_transparent_webp_is_applied(corners):
    rgba = np.dstack((turned(corners, 6), np.full((32, 16), 255, np.uint8)))
    plain = cv2.imencode(".webp", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    payload = plain[plain.index(b"VP8L") :]
    canvas = bytes([0x10 | 0x08, 0, 0, 0]) + (15).to_bytes(3, "little") + (31).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + payload
    body += b"EXIF" + struct.pack("<I", len(exif(6))) + exif(6)
    np.testing.assert_array_equal(load_image(b"RIFF" + struct.pack("<I", len(body)) + body).rgb, corners)


def test_exif_orientation_of_a_tiff_is_applied(corners):
    plain = encode(turned(corners, 6), ".tiff")
    (start,) = struct.unpack_from("<I", plain, 4)
    (count,) = struct.unpack_from("<H", plain, start)
    entries = [plain[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    entries = [e for e in entries if e[:2] != struct.pack("<H", 274)] + [struct.pack("<HHIHH", 274, 3, 1, 6, 0)]
    entries.sort(key=lambda e: struct.unpack("<H", e[:2]))
    data = plain[:4] + struct.pack("<I", len(plain)) + plain[8:]
    data += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    image = load_image(data)
    assert image.size_hw == (16, 32)
    np.testing.assert_array_equal(image.rgb, corners)


@pytest.mark.parametrize("note", [b"", b"II", b"II*\0\xff\xff\xff\xff", exif(0), exif(99), b"XX" + exif(6)])
def test_broken_exif_does_not_cost_the_picture(corners, note):
    assert near(load_image(jpeg_with_exif(encode(corners, ".jpg"), note)).rgb, corners)


# --- scaled decoding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size_hw", "plane_hw", "fit", "shape_hw"),
    [
        ((800, 1600), (50, 50), "letterbox", (100, 200)),  # 8 times, and still 4 times what is needed
        ((400, 400), (50, 50), "letterbox", (100, 100)),
        ((200, 200), (50, 50), "letterbox", (100, 100)),
        ((199, 199), (50, 50), "letterbox", (199, 199)),
        ((100, 1600), (50, 50), "letterbox", (13, 200)),  # the long side decides
        ((100, 1600), (50, 50), "stretch", (100, 1600)),  # the short side decides
    ],
)
def test_large_jpeg_is_scaled_down_while_decoded(photo, size_hw, plane_hw, fit, shape_hw):
    image = load_image(encode(photo(*size_hw), ".jpg"), plane_hw=plane_hw, fit=fit)
    assert image.rgb.shape[:2] == shape_hw
    assert image.size_hw == size_hw


def test_scaled_decoding_keeps_orientation_and_size(corners):
    upright = cv2.resize(corners, (321, 163), interpolation=cv2.INTER_NEAREST)
    data = jpeg_with_exif(encode(turned(upright, 6), ".jpg"), exif(6))
    image = load_image(data, plane_hw=(16, 32))
    assert image.size_hw == (163, 321)
    assert image.rgb.shape == (41, 81, 3)
    assert near(image.rgb, cv2.resize(upright, (81, 41), interpolation=cv2.INTER_AREA))


def test_other_formats_are_decoded_whole(photo):
    assert load_image(encode(photo(400, 400), ".png"), plane_hw=(16, 16)).rgb.shape == (400, 400, 3)


# --- arrays -------------------------------------------------------------------------------------------------------


def test_array_passes_untouched(corners):
    assert load_image(corners).rgb is corners


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_array_becomes_rgb(shape):
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    rgb = load_image(grey).rgb
    np.testing.assert_array_equal(rgb, np.broadcast_to(grey.reshape(5, 7, 1), (5, 7, 3)))


def test_rgba_array_is_shown_on_white():
    array = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    np.testing.assert_array_equal(load_image(array).rgb, [[[10, 20, 30], [255, 255, 255]]])


def test_16_bit_and_boolean_arrays_are_scaled():
    np.testing.assert_array_equal(load_image(np.array([[0, 128, 129, 65535]], np.uint16)).rgb[0, :, 0], [0, 0, 1, 255])
    np.testing.assert_array_equal(load_image(np.array([[False, True]])).rgb[0, :, 0], [0, 255])


def test_strided_array_is_read_as_it_looks(corners):
    np.testing.assert_array_equal(load_image(corners[::-1, ::2]).rgb, corners[::-1, ::2])


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3), ()])
def test_array_of_another_shape_is_refused(shape):
    with pytest.raises(ImageError, match=r"must be \[H, W\], \[H, W, 3\] or \[H, W, 4\]"):
        load_image(np.zeros(shape, np.uint8))


def test_channels_first_array_is_refused_with_the_way_out():
    with pytest.raises(ImageError, match=r"move the channels last: array.transpose\(1, 2, 0\)"):
        load_image(np.zeros((3, 8, 8), np.uint8))


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0), (0, 0, 4)])
def test_array_without_pixels_is_refused(shape):
    with pytest.raises(ImageError, match="at least 1 x 1"):
        load_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, object])
def test_array_of_another_type_is_refused(dtype):
    with pytest.raises(ImageError, match="expected uint8 or uint16"):
        load_image(np.zeros((4, 4, 3), dtype))


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_picture_is_refused(photo, name):
    data = encode(photo(64, 64), FORMATS[name])
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"cut off or damaged|cannot be decoded|damaged: wrong checksum"):
            load_image(data[: int(len(data) * share)])


def test_format_that_this_opencv_does_not_read_is_said_so(corners, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(ImageError, match=r"GIF of 32 x 16\) cannot be decoded.*OpenCV .* does not read; save it again"):
        load_image(encode(corners, ".gif"))


def test_failure_of_the_decoder_is_an_image_error(corners, monkeypatch):
    def fail(*_):
        raise cv2.error("out of memory")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match="cannot be decoded: out of memory"):
        load_image(encode(corners, ".png"))


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_picture_without_its_last_bytes_is_refused_before_decoding(photo, name, monkeypatch):
    data = encode(photo(64, 64), FORMATS[name])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a truncated picture reached the decoder"))
    with pytest.raises(ImageError, match=f"the {name} image is cut off"):
        load_image(data[:-2])


def test_jpeg_with_something_appended_is_whole(photo):
    data = encode(photo(64, 64), ".jpg")
    assert load_image(data + b"\xff\x00 a film from a phone \xff\xd8").size_hw == (64, 64)


def test_truncated_jpeg_with_something_appended_is_refused(photo):
    data = encode(photo(64, 64), ".jpg")
    with pytest.raises(ImageError, match="cut off"):
        load_image(data[: len(data) // 2] + bytes(100))


def test_damaged_png_is_refused(photo):
    data = bytearray(encode(photo(64, 64), ".png"))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(ImageError, match="wrong checksum in its IDAT chunk"):
        load_image(bytes(data))


def test_empty_file_is_refused_by_name(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty.jpg: the image is empty: 0 bytes"):
        load_image(tmp_path / "empty.jpg")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="this is a folder; name one image file"):
        load_image(tmp_path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"none.jpg: there is no such file"):
        load_image(tmp_path / "none.jpg")


def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"hello, this is a text\n", "unknown text that start"),
        (bytes(range(128, 160)), "32 bytes of unknown bytes"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG or XML document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "an HEIC photograph"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "an MP4 film"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b'{"error": "not found"}', "JSON text"),
        (b"\x93NUMPY\x01\x00", "a NumPy array file"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(data, found):
    with pytest.raises(ImageError, match=rf"not an image that slimpath reads: .*{found}.*use JPEG, PNG"):
        load_image(data)


@pytest.mark.parametrize("source", [None, 3, [1, 2], object()])
def test_source_of_another_type_is_refused(source):
    with pytest.raises(ImageError, match="must be a path, the bytes of an image file or a NumPy array"):
        load_image(source)


def png_header(width: int, height: int) -> bytes:
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpeg_header(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0])
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 0, 63, 0])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame + scan + b"\xff\xd9"


HUGE = {
    "PNG": png_header(20_000, 15_000),
    "JPEG": jpeg_header(20_000, 15_000),
    "GIF": b"GIF89a" + struct.pack("<HHBBB", 20_000, 15_000, 0, 0, 0) + b"," + bytes(9) + b"\x02\x00;",
    "TIFF": b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHII", 2, 256, 4, 1, 20_000, 257, 4, 1, 15_000),
    "WebP": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0\x1f\x4e\0\x97\x3a\0",
    "BMP": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 20_000, 15_000, 1, 24, 1) + bytes(20),
}


@pytest.mark.parametrize("name", HUGE)
def test_picture_of_300_megapixels_is_refused_by_its_header(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a huge picture reached the decoder"))
    message = rf"too large: {name} of 20000 x 15000, 300 megapixels, at most 200 are read; .*raise max_pixels"
    with pytest.raises(ImageError, match=message):
        load_image(HUGE[name])


def test_limit_of_pixels_can_be_raised_and_holds_for_arrays_too(photo):
    with pytest.raises(ImageError, match="too large: array"):
        load_image(photo(20, 20), max_pixels=399)
    assert load_image(photo(20, 20), max_pixels=400).size_hw == (20, 20)


def test_header_without_pixels_is_refused():
    with pytest.raises(ImageError, match="has no pixels"):
        load_image(png_header(0, 5))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(FORMATS.values())), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 40))
def test_no_damage_brings_the_header_reader_down(suffix, position, noise, cut):
    data = encode(np.full((4, 6, 3), 77, np.uint8), suffix)
    position %= len(data)
    try:
        header = read_header(data[:position] + noise + data[position + cut :])
    except ImageError:
        return
    assert header.height > 0 and header.width > 0 and 1 <= header.orientation <= 8


def test_damaged_picture_writes_nothing_to_stderr():
    """In a process of its own: OpenCV writes past Python's sys.stderr."""
    script = (
        "import cv2, numpy as np\n"
        "from slimpath.runtime.imaging.images import load_image\n"
        "from slimpath.runtime.errors import ImageError\n"
        "for suffix in ('.webp', '.tiff', '.png', '.jpg', '.bmp'):\n"
        "    data = cv2.imencode(suffix, np.arange(3072, dtype=np.uint8).reshape(32, 32, 3))[1].tobytes()\n"
        "    try:\n"
        "        load_image(data[: len(data) // 2])\n"
        "    except ImageError:\n"
        "        print('refused')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENCV_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout.split(), done.stderr) == (["refused"] * 5, "")


def test_tiff_that_states_two_widths_counts_with_the_one_the_decoder_takes():
    entries = [(256, 3, 60_000), (257, 3, 60_000), (256, 3, 8)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", t, k, 1, v, 0) for t, k, v in entries)
    with pytest.raises(ImageError, match="too large: TIFF of 60000 x 60000"):
        load_image(b"II*\0" + struct.pack("<I", 8) + body + bytes(4))


def test_tiff_with_a_width_of_an_odd_kind_is_refused():
    entries = [(256, 12, 8), (257, 3, 8)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", t, k, 1, v, 0) for t, k, v in entries)
    with pytest.raises(ImageError, match="too large: TIFF"):
        load_image(b"II*\0" + struct.pack("<I", 8) + body + bytes(4))


def test_what_was_loaded_ahead_comes_back_as_it_is_and_gives_the_same_answers(tiny_bundle):
    from slimpath.runtime import Engine

    done, data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (400, 640, 3), np.uint8))
    assert done
    ahead = load_image(data.tobytes(), plane_hw=(32, 48))
    assert load_image(ahead) is ahead and ahead.rgb.shape[:2] != ahead.size_hw
    with Engine.load(tiny_bundle, tier="packed") as engine:
        direct = engine(data.tobytes(), output_size="original")
        loaded = engine(ahead, output_size="original")
    assert loaded.image_size_hw == (400, 640)
    assert all((loaded[task] == direct[task]).all() for task in direct)


@pytest.mark.skipif(not hasattr(cv2, "imencodeanimation"), reason="OpenCV before 4.11 writes no animations")
@pytest.mark.parametrize(("suffix", "format"), [(".png", "PNG"), (".webp", "WebP"), (".gif", "GIF")])
def test_of_an_animation_the_first_frame_is_read(suffix: str, format: str):
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]  # BGR: blue first
    animation: Any = cv2.Animation()
    animation.frames = [np.full((24, 32, 3), colour, np.uint8) for colour in colours]
    animation.durations = np.full(len(colours), 100)
    written, data = cv2.imencodeanimation(suffix, animation)
    assert written and len(cv2.imdecodeanimation(data)[1].durations) == len(colours)
    image = load_image(data.tobytes())
    assert (image.format, image.rgb.shape) == (format, (24, 32, 3))
    red, green, blue = image.rgb.mean(axis=(0, 1))  # GIF dithers
    assert blue > 200 and max(red, green) < 60
