"""slimpath: one model, many vision tasks, any budget.

>>> from slimpath import Engine
>>> result = Engine.load()("room.jpg", tasks="depth,semseg", budget=0.5)

Names load on first use: `import slimpath` imports neither onnxruntime nor cv2 nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import Bundle, Engine, Plan, Request, Result, SlimpathError
    from .service.client import Client

__version__ = "0.1.0"
__all__ = ["Bundle", "Client", "Engine", "Plan", "Request", "Result", "SlimpathError", "__version__"]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = ".service.client" if name == "Client" else ".runtime"
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
