"""The bundled model behind LitServe; `rival_litserve.py` starts it, with an interpreter that has LitServe.

A worker decodes the picture, calls slimpath's engine at full width and puts the arrays into a ZIP archive: the same
functions, graphs and bytes as in `slimpath serve`, so that only the servers differ. Settings come as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import Annotated, Any

import litserve  # pyright: ignore[reportMissingImports]  # in an environment of its own
import numpy as np
from fastapi import Depends, Request, Response

from slimpath.runtime import Engine, Plan, Result, load_image
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.imaging.images import LoadedImage
from slimpath.runtime.imaging.pictures import image_part
from slimpath.runtime.request import Request as EngineRequest

SPINNING = {
    "slimpath": {},  # 50 us, as slimpath sets it
    "default": {"session.intra_op.allow_spinning": "1", "session.intra_op.spin_duration_us": "-1"},  # ONNX Runtime's
    "off": {"session.intra_op.allow_spinning": "0"},
}


class Backend(OrtBackend):
    """slimpath's sessions, whose threads wait as they are told.

    Args:
        spinning: a key of SPINNING.
    """

    def __init__(self, threads: int, spinning: str) -> None:
        super().__init__(threads=threads)
        self._spinning = spinning

    def _cpu_options(self, ort: Any, folder: Any, tier: Any) -> Any:
        options = super()._cpu_options(ort, folder, tier)
        for key, value in SPINNING[self._spinning].items():
            options.add_session_config_entry(key, value)
        return options


async def whole_body(request: Request) -> bytes:
    """The picture as it was sent. LitServe's own way, `await request.json()`, would be slower."""
    return await request.body()


class Api(litserve.LitAPI):
    """JPEG -> arrays of all tasks in a ZIP archive. Lives in LitServe's worker processes.

    Args:
        settings: `rival_litserve.Settings` as a dictionary.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(max_batch_size=settings["batch"], batch_timeout=settings["batch_timeout_s"])
        self._settings = settings

    def setup(self, device: str) -> None:
        """Open the engine and run the full plan once for every size of batch."""
        backend = Backend(self._settings["threads"], self._settings["spinning"])
        self._engine = Engine.load(backend=backend, tier="packed", profile=None)
        self._plan: Plan = self._engine.plan(None)
        self._fit: Any = self._engine.bundle.manifest.preprocessing.fit
        picture = load_image(np.full((480, 640, 3), 128, np.uint8))
        for images in range(1, self._settings["batch"] + 1):
            self._run([picture] * images)

    def decode_request(self, request: Any) -> LoadedImage:
        """As the server decodes: a large JPEG is scaled down on the way."""
        return load_image(request, plane_hw=self._plan.size_hw, fit=self._fit)

    def batch(self, inputs: list[LoadedImage]) -> list[LoadedImage]:
        return inputs

    def predict(self, inputs: Any) -> Any:
        """One picture, or a list of them where batches are on."""
        return self._run(inputs) if isinstance(inputs, list) else self._run([inputs])[0]

    def unbatch(self, output: list[Result]) -> list[Result]:
        return output

    def encode_response(self, output: Any) -> Response:
        """A .npy file for each task, not compressed."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for task in output:
                data = io.BytesIO()
                np.save(data, np.ascontiguousarray(image_part(output[task], output)))
                archive.writestr(zipfile.ZipInfo(f"{task}.npy"), data.getvalue())
        return Response(buffer.getvalue(), media_type="application/zip")

    def _run(self, pictures: list[LoadedImage]) -> list[Result]:
        return self._engine.run_batch([EngineRequest(picture, None, self._plan) for picture in pictures])


# LitServe reads the types of the request and of the answer from the signature, which `annotations` has made strings.
Api.decode_request.__annotations__["request"] = Annotated[bytes, Depends(whole_body)]
Api.encode_response.__annotations__["return"] = Response


def main() -> None:
    """Serve until the process is ended: arguments are the port and the settings."""
    port, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    server = litserve.LitServer(
        Api(settings),
        accelerator="cpu",
        workers_per_device=settings["workers"],
        fast_queue=settings["fast_queue"],
    )
    server.run(
        host="127.0.0.1", port=port, num_api_servers=settings["api_servers"], log_level="warning",
        generate_client_file=False, access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
