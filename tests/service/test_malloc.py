"""What the server tells the allocator, seen in a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator"
)

MEASURE = """
import json, resource, sys
from slimpath.service.malloc import give_large_buffers_back

def resident_kb():
    return int(open("/proc/self/statm").read().split()[1]) * 4

told = sys.argv[1] == "told" and give_large_buffers_back()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in (1 << 20, 64 << 20):
    for _ in range(3):
        bytes(bytearray(b"x") * size)
before = faults()
for _ in range(50):
    body = bytearray(b"x") * (1 << 20)
    whole = bytes(body)
    del body, whole
print(json.dumps({"told": told, "faults": (faults() - before) / 50, "resident_kb": resident_kb()}))
"""


def measured(how: str) -> dict[str, float]:
    run = subprocess.run([sys.executable, "-c", MEASURE, how], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(run.stdout)


def test_megabytes_that_were_freed_are_used_again_and_large_buffers_given_back() -> None:
    found = measured("told")
    assert found["told"]
    # Two buffers of 256 pages each a turn: had the system taken them back, every page would be cleared anew.
    assert found["faults"] < 50
    assert found["resident_kb"] < measured("not told")["resident_kb"] + (16 << 10)


OF_A_MODEL = """
import json
from slimpath.service.malloc import give_large_buffers_back, opening_a_model

def resident_kb():
    return int(open("/proc/self/statm").read().split()[1]) * 4

give_large_buffers_back()
before = resident_kb()
def buffers():
    return [bytearray(b"x") * (300 << 10) for _ in range(50)]

with opening_a_model():
    with opening_a_model():
        model = buffers()
    model += buffers()
stays = bytearray(b"x") * (200 << 10)  # a heap would have it behind the model
opened = resident_kb()
del model
closed = resident_kb()
requests = buffers()
del requests[:-1]  # in a heap again: below the last one, which stays
print(json.dumps({"opened_kb": opened - before, "closed_kb": closed - before, "later_kb": resident_kb() - before}))
"""


def test_what_a_model_held_goes_back_when_it_is_closed_whatever_was_allocated_after_it() -> None:
    run = subprocess.run([sys.executable, "-c", OF_A_MODEL], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(run.stdout)
    assert found["opened_kb"] > 29_000
    assert found["closed_kb"] < 2_000
    assert found["later_kb"] > 14_000
