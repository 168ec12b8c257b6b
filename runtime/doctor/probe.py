"""Tries one library out and prints what it found as JSON. Run in a process of its own, by `probes`: it may crash.

Imports nothing of slimpath but in `answer`, and only the standard library at the top.
"""

import ctypes
import json
import sys
import time


def onnxruntime():
    """Providers, and what keeps the CUDA and TensorRT ones from loading ("" where nothing does)."""
    import os

    import onnxruntime as ort

    folder = os.path.join(os.path.dirname(ort.__file__), "capi")
    if hasattr(ort, "preload_dlls") and "CUDAExecutionProvider" in ort.get_available_providers():
        ort.preload_dlls()  # CUDA libraries that pip installed
    loads = {}
    for name in ("cuda", "tensorrt"):
        library = os.path.join(folder, f"libonnxruntime_providers_{name}.so")
        if os.path.exists(library):
            try:
                ctypes.CDLL(os.path.join(folder, "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
                ctypes.CDLL(library)
                loads[name] = ""
            except OSError as error:
                loads[name] = str(error)
    return {"version": ort.__version__, "providers": ort.get_available_providers(), "loads": loads}


def openvino():
    """Devices."""
    import openvino as ov

    return {"version": ov.__version__.partition("-")[0], "devices": list(ov.Core().available_devices)}


def torch():
    """CUDA, and whether this build has kernels for the device."""
    import torch

    found = {"version": torch.__version__, "cuda": torch.version.cuda or "", "devices": [], "kernels": True}
    if torch.cuda.is_available():
        found["devices"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        found["kernels"] = bool((torch.ones(2, device="cuda") + 1).sum().item() == 4)
    return found


def tensorrt():
    """The version of the bindings and of the library that they load."""
    import importlib

    trt = importlib.import_module("tensorrt")  # no stubs, and a folder of slimpath has the same name
    return {"version": trt.__version__, "works": trt.Logger(trt.Logger.ERROR) is not None}


def cv2():
    """Whether OpenCV has windows, GStreamer and FFmpeg."""
    import re

    import cv2

    build = cv2.getBuildInformation()

    def has(name):
        found = re.search(rf"^\s*{name}:\s*(\S+)", build, re.MULTILINE)
        return found is not None and found[1] not in ("NO", "NONE")

    return {"version": cv2.__version__, "window": has("GUI"), "gstreamer": has("GStreamer"), "ffmpeg": has("FFMPEG")}


def answer(backend):
    """One picture through the bundled model: its smallest configuration."""
    import numpy as np

    from slimpath.runtime import Engine

    started = time.perf_counter()
    with Engine.load(backend=backend, profile=None, tier="mapped") as engine:
        picture = np.full((224, 224, 3), 128, np.uint8)
        result = engine(picture, budget="min")
        loaded = time.perf_counter()
        engine(picture, budget="min")
        taken_ms = (time.perf_counter() - loaded) * 1e3
    finite = all(np.isfinite(np.asarray(result[task], np.float64)).all() for task in result)
    return {"tasks": len(result), "finite": bool(finite), "ms": taken_ms, "first_s": loaded - started}


def main(name, *arguments):
    """Print one line of JSON, the last on stdout: libraries print too."""
    document = globals()[name](*arguments)
    print("\n" + json.dumps(document), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
