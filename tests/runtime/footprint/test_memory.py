"""Memory: what /proc says, page by page."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from slimpath.runtime.footprint import memory
from slimpath.runtime.footprint.memory import PAGE_BYTES

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROLLUP = """5605b6303000-7ffcc82cd000 ---p 00000000 00:00 0                          [rollup]
Rss:               30000 kB
Pss:               20000 kB
Pss_Anon:          15000 kB
Pss_File:           5000 kB
Anonymous:         15500 kB
"""


def proc(root: Path, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    for name, text in files.items():
        (root / "proc/self" / name).write_text(text)
    return root


def test_use_is_read_from_the_kernel_s_sums(tmp_path):
    use = memory.memory_use(proc(tmp_path, smaps_rollup=ROLLUP))
    assert use == memory.MemoryUse(20_480_000, 30_720_000, 15_360_000, 5_120_000)
    assert memory.pss_bytes(tmp_path) == 20_480_000


def test_older_kernels_without_the_split_give_it_by_difference(tmp_path):
    text = "\n".join(line for line in ROLLUP.splitlines() if not line.startswith("Pss_"))
    use = memory.memory_use(proc(tmp_path, smaps_rollup=text))
    assert use is not None and use.anonymous == 15_500 * 1024 and use.mapped == 4_500 * 1024


def test_what_the_kernel_does_not_say_is_none_and_never_0(tmp_path):
    assert memory.memory_use(tmp_path) is None and memory.pss_bytes(tmp_path) is None
    assert memory.peak_bytes(tmp_path) is None and memory.rss_bytes(tmp_path) is None
    assert memory.mapped_bytes(Path("/x"), tmp_path) is None
    assert memory.reset_peak(tmp_path / "nowhere") is False
    assert memory.memory_use(proc(tmp_path, smaps_rollup="garbage\nPss: many kB\n")) is None


def test_mapped_bytes_add_up_all_mappings_of_one_file(tmp_path):
    smaps = (
        "7f00-7f10 r--p 00000000 fe:00 12 /data/my weights.safetensors\nSize: 64 kB\nRss:  40 kB\nPss: 20 kB\n"
        "7f20-7f30 r--p 00010000 fe:00 12 /data/my weights.safetensors\nSize: 64 kB\nRss:   8 kB\nPss:  8 kB\n"
        "7f40-7f50 r--p 00000000 fe:00 13 /data/other\nRss: 400 kB\n7f60-7f70 rw-p 00000000 00:00 0\nRss: 4 kB\n"
    )
    root = proc(tmp_path, smaps=smaps)
    assert memory.mapped_bytes(Path("/data/my weights.safetensors"), root) == 48 * 1024
    assert memory.mapped_bytes(Path("/data/never mapped"), root) == 0


@linux
def test_memory_that_is_taken_shows_and_so_does_its_peak():
    before = memory.memory_use()
    assert before is not None and 0 < before.anonymous < before.pss <= before.rss
    assert memory.reset_peak()
    resident, taken = memory.rss_bytes(), np.ones(4_000_000)  # 32 MB
    during = memory.memory_use()
    del taken
    gc.collect()
    peak = memory.peak_bytes()
    assert resident is not None and during is not None and peak is not None
    assert 30e6 < during.anonymous - before.anonymous < 40e6
    assert 30e6 < peak - resident < 40e6


@linux
def test_only_pages_that_were_read_are_touched(tmp_path):
    large = 2**21 // PAGE_BYTES  # pages of a large page: a file system that keeps files in them maps one as a whole
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * large * PAGE_BYTES))
    mapped = np.memmap(path, np.uint8, mode="r")
    assert not memory.touched_pages(path).any()
    read = 5 * large + large // 2
    assert int(mapped[read * PAGE_BYTES + 7]) == 0
    touched = memory.touched_pages(path)
    assert touched[read] and not touched[: 5 * large].any() and not touched[6 * large :].any()
    assert memory.mapped_bytes(path) == touched.sum() * PAGE_BYTES
    assert int(mapped.sum()) == 0
    assert memory.touched_pages(path).all()


def test_touched_bytes_count_only_what_lies_in_the_ranges():
    touched = np.array([True, False, True, True])
    page = PAGE_BYTES
    assert memory.touched_bytes(touched, [(0, 4 * page)]) == 3 * page
    assert memory.touched_bytes(touched, [(10, 20)]) == 20
    assert memory.touched_bytes(touched, [(page // 2, page)]) == page // 2
    assert memory.touched_bytes(touched, [(page, page), (3 * page - 5, 10)]) == 10
    assert memory.touched_bytes(touched, []) == 0


@linux
def test_free_memory_can_be_given_back():
    memory.release_free_memory()
    assert memory.pss_bytes()
