"""API keys: read from settings and a file, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError
from .settings import AuthSettings

MIN_KEY_CHARACTERS = 16
MAX_FILE_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True)
class KeyRing:
    """Keys of one kind: name -> SHA-256 of the key."""

    digests: tuple[tuple[str, bytes], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def find(self, key: str) -> str | None:
        """The name of a key, or None. Takes as long whichever key it is, and whether it is one."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found: str | None = None
        for name, known in self.digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found


@dataclass(frozen=True)
class Keys:
    """All keys of a server; `metrics` and `admin` are empty where the API keys serve."""

    api: KeyRing
    metrics: KeyRing
    admin: KeyRing


def read_keys(settings: AuthSettings) -> Keys:
    """The keys that the settings and their file name.

    Raises:
        SettingsError: a line that is no key, a short key, a name that comes twice, or no such file.
    """
    lines = [(text, "auth.api_keys") for text in settings.api_keys]
    if settings.api_keys_file:
        lines += _read_file(Path(settings.api_keys_file))
    return Keys(
        _ring(lines),
        _ring((text, "auth.metrics_keys") for text in settings.metrics_keys),
        _ring((text, "auth.admin_keys") for text in settings.admin_keys),
    )


def _read_file(path: Path) -> list[tuple[str, str]]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"auth.api_keys_file: {path} has more than {MAX_FILE_BYTES} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"auth.api_keys_file: {path} cannot be read: {reason}") from None
    found = [(line.strip(), f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    keys = [(text, origin) for text, origin in found if text and not text.startswith("#")]
    if not keys:  # an empty secret that was mounted: the server must not come up open because of it
        raise SettingsError(f"auth.api_keys_file: {path} has no keys", hint="one NAME:KEY a line")
    return keys


def _ring(lines: Iterable[tuple[str, str]]) -> KeyRing:
    digests: dict[str, bytes] = {}
    for text, origin in lines:
        name, digest = _parse(text, origin)
        if name in digests:
            raise SettingsError(f"{origin}: the name {name!r} comes twice")
        digests[name] = digest
    return KeyRing(tuple(digests.items()))


def _parse(text: str, origin: str) -> tuple[str, bytes]:
    """Messages name the key's origin, never the key."""
    name, colon, key = text.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise SettingsError(f"{origin}: a key is written NAME:KEY", hint="a name has letters, digits, '.', '_' and '-'")
    if found := _HASH.fullmatch(key):
        return name, bytes.fromhex(found[1])
    if len(key) < MIN_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            f"{origin}: the key of {name!r} must have at least {MIN_KEY_CHARACTERS} printable ASCII characters",
            hint='make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return name, hashlib.sha256(key.encode()).digest()
