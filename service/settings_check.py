"""What settings must keep together; called wherever they come from."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from .auth_keys import read_keys
from .errors import SettingsError
from .settings import ServerSettings, Settings

IMAGE_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "gif")
LOOPBACK_NAMES = ("localhost", "ip6-localhost")


def check_settings(settings: Settings) -> None:
    """Refuse settings that contradict each other or are not safe.

    Raises:
        SettingsError: naming what contradicts what, and how to go on.
    """
    server = settings.server
    keys = read_keys(settings.auth)
    if not is_loopback(server.host) and not keys.api and not server.insecure:
        raise SettingsError(
            f"listening on {server.host} would let everyone who reaches it run the model, without a key",
            hint="set SLIMPATH_API_KEYS=name:key or --api-keys-file; or --insecure where a gateway checks callers",
        )
    _check_tls(server)
    unknown = [name for name in settings.limits.image_formats if name not in IMAGE_FORMATS]
    if unknown or not settings.limits.image_formats:
        given = ", ".join(unknown) or "none"
        raise SettingsError(f"limits.image_formats has {given}", hint=f"name some of {', '.join(IMAGE_FORMATS)}")
    if settings.limits.max_in_flight_mib < settings.limits.max_body_mib:
        raise SettingsError(
            f"limits.max_in_flight_mib ({settings.limits.max_in_flight_mib:g}) is below limits.max_body_mib "
            f"({settings.limits.max_body_mib:g}): the largest body would never be accepted"
        )


def is_loopback(host: str) -> bool:
    """Does this address reach no further than this machine?"""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: whatever it resolves to


def _check_tls(server: ServerSettings) -> None:
    if bool(server.tls_cert) != bool(server.tls_key):
        missing = "tls_key" if server.tls_cert else "tls_cert"
        raise SettingsError(f"server.{missing} is missing", hint="TLS needs both, the certificate and its key")
    for name in ("tls_cert", "tls_key"):
        path = getattr(server, name)
        if path and not Path(path).is_file():
            raise SettingsError(f"server.{name}: there is no file {path}")
