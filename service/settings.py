"""Every setting of the server: a dataclass per concern, each field with its default, its bounds and a line of help.

The command line's flags, the environment's names (SLIMPATH_*), the settings file's keys and the table in
docs/service.md are all made from these fields; `settings_sources` merges them. 1 MiB = 2^20 bytes, 1 MP = 1e6 pixels.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of a settings dataclass.

    Args:
        low, high: bounds of a number, both included.
        choices: the texts that are allowed.
        secret: never a flag (other users see a process's arguments), and never printed.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "secret": secret}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ServerSettings:
    """Where it listens, and how it comes and goes."""

    host: str = setting("127.0.0.1", "Address to listen on. Beyond this machine only with API keys, or --insecure.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    insecure: bool = setting(False, "Listen beyond this machine without API keys.")
    tls_cert: str = setting("", "Certificate chain, a PEM file; with it the server speaks https only.")
    tls_key: str = setting("", "Private key of the certificate, a PEM file without a password.")
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "Host names that requests may be addressed to. Empty: this machine's own names while listening on it alone, "
        "any name otherwise.",
    )
    cors_origins: tuple[str, ...] = setting((), 'Web origins whose pages may call the API ("*": all). Empty: none.')
    drain_s: float = setting(30.0, "After SIGTERM: seconds that accepted requests have to be answered.", low=0)
    drain_delay_s: float = setting(
        0.0, "After SIGTERM: seconds that it still accepts, not ready, until balancers look elsewhere.", low=0
    )
    keep_alive_s: float = setting(15.0, "Seconds that an idle connection is kept.", low=1, high=3600)


@dataclass(frozen=True)
class EngineSettings:
    """How bundles are opened."""

    backend: str = setting("onnxruntime", 'Inference library, as in `slimpath run --backend`; "auto" measures.')
    precision: str = setting("fp32", "Of the large products, as in `slimpath run --precision`.")
    threads: int | None = setting(None, "Of each graph. Empty: the CPUs of this process over the runners.", low=1)
    memory_limit_mb: float | None = setting(None, "Of the whole process, in 1e6 bytes. Empty: none.", low=1)
    packs: tuple[str, ...] = setting(
        (), "Task packs of `slimpath add-task`, folders. Of several bundles, each gets those that were trained for it."
    )
    warm: str = setting(
        "plans",
        "What is loaded before the server is ready: the plans that a budget can choose, or only the full one.",
        choices=("plans", "full"),
    )


HIGHEST_PRIORITY = 5  # and -5 the lowest: waiting makes up for it in ten times `aging_s`, sooner than requests time out


@dataclass(frozen=True)
class SchedulerSettings:
    """Queue, batches, admission."""

    runners: int | None = setting(None, "Threads that run engines. Empty: what suits this machine.", low=1, high=256)
    queue_limit: int = setting(256, "Requests that may wait; more are refused (503).", low=1)
    max_batch: int = setting(8, "Requests that may share one engine call.", low=1, high=256)
    max_wait_ms: float = setting(2.0, "That a lone request waits for company where batches are cheaper.", low=0)
    degrade: bool = setting(True, "Answer narrower rather than late; off: full quality, or a refusal.")
    watchdog_s: float = setting(30.0, "An engine call that takes longer is given up (503).", low=0.1)
    per_client_limit: int = setting(64, "Requests of one client that may wait or run; more are refused (429).", low=1)
    pinned_full_width: bool = setting(False, "Always the full configuration, for comparisons.")
    fifo: bool = setting(False, "First in, first out, nothing refused: for comparisons, not for use.")
    patience_s: float = setting(10.0, "A request without a deadline should be answered in this time.", low=0.01)
    utilisation: float = setting(
        0.9, "Share of the time that is planned for once full width cannot keep up with the requests.", low=0.1, high=1
    )
    aging_s: float = setting(2.0, "Waiting so long raises a request's priority by one.", low=0.01)
    fair_share_s: float = setting(
        0.25, "Seconds of computing that a client may be ahead of others that wait; then they go first.", low=0.001
    )
    pool_threads: int = setting(2, "Threads that decode images and encode answers.", low=1, high=64)


@dataclass(frozen=True)
class LimitSettings:
    """What a request may be; all of it is checked before it costs anything."""

    max_body_mib: float = setting(16.0, "Body of one request, before and after decompression.", low=0.001, high=1024)
    max_in_flight_mib: float = setting(256.0, "Bodies of all requests at once; more are refused (503).", low=0.001)
    max_image_mp: float = setting(40.0, "Megapixels of one image, read from its header before decoding.", low=0.001)
    max_output_mp: float = setting(
        16.0, "Megapixels of dense outputs in one answer, tasks times pixels; lists in JSON: a tenth.", low=0.001
    )
    image_formats: tuple[str, ...] = setting(
        ("jpeg", "png"),
        "Image formats that are decoded, by their first bytes, of jpeg, png, webp, bmp, tiff and gif.",
    )
    max_tasks: int = setting(16, "Tasks that one request may name.", low=1, high=256)
    max_json_depth: int = setting(32, "Nesting of JSON bodies.", low=8, high=200)
    max_header_kib: float = setting(16.0, "Request line and headers of one request.", low=1, high=256)
    max_chunks: int = setting(16384, "Pieces that a chunked body may come in.", low=16)
    header_timeout_s: float = setting(10.0, "To receive the headers of one request.", low=0.1)
    body_timeout_s: float = setting(30.0, "To receive one body.", low=0.1)
    request_timeout_s: float = setting(60.0, "To answer one request, after its body has come; then 504.", low=0.1)
    answer_timeout_s: float = setting(
        30.0, "A client must take 256 KiB of its answer, or the rest, in this time; else it is cut off.", low=0.1
    )
    max_connections: int = setting(512, "Open connections; more are closed at once.", low=1)
    max_connections_per_address: int = setting(256, "Open connections of one address.", low=1)


@dataclass(frozen=True)
class AuthSettings:
    """Who may call. Without keys everybody who reaches the port may."""

    api_keys: tuple[str, ...] = setting(
        (), "Keys as NAME:KEY, or NAME:sha256:HEX, in the environment or the file.", secret=True
    )
    api_keys_file: str = setting("", "File with one such key a line, # for comments.")
    metrics_keys: tuple[str, ...] = setting(
        (), "Keys for /metrics alone. Empty: the API keys open it too.", secret=True
    )
    public_metrics: bool = setting(False, "Let everybody who reaches the port read /metrics.")
    admin: bool = setting(False, "Allow loading and unloading of models over HTTP.")
    admin_keys: tuple[str, ...] = setting((), "Keys for that. Empty: the API keys may.", secret=True)


@dataclass(frozen=True)
class LogSettings:
    """What it tells."""

    level: str = setting("info", "Least level that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = setting("text", "One line of text or one JSON document per event.", choices=("text", "json"))
    file: str = setting("", "Log to this file instead of stderr.")
    access: bool = setting(True, "Log every request.")
    traces: str = setting("off", "OpenTelemetry traces; needs slimpath[otel].", choices=("off", "otlp", "console"))


@dataclass(frozen=True)
class Settings:
    """All of them. `bundles`: folders, or NAME=FOLDER; empty serves the bundled model."""

    bundles: tuple[str, ...] = ()
    server: ServerSettings = field(default_factory=ServerSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    log: LogSettings = field(default_factory=LogSettings)


SECTIONS: dict[str, type[Any]] = {
    "server": ServerSettings,
    "engine": EngineSettings,
    "scheduler": SchedulerSettings,
    "limits": LimitSettings,
    "auth": AuthSettings,
    "log": LogSettings,
}


@dataclass(frozen=True)
class SettingField:
    """One field of one section, for whoever makes flags, tables or checks of them."""

    section: str
    name: str
    type: str
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    secret: bool

    @property
    def key(self) -> str:
        """As in the settings file and in messages: "limits.max_body_mib"."""
        return f"{self.section}.{self.name}"

    @property
    def word(self) -> str:
        """Unique among all sections; the flag is this with dashes. The logs' fields are too general to stand alone."""
        return f"log_{self.name}" if self.section == "log" else self.name

    @property
    def flag(self) -> str:
        """Such as "--max-body-mib"."""
        return "--" + self.word.replace("_", "-")

    @property
    def variable(self) -> str:
        """Such as "SLIMPATH_MAX_BODY_MIB"."""
        return f"SLIMPATH_{self.word.upper()}"


def setting_fields() -> list[SettingField]:
    """All fields of all sections, in their order."""
    return [_describe(section, item) for section, kind in SECTIONS.items() for item in fields(kind)]


def _describe(section: str, item: Field[Any]) -> SettingField:
    if item.default is MISSING or "help" not in item.metadata:
        raise TypeError(f"{section}.{item.name}: make it with setting()")
    return SettingField(section, item.name, str(item.type), item.default, **item.metadata)
