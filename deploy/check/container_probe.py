"""What a container of the server has to do, tried from inside by its own user. `clean_root.sh` runs it.

    python3 /tmp/container_probe.py slimpath serve --host 0.0.0.0     (the image's entry point and command)

Needs the image's environment and /tmp/synthrooms_scene.npz, whose picture it sends. Exit code 0: all of it held.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request

ADDRESS = "http://127.0.0.1:8000"
START_S = 300.0  # generous: this may be an emulated or a loaded machine


def main(command: list[str]) -> None:
    """Every promise in turn; an AssertionError says which one was broken."""
    assert os.getuid() != 0 and os.getgid() != 0, "runs as root"
    for folder in ("/", "/etc", "/opt/slimpath"):
        assert not writable(folder), f"{folder} can be written to"
    assert writable("/tmp") and writable(os.environ["SLIMPATH_CACHE"]), "no place to write"
    print(f"user {os.getuid()}:{os.getgid()}, root file system read-only, /tmp and the cache writable")

    picture = write_picture("/tmp/room.png")
    subprocess.run(["slimpath", "run", picture, "--out", "/tmp/out"], capture_output=True, check=True)
    print("slimpath run writes", ", ".join(sorted(os.listdir("/tmp/out"))))

    refused = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert refused.returncode == 2, f"started without keys: {refused}"
    print("without keys:", refused.stderr.strip().splitlines()[-1])

    assert not healthy(), "the health check is content before the server is there"
    key = secrets.token_hex(16)
    environment = {**os.environ, "SLIMPATH_API_KEYS": f"probe:{key}"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(server)
        print("health check: not ready before, ready now")
        print("POST /v1/infer:", infer(picture, key))
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=60)
        assert code == 0, f"exit code {code} after SIGTERM"
        print("SIGTERM: exit code 0")
    finally:
        server.kill()
        server.wait()


def writable(folder: str) -> bool:
    """Can this user make a file there?"""
    path = os.path.join(folder, f".probe-{os.getpid()}")
    try:
        with open(path, "x"):
            pass
    except OSError:
        return False
    os.remove(path)
    return True


def write_picture(path: str) -> str:
    """The bundled rendered room, as PNG."""
    script = (
        "import sys, cv2, numpy as np; scene = np.load('/tmp/synthrooms_scene.npz'); "
        "cv2.imwrite(sys.argv[1], scene['image'][..., ::-1])"
    )
    subprocess.run(["/opt/slimpath/bin/python", "-c", script, path], check=True)
    return path


def healthy() -> bool:
    """The image's own health check."""
    return subprocess.run(["slimpath-healthcheck"], capture_output=True, check=False).returncode == 0


def wait_until_healthy(server: subprocess.Popen[bytes]) -> None:
    """Poll as an engine of containers would."""
    until = time.monotonic() + START_S
    while not healthy():
        assert server.poll() is None, f"the server ended with exit code {server.returncode}"
        assert time.monotonic() < until, f"not ready after {START_S:.0f} s"
        time.sleep(1)


def infer(picture: str, key: str) -> str:
    """One answer, in short."""
    with open(picture, "rb") as file:
        body = file.read()
    request = urllib.request.Request(f"{ADDRESS}/v1/infer?tasks=depth,scene", body, {"Content-Type": "image/png"})
    request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=START_S) as answer:
        document = json.load(answer)
        return f"{answer.status}, {', '.join(sorted(document['outputs']))}"


if __name__ == "__main__":
    main(sys.argv[1:])
