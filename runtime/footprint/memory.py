"""How much memory this process really uses, from /proc: proportional, peak, and page by page of a mapped file.

PSS (proportional set size) counts a page that n processes share as 1/n, so the sum over processes is the truth.
Everything here is None, or an empty answer, on a system without /proc; nothing is guessed.
Source: Documentation/filesystems/proc.rst and admin-guide/mm/pagemap.rst of the Linux kernel.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAGE_BYTES = mmap.PAGESIZE
_PRESENT = np.uint64(1) << np.uint64(63)  # of an entry of /proc/PID/pagemap: the page is in this process's tables


@dataclass(frozen=True)
class MemoryUse:
    """What a process holds, in bytes.

    Args:
        pss: proportional set size; shared pages in parts.
        rss: resident set size; shared pages in full.
        anonymous: of `pss`, what no file backs: heaps, arenas, private copies of weights.
        mapped: of `pss`, pages of files (weights, libraries). The system can drop and read them again.
    """

    pss: int
    rss: int
    anonymous: int
    mapped: int


def memory_use(root: Path = Path("/"), pid: int | str = "self") -> MemoryUse | None:
    """What a process holds now; None where the kernel does not say (before Linux 4.14, or another's process)."""
    fields = _kilobytes(root / "proc" / str(pid) / "smaps_rollup")
    if not {"Pss", "Rss"} <= fields.keys():
        return None
    # Pss_Anon and Pss_File came with Linux 5.9; before that, what is shared can only be told for the sum.
    anonymous = fields.get("Pss_Anon", fields.get("Anonymous", 0))
    mapped = fields.get("Pss_File", max(fields["Pss"] - anonymous, 0))
    return MemoryUse(fields["Pss"], fields["Rss"], anonymous, mapped)


def pss_bytes(root: Path = Path("/"), pid: int | str = "self") -> int | None:
    """Proportional set size; None where the kernel does not say."""
    use = memory_use(root, pid)
    return None if use is None else use.pss


def peak_bytes(root: Path = Path("/")) -> int | None:
    """Most resident memory since the process began, or since `reset_peak`; None where the kernel does not say."""
    return _kilobytes(root / "proc/self/status").get("VmHWM")


def rss_bytes(root: Path = Path("/")) -> int | None:
    """Resident memory now; None where the kernel does not say. Cheaper than `memory_use`."""
    return _kilobytes(root / "proc/self/status").get("VmRSS")


def reset_peak(root: Path = Path("/")) -> bool:
    """Begin a new peak at what is resident now; False where that is not allowed."""
    try:
        (root / "proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def mapped_bytes(path: Path, root: Path = Path("/")) -> int | None:
    """Pages of a file that this process has mapped and touched, in bytes, each counted once per mapping; None unknown.

    This is what a session on mapped weights really uses of them.
    """
    resident, inside, known = 0, False, False
    wanted = str(path)
    try:
        with (root / "proc/self/smaps").open() as lines:
            for line in lines:
                first = line.split(maxsplit=1)[0]
                if not first.endswith(":"):
                    inside = _mapped_path(line) == wanted
                    known = True
                elif inside and first == "Rss:":
                    resident += int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return resident if known else None


def touched_pages(path: Path, root: Path = Path("/")) -> np.ndarray:
    """Which pages of a file this process has in its page tables: bool [pages], over all its mappings of the file.

    The kernel maps up to 16 neighbours of a page that is read first and lies in the page cache ("fault-around"), or the
    whole large page (2 MB) in which some file systems keep it, so a page may be here that nobody asked for: shorter
    runs should not be read as touched.

    Raises:
        OSError: the file or /proc/self/pagemap cannot be read.
    """
    touched = np.zeros(-(-path.stat().st_size // PAGE_BYTES), bool)
    wanted = str(path)
    with (root / "proc/self/maps").open() as lines, (root / "proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for line in lines:
            if _mapped_path(line) != wanted:
                continue
            bounds, _, offset = line.split()[:3]
            start, end = (int(part, 16) for part in bounds.split("-"))
            pages, first = (end - start) // PAGE_BYTES, int(offset, 16) // PAGE_BYTES
            pagemap.seek(start // PAGE_BYTES * 8)
            entries = np.frombuffer(pagemap.read(pages * 8), np.uint64)
            present = (entries & _PRESENT).astype(bool)[: len(touched) - first]
            touched[first : first + len(present)] |= present
    return touched


def touched_bytes(touched: np.ndarray, ranges: Iterable[tuple[int, int]]) -> int:
    """Bytes of the file's `ranges` (offset, length) that lie in touched pages.

    Args:
        touched: of `touched_pages`.
        ranges: such as the places of an expert's tensors in the weights file.
    """
    total = 0
    for offset, length in ranges:
        end = offset + length
        for page in np.flatnonzero(touched[offset // PAGE_BYTES : -(-end // PAGE_BYTES)]) + offset // PAGE_BYTES:
            total += min(end, (int(page) + 1) * PAGE_BYTES) - max(offset, int(page) * PAGE_BYTES)
    return total


def _mapped_path(line: str) -> str:
    """The file of a line of /proc/self/maps ("start-end perms offset dev inode path"), "" for none."""
    parts = line.rstrip("\n").split(maxsplit=5)
    return parts[5].replace("\\012", "\n") if len(parts) == 6 else ""


def _kilobytes(path: Path) -> dict[str, int]:
    """The "Name:  123 kB" lines of a file, in bytes; empty if it cannot be read."""
    found: dict[str, int] = {}
    try:
        text = path.read_text()
    except OSError:
        return found
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        parts = rest.split()
        if len(parts) == 2 and parts[1] == "kB" and parts[0].isdigit():
            found[name] = int(parts[0]) * 1024
    return found


def release_free_memory() -> None:
    """Give what the C library holds but nobody uses back to the system, so that it is not counted as in use."""
    if os.name != "posix":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc; musl has none
    if trim is not None:
        trim(0)
