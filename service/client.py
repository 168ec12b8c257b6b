"""A small client of /v1: arrays in, arrays out. `from slimpath import Client`. Needs slimpath[service] (httpx)."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx
import msgspec
import numpy as np

from .client_errors import ConnectionFailed, ServerError, error_of
from .v1.schemas import Cost, ImageInfo, InferAnswer, ModelInfo, ModelRef, ModelsAnswer, PlanAnswer, PlanInfo, Quality

ClientImage = str | os.PathLike[str] | bytes | np.ndarray


@dataclass(frozen=True, eq=False)
class Answer(Mapping[str, np.ndarray]):
    """The answers for one image: task -> array, as in `slimpath.Result`, padding cut away.

    Args:
        plan: the configuration that ran, and in `plan.reasons` why.
        cost: predicted and measured.
        quality: whether it was lowered, and what is kept of each task.
        classes: task -> names of its classes, of class tasks.
        panel_png: one picture of all tasks, where it was asked for.
    """

    values_by_task: dict[str, np.ndarray]
    id: str
    model: ModelRef
    image: ImageInfo
    plan: PlanInfo
    cost: Cost
    quality: Quality
    classes: dict[str, list[str]]
    panel_png: bytes | None

    def __getitem__(self, task: str) -> np.ndarray:
        return self.values_by_task[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_task)

    def __len__(self) -> int:
        return len(self.values_by_task)

    def label(self, task: str) -> tuple[str, float]:
        """The likeliest class of an image-level task, and its probability."""
        best = int(np.argmax(self[task]))
        return self.classes[task][best], float(self[task][best])


class Client:
    """Talks to a server; safe to use from several threads.

    Args:
        url: of the server.
        api_key: None takes SLIMPATH_API_KEY from the environment, if it is there.
        timeout_s: of each request, connecting included.
        verify: certificates of https: True, or the path of a certificate to trust.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        verify: bool | str = True,
    ) -> None:
        import ssl

        key = os.environ.get("SLIMPATH_API_KEY") if api_key is None else api_key
        self._http = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify,
        )

    def infer(
        self,
        image: ClientImage,
        tasks: str | Iterable[str] | Mapping[str, float] | None = None,
        budget: str | float | None = None,
        *,
        deadline_ms: float | None = None,
        size: str | None = None,
        output_size: Literal["network", "original"] = "network",
        panel: bool = False,
        strict: bool = False,
        priority: int = 0,
        model: str | None = None,
    ) -> Answer:
        """Run tasks on an image.

        Args:
            image: a path, the bytes of an image file, or uint8 [H, W, 3] RGB, which is sent as PNG.
            tasks, budget, size, output_size, strict: as of `slimpath.Engine`.
            deadline_ms: from the request's arrival at the server.
            model: None for the server's first.

        Raises:
            ServerError: the server refused; see its subclasses, `code` and `retry_after_s`.
            ConnectionFailed: there is no answer.
            OSError: the file cannot be read.
        """
        options = {
            "tasks": _tasks_text(tasks),
            "budget": None if budget is None else str(budget),
            "deadline_ms": deadline_ms,
            "size": size,
            "output_size": output_size,
            "panel": "true" if panel else None,
            "strict": "true" if strict else None,
            "priority": priority or None,
            "model": model,
            "format": "npy",
            "response": "zip",
        }
        given = {name: value for name, value in options.items() if value is not None}
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._send("POST", "/v1/infer", params=given, content=_image_bytes(image), headers=headers)
        return _read_archive(answer.content)

    def models(self) -> list[ModelInfo]:
        """What the server serves."""
        return msgspec.json.decode(self._send("GET", "/v1/models").content, type=ModelsAnswer).models

    def plan(
        self,
        tasks: str | Iterable[str] | Mapping[str, float] | None = None,
        budget: str | float | None = None,
        *,
        size: str | None = None,
        strict: bool = False,
        curve: bool = False,
        model: str | None = None,
    ) -> PlanAnswer:
        """The configuration that a request would get, without running it; with `curve` also the choices there are."""
        options = {
            "tasks": _tasks_text(tasks),
            "budget": None if budget is None else str(budget),
            "size": size,
            "strict": "true" if strict else None,
            "curve": "true" if curve else None,
            "model": model,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return msgspec.json.decode(self._send("GET", "/v1/plan", params=given).content, type=PlanAnswer)

    def ready(self) -> bool:
        """Whether the server answers requests now; False also where nothing listens."""
        try:
            return self._http.get("/v2/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"no answer from {self._http.base_url}: {reason}", hint="is the server up?"
            ) from error
        if answer.status_code != 200:
            raise error_of(answer.status_code, answer.content, answer.headers.get("retry-after"))
        return answer


def _tasks_text(tasks: str | Iterable[str] | Mapping[str, float] | None) -> str | None:
    if tasks is None or isinstance(tasks, str):
        return tasks
    if isinstance(tasks, Mapping):
        return ",".join(f"{task}={preference:g}" for task, preference in tasks.items())
    return ",".join(tasks)


def _image_bytes(image: ClientImage) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, np.ndarray):
        return Path(image).read_bytes()
    from ..runtime.imaging.pictures import png_bytes

    return png_bytes(image)


def _read_archive(data: bytes) -> Answer:
    """The arrays of an answer in ZIP form; nothing in it is ever unpickled.

    Raises:
        ServerError: it is not such an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            document = msgspec.json.decode(archive.read("answer.json"), type=InferAnswer)
            values = {
                task: np.load(io.BytesIO(archive.read(output.file or "")), allow_pickle=False)
                for task, output in document.outputs.items()
            }
            panel = archive.read("panel.png") if document.panel is not None else None
    except (zipfile.BadZipFile, KeyError, ValueError, msgspec.DecodeError) as error:
        raise ServerError(200, "bad_answer", f"this is not an answer of slimpath: {error}") from None
    classes = {task: output.classes for task, output in document.outputs.items() if output.classes}
    return Answer(
        values, document.id, document.model, document.image, document.plan, document.cost, document.quality, classes,
        panel,
    )  # fmt: skip
