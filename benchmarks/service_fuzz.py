"""Malformed requests against a whole server: every answer a documented refusal, the server ready and no larger.

    python benchmarks/service_fuzz.py --cases 10000 --write
    python benchmarks/service_fuzz.py --url http://127.0.0.1:8000 --pid 1234 --cases 500

Without --url it starts `slimpath serve` of --bundle (the bundled model). Damaged images, forms, JSON documents, binary
tensors (plain and compressed) and HTTP itself, see `service_fuzz_cases.py`. Exit code 0: nothing was found. --write
keeps what came of it for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).parent))
from method import table
from page import keep
from service_fuzz_cases import Case, make_case
from service_schemathesis import server

PART = "service_fuzz"
ALLOWED = frozenset((200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 503, 504))
SOCKET_S = 3.0
MEMORY_SAMPLES = 40
MOST_GROWTH = 0.05  # of the last quarter's median over the second's: the first warms caches


def send(client: httpx.Client, address: tuple[str, int], case: Case) -> int:
    """The status of the answer; 0 where the server hung up without one (it may, of what is no HTTP)."""
    if case.raw:
        return _send_raw(address, case.raw)
    headers = {name.encode(): value.encode("latin-1") for name, value in case.headers.items()}
    answer = client.post(case.path, content=case.body, headers=headers)
    if answer.status_code != 200:
        _check_error(answer)
    return answer.status_code


def _send_raw(address: tuple[str, int], data: bytes) -> int:
    with socket.create_connection(address, timeout=SOCKET_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            head = connection.recv(64)
            while head.startswith(b"HTTP/1.1 100"):  # an answer to Expect; the one that counts follows
                head = head.partition(b"\r\n\r\n")[2] or connection.recv(64)
        except (TimeoutError, ConnectionError):
            return 0
    return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0


def _check_error(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    text = error if isinstance(error, str) else error["message"]
    for leak in ("/work", "/home", "/usr", "/opt", "/io/", "site-packages", "Traceback", ".py"):
        if leak in text:
            raise AssertionError(f"an error tells of the machine: {text}")


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in 1e6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def run(url: str, cases: int, seed: int, pid: int | None) -> dict[str, Any]:
    """Send them all; what came back, by family and status, and what should not have."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    seen: Counter[str] = Counter()
    bad: list[str] = []
    memory_mb: list[float] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        model = client.get("/v1/models").json()["models"][0]["name"]
        for number in range(cases):
            case = make_case(seed + number, model)
            try:
                status = send(client, address, case)
            except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
                bad.append(f"seed {seed + number} ({case.family}): {type(error).__name__}: {error}"[:300])
                continue
            seen[f"{case.family} {status}"] += 1
            if status not in ALLOWED and not (case.raw and status == 0):
                bad.append(f"seed {seed + number} ({case.family}): status {status}")
            if pid is not None and number % max(1, cases // MEMORY_SAMPLES) == 0:
                memory_mb.append(resident_mb(pid))
        ready = client.get("/v2/health/ready").status_code == 200
    return {
        "cases": cases,
        "seed": seed,
        "answers": dict(sorted(seen.items())),
        "bad": bad,
        "ready_afterwards": ready,
        "memory_mb": [round(value, 1) for value in memory_mb],
        "growth": growth(memory_mb),
    }


def text_of(report: dict[str, Any]) -> str:
    """A report as a table: what was answered to which kind of request, and what it left behind."""
    counts: dict[str, Counter[str]] = {}
    for words, count in report["answers"].items():
        family, _, status = words.rpartition(" ")
        counts.setdefault(family, Counter())[status] += count
    statuses = sorted({status for found in counts.values() for status in found})
    rows = [[family, *(str(found[status] or "") for status in statuses)] for family, found in counts.items()]
    grew = "not known" if report["growth"] is None else f"{100 * report['growth']:+.1f} %"
    return (
        f"{table(['requests', *(_named(status) for status in statuses)], rows)}\n{report['cases']} requests from seed "
        f"{report['seed']}; answers that should not have been: {len(report['bad'])}; ready afterwards: "
        f"{'yes' if report['ready_afterwards'] else 'no'}; resident memory, the last quarter's median over the "
        f"second's: {grew} (at most {100 * MOST_GROWTH:.0f} %).\n"
    )


def _named(status: str) -> str:
    return "hung up on" if status == "0" else status


def growth(memory_mb: list[float]) -> float | None:
    """The last quarter's median over the second quarter's, minus 1; None for too few samples."""
    quarter = len(memory_mb) // 4
    if quarter < 2:
        return None
    return round(statistics.median(memory_mb[-quarter:]) / statistics.median(memory_mb[quarter : 2 * quarter]) - 1, 4)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--pid", type=int, help="its process, whose memory is watched")
    parser.add_argument("--bundle", help="a folder to serve; the bundled model unless given")
    parser.add_argument("--write", action="store_true", help="keep the figures for docs/benchmarks.md")
    parser.add_argument("--out", type=Path, help="write the report here, as JSON")
    arguments = parser.parse_args()
    started = nullcontext((arguments.url, arguments.pid)) if arguments.url else server(arguments.bundle)
    with started as (url, pid):
        report = run(url, arguments.cases, arguments.seed, pid)
    text = json.dumps(report, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)
    if arguments.write:
        keep(PART, [("Malformed requests", text_of(report), report)])
    grew = report["growth"] is not None and report["growth"] > MOST_GROWTH
    raise SystemExit(1 if report["bad"] or not report["ready_afterwards"] or grew else 0)


if __name__ == "__main__":
    main()
