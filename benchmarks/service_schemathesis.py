"""Property tests of a whole server from its own openapi.json: no 5xx but 503 and 504, no undocumented status.

    python benchmarks/service_schemathesis.py --cases 2000 --write
    python benchmarks/service_schemathesis.py --url http://127.0.0.1:8000 --cases 500

Without --url it starts `slimpath serve` of --bundle (the bundled model) and ends it again. Exit code 0: nothing was
found; schemathesis prints the rest. --write keeps what came of it for docs/benchmarks.md. This file is also what
schemathesis loads as its hooks: pictures where bytes are asked for, and now and then a model, a task or a size that the
server has, so that requests get beyond the checks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from method import table

PART = "service_schemathesis"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,ignored_auth"
)
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["1xx", "2xx", "3xx", "4xx", 503, 504]
"""
NAMES_VARIABLE = "SLIMPATH_SCHEMATHESIS_MODEL"
READY_S = 300.0
COVERAGE_FROM = 500  # cases; the phase of boundary values alone makes a thousand


def register_hooks() -> None:
    """Tell schemathesis what images look like, and what the server is likely to have."""
    import cv2
    import numpy as np
    import schemathesis
    from hypothesis import strategies as st

    def image(extension: str, height: int, width: int) -> bytes:
        noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        return cv2.imencode(extension, noise)[1].tobytes()

    sizes_hw = ((1, 1), (40, 60), (33, 17))
    whole = st.sampled_from([image(ext, *hw) for ext in (".jpg", ".png", ".bmp") for hw in sizes_hw])
    cut = whole.flatmap(lambda data: st.integers(0, len(data)).map(lambda count: data[:count]))
    binary = st.one_of(whole, cut, st.binary(max_size=300))
    schemathesis.openapi.format("binary", binary)
    for media_type in ("image/jpeg", "image/png", "application/octet-stream"):
        schemathesis.openapi.media_type(media_type, binary)
    likely = {
        "model": os.environ.get(NAMES_VARIABLE, ""), "version": "1", "tasks": "depth", "budget": "0.9", "size": "",
        "format": "npy", "response": "zip", "output_size": "original",
    }  # fmt: skip

    def substitute(values: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, value in (values or {}).items():
            if name in likely and values is not None and len(str(value)) % 3:
                values[name] = likely[name]
        return values

    @schemathesis.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        return substitute(path_parameters)

    @schemathesis.hook
    def map_query(context: Any, query: Any) -> Any:
        return substitute(query)


@contextmanager
def server(bundle: str | None) -> Iterator[tuple[str, int]]:
    """`slimpath serve` on a free port; yields its address and its process id."""
    command = [sys.executable, "-m", "slimpath", "serve", "--port", "0", "--log-level", "error"]
    process = subprocess.Popen([*command, *([bundle] if bundle else [])], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"ready on (\S+)", line):
                yield found[1], process.pid
                return
        raise SystemExit(f"the server did not start: exit code {process.wait(READY_S)}")
    finally:
        process.terminate()
        process.wait(60)


def run(url: str, cases: int, seed: int, report: Path | None = None) -> int:
    """At least `cases` cases against a running server; returns schemathesis's exit code.

    Args:
        report: where schemathesis writes its JSON report.
    """
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=30) as answer:
        operations = sum(len(methods) for methods in json.load(answer)["paths"].values())
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        model = json.load(answer)["models"][0]["name"]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "schemathesis.toml"
        config.write_text(CONFIG)
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": Path(__file__).stem,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
            NAMES_VARIABLE: model,
        }
        phases = "examples,coverage,fuzzing" if cases >= COVERAGE_FROM else "examples,fuzzing"
        script = Path(sys.executable).parent / "schemathesis"
        command = [
            str(script), "--config-file", str(config), "run", f"{url}/openapi.json", "--no-color", "--no-shrink",
            "--seed", str(seed), "--max-examples", str(-(-cases // operations)), "--checks", CHECKS,
            "--phases", phases, "--continue-on-failure", "--request-timeout", "60",
            "--suppress-health-check", "all", "--generation-database", "none",
            *(() if report is None else ("--report-json-path", str(report))),
        ]  # fmt: skip
        return subprocess.run(command, env=environment, cwd=folder, check=False).returncode


def statuses(metrics: str) -> Counter[str]:
    """How often the server answered with each status, from its own /metrics."""
    found: Counter[str] = Counter()
    for status, count in re.findall(r'^slimpath_http_requests_total\{.*status="(\d+)".*\} (\S+)$', metrics, re.M):
        found[status] += int(float(count))
    return found


def text_of(report: dict[str, Any], answers: Counter[str]) -> str:
    """What schemathesis reports, as a table."""
    cases = report["test_cases"]
    rows = [
        ["operations", str(report["operations"]["tested"])],
        ["requests generated", str(cases["generated"])],
        ["of them with a failed check", str(cases["with_failures"])],
        *([f"answered with {status}", str(count)] for status, count in sorted(answers.items())),
    ]
    return (
        f"{table(['', 'schemathesis ' + report['schemathesis_version']], rows)}\nChecks: {CHECKS.replace(',', ', ')}; "
        f"of the 5xx only 503 and 504 pass. Seed {report['seed']}.\n"
    )


def measure(arguments: argparse.Namespace) -> int:
    """Start a server, send it the requests, and keep the report if that was asked for."""
    with server(arguments.bundle) as (url, _), tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "report.json" if arguments.write else None
        code = run(url, arguments.cases, arguments.seed, kept)
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            answers = statuses(answer.read().decode())
        if kept is not None:
            from page import keep

            report = json.loads(kept.read_text())
            keep(PART, [("Requests made from openapi.json", text_of(report, answers), report)])
    return code


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--bundle", help="a folder to serve; the bundled model unless given")
    parser.add_argument("--write", action="store_true", help="keep the figures for docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.url:
        raise SystemExit(run(arguments.url.rstrip("/"), arguments.cases, arguments.seed))
    raise SystemExit(measure(arguments))


if __name__ == "__main__":
    main()
elif __name__ == Path(__file__).stem and os.environ.get("SCHEMATHESIS_HOOKS") == Path(__file__).stem:
    register_hooks()
