"""docs/benchmarks.md from what the scripts measured: each keeps its tables in docs/measured/, this puts them together.

`python benchmarks/page.py` writes the page anew without measuring anything; `--measure` (`make bench`) runs every
script first, one after the other: that takes most of an hour on two quiet cores, and nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from method import machine

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
PAGE = ROOT / "docs" / "benchmarks.md"
Section = tuple[str, str, Any]  # title, text, raw figures

#: Scripts in the order of the page: what it holds and how `make bench` calls it.
PARTS: dict[str, tuple[str, list[str]]] = {
    "encoder": ("The encoder by itself", ["run.py"]),
    "scaling": ("Widths and experts", ["scaling.py"]),
    "precision": ("Precision", ["precision.py"]),
    "peers": ("Beside exporting by hand", ["peers.py"]),
    "overhead": ("What `engine()` adds", ["overhead.py"]),
    "switching": ("Switching tasks and widths", ["switching.py"]),
    "memory": ("Memory", ["memory.py"]),
    "prepacked": ("Packed weights in a file, shared initialisers", ["prepacked.py"]),
    "tried": ("What was tried for narrow encoders", ["tried.py"]),
    "budgets": ("Budgets in milliseconds", ["budgets.py"]),
    "stream": ("Streams", ["stream.py"]),
    "service_load": ("The server under load", ["service_load.py"]),
    "service_stages": ("Around the engine", ["service_stages.py"]),
    "service_schemathesis": ("Requests made from openapi.json", ["service_schemathesis.py", "--write"]),
    "service_fuzz": ("Malformed requests", ["service_fuzz.py", "--write"]),
    "rival_litserve": ("LitServe, tuned for the same model", ["rival_litserve.py"]),
    "service_soak": ("The server for a long time", ["service_soak.py"]),
}
#: Those that write a page of their own.
OWN_PAGES = {
    "prediction": ("[how near predictions come](prediction.md)", ["prediction.py"]),
    "backends": ("[backends](backends.md)", ["backends.py"]),
    "experts": ("[expert paths](experts.md)", ["experts.py"]),
    "merging": ("[merging](merging.md)", ["merging.py"]),
    "packs": ("[new tasks](packs.md)", ["add_task.py", "--write"]),
    "adapt": ("[making checkpoints slimmable](adapt.md)", ["adapt.py", "--write"]),
    "studies": ("[studies of training methods](studies.md)", ["studies.py"]),
    "decoders": ("[decoders](decoders.md)", ["decoders.py"]),
    "mtlora_tasks": ("[low-rank adapters](adapters.md)", ["mtlora_tasks.py", "--write"]),
    "gpu_graphs": ("[graphs for GPUs](gpu.md)", ["gpu_graphs.py"]),
    "gpu_precision": ("[their precisions](gpu.md)", ["gpu_precision.py"]),
}

END_OF_FIGURES = "<!-- end of figures -->"
HEAD = """# Benchmarks

Written by `make bench`; `benchmarks/page.py` lists the scripts. Ratios are measured side by side in one process: the
candidates take turns (A B A B ...), 10 repeats of 30 to 50 runs, medians, 95 % bootstrap intervals over the repeats;
a target that must not be exceeded is met if the lower bound is at or under it, one that must be reached if the upper
bound is at or over it (`benchmarks/method.py`). Absolute times drift by a quarter between
processes: read the ratios. On pages of their own: {pages}.
"""


def keep(part: str, sections: list[Section]) -> None:
    """Store a part's tables with the machine and the command, and write the page anew."""
    MEASURED.mkdir(parents=True, exist_ok=True)
    document = {
        "part": part,
        "command": command(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "sections": [{"title": title, "text": text, "figures": raw} for title, text, raw in sections],
    }
    _write(MEASURED / f"{part}.json", json.dumps(_short(document), indent=1) + "\n")
    write_page()


def keep_beside(part: str, sections: list[Section], order: Sequence[str]) -> None:
    """`keep` for a script that measures one section at a time: each with its command, the others as they were kept.

    Args:
        order: a word of each section's title.
    """
    how = f"\n`{command()}`, {time.strftime('%Y-%m-%d')}.\n"
    found = {_place(order, title): (title, f"{text}{how}", figures) for title, text, figures in sections}
    if (MEASURED / f"{part}.json").exists():
        for old in kept(part)["sections"]:
            found.setdefault(_place(order, old["title"]), (old["title"], old["text"], old["figures"]))
    keep(part, [found[place] for place in sorted(found)])


def _place(order: Sequence[str], title: str) -> int:
    return next(place for place, word in enumerate(order) if word in title)


def kept(part: str) -> dict[str, Any]:
    """What `keep` stored last."""
    return json.loads((MEASURED / f"{part}.json").read_text())


def write_page() -> None:
    """Assemble docs/benchmarks.md from what there is."""
    parts = [HEAD.format(pages=", ".join(words for words, _ in OWN_PAGES.values()))]
    for part, (title, _) in PARTS.items():
        if not (MEASURED / f"{part}.json").exists():
            continue
        document = kept(part)
        facts = "; ".join(document["machine"].values())
        parts.append(f"\n## {title}\n\n`{document['command']}`, {document['date']}. {facts}.\n")
        parts += [f"\n### {section['title']}\n\n{section['text'].strip()}\n" for section in document["sections"]]
    _write(PAGE, "".join(parts))


def command() -> str:
    """How the script that runs was called."""
    return f"python benchmarks/{' '.join([Path(sys.argv[0]).name, *map(_public, sys.argv[1:])])}"


def with_figures(page: str, script: str, words: str) -> str:
    """The text of a page with other words between the marks of a script.

    Raises:
        SystemExit: marks are missing.
    """
    start = f"<!-- figures, written by benchmarks/{script} -->"
    before, _, rest = page.partition(start)
    _, mark, after = rest.partition(END_OF_FIGURES)
    if not mark:
        raise SystemExit(f"the page has no {start} ... {END_OF_FIGURES}")
    return f"{before}{start}\n\n{words.strip()}\n\n{END_OF_FIGURES}{after}"


def put_figures(path: Path, script: str, words: str) -> None:
    """`with_figures` of a page of the docs, in one go."""
    _write(path, with_figures(path.read_text(encoding="utf-8"), script, words))


def _public(argument: str) -> str:
    """An argument as it stands in the docs: a place on this machine is nobody's business."""
    return "DIR" if Path(argument).is_absolute() else argument


def _short(value: Any) -> Any:
    """Figures to five digits: the files stay readable and small."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {str(key): _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, (list, tuple)) else value


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def measure_all() -> None:
    """Run every script; one that fails is named at the end."""
    failed = []
    commands = [command for _, command in (*PARTS.values(), *OWN_PAGES.values())]
    for number, (script, *arguments) in enumerate(commands):
        if not (ROOT / "benchmarks" / script).exists():
            continue
        print(f"[{number + 1}/{len(commands)}] {script}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), *arguments], check=False)
        if done.returncode:
            failed.append(script)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def main() -> None:
    """Write the page; with --measure, measure first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run every script first")
    if parser.parse_args().measure:
        measure_all()
    write_page()


if __name__ == "__main__":
    main()
