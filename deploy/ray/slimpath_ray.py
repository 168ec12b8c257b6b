"""slimpath's server as a Ray Serve application: the same engine and the same API in several replicas.

    cd deploy/ray && serve run slimpath_ray:build max_replicas=2        (docs/scale-out.md)

Every replica is a process with its own engine and its own scheduler, so deadlines, narrowing and refusals work as with
`slimpath serve`. Ray adds and removes replicas by how many requests wait or run, which is the length of their queues,
and passes each request to the shorter one of two. It needs `ray[serve]` beside slimpath[service].
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from slimpath.service.registry import ModelRegistry
    from slimpath.service.settings import Settings

POLL_S = 0.1
HEALTH_PERIOD_S = 10.0
# What changes a whole server would reach one replica of several; address and certificate are those of Ray's proxy.
FORBIDDEN = ("auth.admin", "server.port", "server.tls_cert", "server.tls_key", "scheduler.fifo")


@dataclass(frozen=True)
class Options:
    """Arguments of `build`: `serve run slimpath_ray:build name=value`, or `args` in a configuration file.

    Args:
        bundles: folders, or NAME=FOLDER, at the same place on every node; none for the bundled model.
        min_replicas, max_replicas: between which Ray chooses.
        cpus: that Ray reserves for a replica; its engine has as many threads.
        target_ongoing: requests that should wait or run in a replica on average; with more, replicas are added.
        max_ongoing: that Ray hands to a replica; the others wait in Ray, where no deadline is seen.
        upscale_delay_s, downscale_delay_s: how long there must have been too many, or too few.
        settings: of the server, as in docs/service.md: {"limits.max_body_mib": 8}.
    """

    bundles: tuple[str, ...] = ()
    min_replicas: int = 1
    max_replicas: int = 4
    cpus: int = 1
    target_ongoing: float = 2.0
    max_ongoing: int = 64
    upscale_delay_s: float = 5.0
    downscale_delay_s: float = 120.0
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_options(arguments: Mapping[str, Any]) -> Options:
    """Arguments, which are texts if they come from a command line, with their types.

    Raises:
        ValueError: one that there is not, or of a wrong type.
    """
    values = dict(arguments)
    found: dict[str, Any] = {"settings": dict(values.pop("settings", {}))}
    bundles = values.pop("bundles", ())
    found["bundles"] = tuple(filter(None, bundles.split(",") if isinstance(bundles, str) else bundles))
    kinds = {item.name: float if item.type == "float" else int for item in fields(Options)}
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"there is no argument {name}; there are {', '.join(kinds)}")
        try:
            found[name] = kinds[name](value)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a number, got {value!r}") from None
    options = Options(**found)
    if not 1 <= options.min_replicas <= options.max_replicas:
        raise ValueError(
            f"expected 1 <= min_replicas <= max_replicas, got {options.min_replicas} and {options.max_replicas}"
        )
    if options.cpus < 1 or options.target_ongoing <= 0 or options.max_ongoing < 1:
        raise ValueError("cpus, target_ongoing and max_ongoing must be positive")
    return options


def read_settings(options: Options) -> Settings:
    """Settings of one replica's server: what was given, and as many threads as it has CPUs.

    Raises:
        SlimpathError, ValueError: a setting is unknown, out of bounds or belongs to a whole server.
    """
    from slimpath.service.settings import setting_fields
    from slimpath.service.settings_sources import load_settings

    known = {item.key for item in setting_fields()}
    for name in options.settings:
        if name in FORBIDDEN:
            raise ValueError(f"{name} cannot be set here: docs/scale-out.md says what takes its place")
        if name not in known:
            raise ValueError(f"there is no setting {name}; docs/service.md has all of them")
    given = {"engine.threads": options.cpus, "scheduler.runners": 1, **options.settings}
    texts = {key: ",".join(value) if isinstance(value, (list, tuple)) else str(value) for key, value in given.items()}
    settings = load_settings(texts, bundles=options.bundles).settings
    if settings.auth.admin:
        raise ValueError("SLIMPATH_ADMIN is set: loading over HTTP would reach one replica of several")
    return settings


def make_replica_app(settings: Settings) -> FastAPI:
    """The server's application; its start-up ends when the models are warm, and fails if they cannot be loaded."""
    from slimpath.service.loading_thread import keep_arenas_few
    from slimpath.service.malloc import give_large_buffers_back
    from slimpath.service.server import make_app

    keep_arenas_few()
    give_large_buffers_back()
    failures: list[BaseException] = []
    app, registry = make_app(settings, on_failure=failures.append)
    app.router.lifespan_context = waiting(app.router.lifespan_context, registry, failures)
    return app


def waiting(
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]], registry: ModelRegistry, failures: list[BaseException]
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan that is only entered once the models are ready: Ray sends requests to a replica from then on."""

    @asynccontextmanager
    async def entered(app: Any) -> AsyncIterator[None]:
        async with lifespan(app):
            while not registry.ready():
                if failures:
                    raise failures[0]
                await asyncio.sleep(POLL_S)
            yield

    return entered


class Replica:
    """What Ray runs; `serve.ingress` puts the application around it, which is then `app`."""

    app: FastAPI

    def check_health(self) -> None:
        """Called every ten seconds; a replica whose engine hangs is replaced.

        Raises:
            RuntimeError: it cannot answer.
        """
        if not self.app.state.registry.ready():
            raise RuntimeError("a model of this replica cannot answer")


def build(arguments: dict[str, Any]) -> Any:
    """The application that `serve run` and `serve deploy` start.

    Raises:
        ValueError, SlimpathError: an argument or a setting cannot be used. Bundles are only read by the replicas.
    """
    serve: Any = import_module("ray.serve")  # not among slimpath's dependencies: installed where it is wanted
    options = read_options(arguments)
    settings = read_settings(options)

    def application() -> FastAPI:  # called in the replica: an application cannot be sent to another process
        return make_replica_app(settings)

    deployment = serve.deployment(
        name="slimpath",
        ray_actor_options={"num_cpus": options.cpus},
        max_ongoing_requests=options.max_ongoing,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=settings.server.drain_s,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_ongoing,
            "upscale_delay_s": options.upscale_delay_s,
            "downscale_delay_s": options.downscale_delay_s,
        },
    )
    return deployment(serve.ingress(application)(Replica)).bind()
