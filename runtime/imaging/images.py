"""Any picture -> RGB pixels. Refuses what is damaged or too large before it is decoded.

What is done with unusual pictures: EXIF orientation is applied; grey becomes RGB; 16 bits are scaled to 8
(divided by 257, rounded); what is transparent in a PNG, WebP or array is shown on white; the first frame of an
animation is taken; CMYK JPEGs are converted by OpenCV, without colour profiles.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ImageError
from .image_headers import ImageHeader, read_header

_Shrink = tuple[tuple[int, int], Literal["letterbox", "stretch"]] | None

MAX_PIXELS = 200_000_000  # 600 MB of RGB; the largest phone sensors have 200 megapixels
MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class LoadedImage:
    """Pixels, and the size of the picture that they show.

    Args:
        rgb: uint8 [H, W, 3], upright.
        size_hw: size of the whole picture, upright. Larger than `rgb` where the decoder scaled down on the way.
        format: "JPEG", "PNG", ..., or "array".
    """

    rgb: np.ndarray
    size_hw: tuple[int, int]
    format: str


ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray | LoadedImage


def load_image(
    source: ImageSource,
    *,
    plane_hw: tuple[int, int] | None = None,
    fit: Literal["letterbox", "stretch"] = "letterbox",
    max_pixels: float = MAX_PIXELS,
) -> LoadedImage:
    """Load a picture as RGB.

    Args:
        source: a path, the bytes of an image file, or an array: uint8 or uint16, [H, W], [H, W, 1], [H, W, 3] RGB or
            [H, W, 4] RGBA. A LoadedImage, which whoever decodes ahead has already, comes back as it is.
        plane_hw: the network plane that the picture will be fitted to by `fit`. A JPEG at least 4 times as large as
            it will be there is scaled down while it is decoded (a 12-megapixel photograph for 224 x 224: 26 ms
            instead of 68). None: all pixels.
        max_pixels: refuse larger pictures, before decoding them.

    Raises:
        ImageError: nothing there, not a picture, damaged, cut off or too large.
    """
    if isinstance(source, LoadedImage):
        return source
    shrink = None if plane_hw is None else (plane_hw, fit)
    if isinstance(source, np.ndarray):
        _check_pixels(source.shape[0] * source.shape[1] if source.ndim >= 2 else 0, "array", max_pixels)
        rgb = _array_to_rgb(source)
        return LoadedImage(rgb, (rgb.shape[0], rgb.shape[1]), "array")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), shrink, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            return _decode(_read_file(path), shrink, max_pixels)
        except ImageError as error:
            raise ImageError(f"{path}: {error.message}", hint=error.hint) from error.__cause__
    raise ImageError(
        f"an image must be a path, the bytes of an image file or a NumPy array, got {type(source).__name__}",
        hint="convert a PIL image or a tensor with numpy.asarray(image)",
    )


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("this is a folder", hint="name one image file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("this is not a regular file", hint="name one image file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"the file has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_pixels(pixels: int, what: str, max_pixels: float) -> None:
    if pixels > max_pixels:
        raise ImageError(
            f"the image is too large: {what}, {pixels / 1e6:.0f} megapixels, at most {max_pixels / 1e6:.0f} are read",
            hint="scale it down, or raise max_pixels",
        )


def _decode(data: bytes, shrink: _Shrink, max_pixels: float) -> LoadedImage:
    header = read_header(data)
    what = f"{header.format} of {header.width} x {header.height}"
    _check_pixels(header.width * header.height, what, max_pixels)
    cv2 = quiet_cv2()
    flags, scale = _decode_flags(cv2, header, shrink)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"the image ({what}) cannot be decoded: {error}") from None
    if pixels is None:
        raise ImageError(
            f"the image ({what}) cannot be decoded: it is damaged, or a kind of {header.format} that "
            f"OpenCV {cv2.__version__} does not read",
            hint="save it again as 8-bit PNG or JPEG",
        )
    rgb = _bgr_to_rgb(cv2, pixels, header)
    rgb = _turn_upright(rgb, header.orientation)
    if header.format == "TIFF" or scale == 1:
        return LoadedImage(rgb, (rgb.shape[0], rgb.shape[1]), header.format)
    height, width = _upright_hw(header)
    return LoadedImage(rgb, (height, width), header.format)


def _decode_flags(cv2: Any, header: ImageHeader, shrink: _Shrink) -> tuple[int, int]:
    if header.has_alpha:
        return cv2.IMREAD_UNCHANGED, 1
    if header.format == "JPEG" and shrink is not None:
        # Twice what is needed is left over, so that the resize that follows still averages.
        for scale in (8, 4, 2):
            if _still_large_enough(header, *shrink, 2 * scale):
                return getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}") | cv2.IMREAD_IGNORE_ORIENTATION, scale
    return cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION, 1


def _upright_hw(header: ImageHeader) -> tuple[int, int]:
    return (header.width, header.height) if header.orientation >= 5 else (header.height, header.width)


def _still_large_enough(header: ImageHeader, plane_hw: tuple[int, int], fit: str, scale: int) -> bool:
    height, width = _upright_hw(header)
    fits = (height >= scale * plane_hw[0], width >= scale * plane_hw[1])
    return any(fits) if fit == "letterbox" else all(fits)  # letterbox: the longer side decides


def _bgr_to_rgb(cv2: Any, pixels: np.ndarray, header: ImageHeader) -> np.ndarray:
    pixels = _to_uint8(pixels, header.format)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        return _on_white(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        hint = (
            "move the channels last: array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        )
        raise ImageError(f"an image array must be [H, W], [H, W, 3] or [H, W, 4], got {list(array.shape)}", hint=hint)
    if array.size == 0:
        raise ImageError(f"an image array must have at least 1 x 1 pixel, got {list(array.shape)}")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    pixels = _to_uint8(np.ascontiguousarray(array), "array")
    if channels == 4:
        return _on_white(pixels)
    if channels == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels


def _to_uint8(pixels: np.ndarray, what: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        # Rounded, not cut off: 65535 -> 255, 0 -> 0, and 257 steps to one in between.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise ImageError(
        f"the pixels of this {what} are {pixels.dtype}, expected uint8 or uint16",
        hint="scale them to [0, 255] and convert: array.astype(numpy.uint8)",
    )


def _on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    if (alpha == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    cover = alpha[..., None].astype(np.uint16)
    # At most 255 * 255 + 127 = 65152: fits uint16, and is exact.
    return ((rgba[..., :3] * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)


def _turn_upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation; the file stores the picture turned and mirrored as the camera was held."""
    if orientation == 1:
        return rgb
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


_LOG_LEVEL_FATAL = 1
_quieted: list[bool] = []


def quiet_cv2() -> Any:
    """OpenCV, not writing to stderr about each damaged file: our exception says it (OPENCV_LOG_LEVEL overrides)."""
    import cv2

    if not _quieted:
        _quieted.append(True)
        if "OPENCV_LOG_LEVEL" not in os.environ:
            # OpenCV 4 has the first, 5 the second.
            set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
            set_level(_LOG_LEVEL_FATAL)
    return cv2
