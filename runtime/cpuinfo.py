"""What /proc/cpuinfo says of a processor, as far as inference libraries choose their kernels by it."""

from __future__ import annotations

import platform
from pathlib import Path

from .sysfs import text

# Instruction sets that inference libraries choose their kernels by (x86: MLAS, oneDNN; ARM: also KleidiAI).
FEATURES = {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
}  # fmt: skip


def cpu_fields(root: Path = Path("/")) -> dict[str, str]:
    """The first value of every field of /proc/cpuinfo, by its name in lower case."""
    fields: dict[str, str] = {}
    for line in text(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def cpu_features(fields: dict[str, str]) -> tuple[str, ...]:
    """Those of `FEATURES` that the processor has, sorted."""
    return tuple(sorted(FEATURES & set((fields.get("flags") or fields.get("features") or "").split())))


def cpu_model(fields: dict[str, str]) -> str:
    """The processor's model, as the kernel calls it."""
    if "model name" in fields:
        # Virtual machines give whole families one name; the numbers tell them apart.
        numbers = [fields[name] for name in ("cpu family", "model", "stepping") if name in fields]
        return f"{fields['model name']}{' (' + '.'.join(numbers) + ')' if numbers else ''}"
    if "cpu part" in fields:  # ARM kernels name no model
        return f"ARM implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    return platform.processor() or platform.machine()
