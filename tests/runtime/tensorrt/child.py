"""The fakes for a process of its own: settings come in the environment variable FAKE_TENSORRT, as JSON.

`tensorrt` and `cuda.bindings` themselves are files that the fixture `child` puts on the child's path.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from slimpath.tests.runtime.tensorrt.fake_machine import CudaFake, Machine
from slimpath.tests.runtime.tensorrt.fake_tensorrt import TensorrtFake

SETTINGS = json.loads(os.environ["FAKE_TENSORRT"])
FAKE = TensorrtFake(Machine(**SETTINGS.get("machine", {})), SETTINGS["version"])
CUDA = CudaFake(FAKE.machine, "13.5.0")


def _misbehave() -> None:
    how = SETTINGS.get("build", "")
    if how == "hangs":
        time.sleep(600)
    elif how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "crashes":
        print("the last words of a library", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exits":
        os._exit(7)
    elif how == "prints":
        print('{"kind": "progress", "text": "noise"}', flush=True)  # a library that prints to stdout


FAKE.on_build = _misbehave
FAKE.build_fails = SETTINGS.get("build_fails", "")
FAKE.noise = SETTINGS.get("noise", 0.0)
