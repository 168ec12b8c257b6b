"""`slimpath serve`: bundles over HTTP. Its options are made from the settings' dataclasses, see `serve_options`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import need, verb
from .output import print_json
from .serve_options import as_options, given_flags

if TYPE_CHECKING:
    from ..service.registry import ModelRegistry
    from ..service.settings_sources import LoadedSettings

LIBRARIES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")


@as_options
@verb
def serve(
    bundles: list[str] | None = None,
    config: Path | None = None,
    print_config: bool = False,
    json: bool = False,
    debug: bool = False,
    **flags: Any,
) -> None:
    """Answer requests over HTTP: narrower before late.

    Serves the bundled model, or each BUNDLE (a folder, or NAME=FOLDER), on this machine alone unless --host says
    otherwise. /v1 is for people, /v2 the Open Inference Protocol, /metrics for Prometheus, / a page to try it.
    Settings come from a file, then SLIMPATH_* in the environment, then options; --print-config shows what came out.
    SIGTERM or Ctrl-C answers what was accepted, then ends; a second one ends at once.

    \b
    Examples:
      slimpath serve
      curl -F file=@photo.jpg "http://127.0.0.1:8000/v1/infer?tasks=depth"
      slimpath serve rooms=my-bundle --port 9000 --max-body-mib 4
      SLIMPATH_API_KEYS=me:$(openssl rand -hex 16) slimpath serve --host 0.0.0.0
    """
    from ..service.settings_sources import load_settings

    loaded = load_settings(given_flags(flags), bundles=bundles or (), file=config)
    if print_config:
        _print_config(loaded, json)
        return
    need(LIBRARIES, "service", "`slimpath serve`")
    from ..service.server import run

    run(loaded.settings, on_ready=_announce)


def _announce(url: str, registry: ModelRegistry) -> None:
    lines = [f"slimpath: {model.name}: {', '.join(model.tasks)}" for model in registry.models()]
    # In one piece: the log has a thread of its own that writes to the same place.
    sys.stderr.write("\n".join([*lines, f"slimpath: ready on {url}", ""]))
    sys.stderr.flush()


def _print_config(loaded: LoadedSettings, as_json: bool) -> None:
    from ..service.settings_show import settings_document, settings_text

    if as_json:
        print_json(settings_document(loaded))
    else:
        print(settings_text(loaded))
