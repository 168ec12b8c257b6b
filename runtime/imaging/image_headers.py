"""What an encoded image says about itself, read before anything is decoded.

A decoder believes the header and allocates what it says, and OpenCV hands out half-grey pictures for files that
end early. So size and completeness are checked here first, in plain Python, for the six formats that slimpath reads.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from ..errors import ImageError

FORMATS = "JPEG, PNG, WebP, BMP, TIFF and GIF"


@dataclass(frozen=True)
class ImageHeader:
    """Size as stored (before the orientation is applied), and what decoding must know.

    Args:
        orientation: EXIF orientation, 1 to 8. TIFF says 1: OpenCV applies TIFF's own, whatever its flags.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    has_alpha: bool = False


def read_header(data: bytes) -> ImageHeader:
    """Find out what `data` is, how large it is, and that it is all there.

    Raises:
        ImageError: empty, not one of the six formats (it says what it looks like instead), or cut off.
    """
    if not data:
        raise ImageError("the image is empty: 0 bytes")
    for magic, name, reader in _READERS:
        if magic.match(data):
            try:
                header = reader(data)
            except (struct.error, IndexError):
                raise _cut_off(name, data) from None
            if header.height < 1 or header.width < 1:
                raise ImageError(f"the {name} image has no pixels: its header says {header.width} x {header.height}")
            return header
    raise ImageError(f"this is not an image that slimpath reads: {_describe(data)}", hint=f"use {FORMATS}")


def _cut_off(name: str, data: bytes) -> ImageError:
    return ImageError(f"the {name} image is cut off or damaged: its {len(data)} bytes end before the picture does")


# --- JPEG ---------------------------------------------------------------------------------------------------------

_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The next marker inside compressed data: not a stuffed FF 00, not a restart, not a fill byte.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _read_jpeg(data: bytes) -> ImageHeader:
    position, orientation, size_hw = 2, 1, None
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            raise _cut_off("JPEG", data)
        marker = data[position + 1]
        length = struct.unpack_from(">H", data, position + 2)[0]
        body = position + 4
        if marker in _SIZE_MARKERS:
            size_hw = struct.unpack_from(">HH", data, body + 1)
        elif marker == 0xE1 and data[body : body + 6] == b"Exif\0\0":
            orientation = _exif_orientation(data[body + 6 : position + 2 + length])
        elif marker == 0xDA:
            break
        elif marker == 0xD9 or length < 2:
            raise _cut_off("JPEG", data)
        position += 2 + length
    if size_hw is None:
        raise _cut_off("JPEG", data)
    if not data.endswith(b"\xff\xd9"):
        _find_jpeg_end(data, position)
    return ImageHeader("JPEG", size_hw[0], size_hw[1], orientation)


def _find_jpeg_end(data: bytes, position: int) -> None:
    """Phones append films and makers' notes, so the end-of-image marker need not be the last thing."""
    while True:
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise _cut_off("JPEG", data)
        position = found.start()
        if data[position + 1] == 0xD9:
            return


# --- PNG ----------------------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> ImageHeader:
    view = memoryview(data)
    width, height, _, colour_type = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR":
        raise _cut_off("PNG", data)
    position, orientation, has_alpha, has_pixels = 8, 1, colour_type in (4, 6), False
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        (crc,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(view[position + 4 : position + 8 + length]) != crc:
            raise ImageError(f"the PNG image is damaged: wrong checksum in its {kind.decode('latin-1')} chunk")
        if kind == b"tRNS":
            has_alpha = True
        elif kind == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            break
        position += 12 + length
    if not has_pixels:
        raise _cut_off("PNG", data)
    return ImageHeader("PNG", height, width, orientation, has_alpha)


# --- WebP ---------------------------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> ImageHeader:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if len(data) < end or len(data) < 30:
        raise _cut_off("WebP", data)
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WebP", height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("WebP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 1, bool(bits >> 28 & 1))
    if kind != b"VP8X":
        raise _cut_off("WebP", data)
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation, position = 1, 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return ImageHeader("WebP", height, width, orientation, bool(data[20] & 0x10))


# --- BMP, GIF, TIFF -----------------------------------------------------------------------------------------------


def _read_bmp(data: bytes) -> ImageHeader:
    offset, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative means top row first
    row_bytes = (width * bits + 31) // 32 * 4
    if compression in (0, 3) and len(data) < offset + row_bytes * height:
        raise _cut_off("BMP", data)
    return ImageHeader("BMP", height, width)


def _read_gif(data: bytes) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[position] == 0x21:  # extensions before the first frame
        position = _skip_gif_blocks(data, position + 2)
    if data[position] != 0x2C:
        raise _cut_off("GIF", data)
    flags = data[position + 9]
    position += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    _skip_gif_blocks(data, position + 1)
    return ImageHeader("GIF", height, width)


def _skip_gif_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += 1 + data[position]
    return position + 1


def _read_tiff(data: bytes) -> ImageHeader:
    tags = _read_ifd(data)
    if 256 not in tags or 257 not in tags:
        raise _cut_off("TIFF", data)
    return ImageHeader("TIFF", tags[257], tags[256])


def _read_ifd(data: bytes) -> dict[int, int]:
    """The first value of each integer tag in the first directory of a TIFF (EXIF is a small TIFF)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags: dict[int, int] = {}
    for number in range(count):
        entry = start + 2 + 12 * number
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in (3, 4):
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
            tags.setdefault(tag, value)  # of a tag that comes twice the decoder takes the first
        elif tag in (256, 257):
            tags.setdefault(tag, 1 << 32)  # a size in a kind that only hostile files use: refused as too large
    return tags


def _exif_orientation(exif: bytes) -> int:
    """1 to 8; 1 (upright) for EXIF data that cannot be read: a broken note must not cost the picture."""
    try:
        orientation = _read_ifd(exif.removeprefix(b"Exif\0\0")).get(274, 1)
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


_READERS = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _read_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _read_png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _read_webp),
    (re.compile(rb"GIF8[79]a"), "GIF", _read_gif),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF", _read_tiff),
    (re.compile(rb"BM.{8}", re.DOTALL), "BMP", _read_bmp),
)

_LOOKS_LIKE = (
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1|hevc)", re.DOTALL), "an HEIC photograph"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "an AVIF image"),
    (re.compile(rb"....ftyp", re.DOTALL), "an MP4 film"),
    (re.compile(rb"\x1aE\xdf\xa3"), "a Matroska or WebM film"),
    (re.compile(rb"\0\0\0\x0cjP |\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL image"),
    (re.compile(rb"(II|MM)(\x2b\0|\0\x2b)"), "a BigTIFF image"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "gzip-compressed data"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array file"),
    (re.compile(rb"\s*<(\?xml|svg)", re.IGNORECASE), "an SVG or XML document"),
    (re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*[\[{]"), "JSON text"),
)


def _describe(data: bytes) -> str:
    for pattern, name in _LOOKS_LIKE:
        if pattern.match(data):
            return f"it looks like {name}"
    start = data[:16]
    text = "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start) else "bytes"
    return f"{len(data)} bytes of unknown {text} that start with {start!r}"
