"""What the runs of `studies.py` say, in tables and in words, all of it made from the raw document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from merging_suite import metrics, spread
from method import table
from studies_results import ALONE, LOWER, Results, interval, told
from studies_runs import BALANCING, BASE, CI_KD, DENSE, TASKS, TOP_KS, WIDEST, Plan, all_runs

from slimpath.training.relative import delta_m

PUBLISHED = 2.71  # M3ViT (Fan et al. 2022), delta_m on PASCAL-Context
LIMIT_S, MOST_RUNS = 180, 24


def _marked(gains: Sequence[float]) -> str:
    """Mean and deviation, with a star where the interval leaves 0 out."""
    return spread(gains, "+.1f") + ("" if told(gains) == "not told apart" else " *")


def full_width(results: Results) -> str:
    """Every variant that has several seeds, at full width."""
    judges, rows = metrics(TASKS), []
    for name in (ALONE, BASE, CI_KD, WIDEST, DENSE):
        seeds = results.seeds(name)
        cells = [spread([results.values(name, seed)[task] for seed in seeds], ".4f") for task in TASKS]
        gain = "0" if name == ALONE else _marked(results.gains(name, ALONE))
        seconds = np.mean([results.training_s(name, seed) for seed in seeds])
        rows.append([name, *cells, gain, f"{seconds:.0f}"])
    trivial = results.document["trivial"]
    rows.append(["the same answer for all pictures", *(f"{trivial[task]:.4f}" for task in TASKS), "", ""])
    heads = [f"{task}, {judges[task].name} {'↑' if judges[task].higher_is_better else '↓'}" for task in TASKS]
    return table(["network", *heads, "delta_m, %", "CPU s to train"], rows)


def by_width(results: Results, names: Sequence[str], other: str) -> str:
    """Gain over the other at every width."""
    rows = [[name, *(_marked(results.gains(name, other, width)) for width in results.widths)] for name in names]
    return table(["network", *(f"width {width}" for width in results.widths)], rows)


def kept(results: Results) -> str:
    """What narrow widths keep."""
    narrow, rows = results.widths[:-1], []
    for name in (ALONE, BASE, CI_KD, WIDEST, DENSE):
        shares = [results.kept(name, width) for width in narrow]
        rows.append(
            [name, *("no better than trivial" if np.isnan(one).any() else spread(one, ".0f") for one in shares)]
        )
    return table(["network", *(f"width {width}" for width in narrow)], rows)


def tried(results: Results) -> list[str]:
    """The ways of balancing that were run."""
    return [name for name in BALANCING if results.seeds(name)]


def balancing(results: Results) -> str:
    """One run of each method beside the base of the same seed."""
    rows = []
    for name in (BASE, *tried(results)):
        seed = results.seeds(BASE)[0]
        values = results.values(name, seed)
        gain, alone = (delta_m(values, results.values(other, seed), LOWER) for other in (BASE, ALONE))
        beyond = "" if name == BASE else "yes" if abs(gain) > 2 * results.noise() else "no"
        cells = [f"{values[task]:.4f}" for task in TASKS]
        rows.append([name, *cells, f"{alone:+.1f}", f"{gain:+.1f}", beyond, f"{results.training_s(name, seed)}"])
    head = [*TASKS, "delta_m, %", "over base, %", "beyond twice the base's deviation", "CPU s to train"]
    return table(["method", *head], rows)


def top_ks(results: Results) -> str:
    """Other top_k than that of the training, at full width."""
    trained, rows = results.document["network"]["top_k"], []
    for top_k in TOP_KS:
        cells = ["0" if top_k == trained else _marked(results.top_k_changes(name, top_k)) for name in (BASE, WIDEST)]
        rows.append([str(top_k), *cells])
    return table(["top_k", BASE, WIDEST], rows)


def expert_use(results: Results) -> str:
    """How differently tasks use experts."""
    rows = []
    for block in range(results.blocks()):
        found = results.distances(block)
        rows.append([str(block + 1), *(spread(found[name], ".3f") for name in ("untrained", "trained", "halves"))])
    head = ["block with experts", "between tasks, untrained", "between tasks, trained", "one task, two halves"]
    return table(head, rows)


def answers(results: Results) -> str:
    """The questions, each with what the figures say; no word here is chosen by hand."""
    gains = results.gains(BASE, ALONE)
    low, high = interval(gains)
    rivals = {name: results.gains(name, ALONE) for name in (BASE, CI_KD, WIDEST, DENSE)}
    best = max(rivals, key=lambda name: float(np.mean(rivals[name])))
    narrow = results.widths[0]

    def paired(variant: str, width: str) -> str:
        values = results.gains(variant, BASE, width)
        return f"{spread(values, '+.1f')} % at width {width} ({told(values)})"

    beyond = [name for name in tried(results) if abs(results.gains(name, BASE)[0]) > 2 * results.noise()]
    lines: list[tuple[str, str]] = [
        (
            "One network or one per task?",
            f"delta_m of the base is {spread(gains, '+.1f')} %, 95 % interval {low:+.1f} to {high:+.1f} "
            f"({told(gains)}). M3ViT's paper has {PUBLISHED:+.2f} % on PASCAL-Context, with another size, another "
            "training and other data.",
        ),
        (
            "What raises it?",
            f"Of the variants with several seeds, *{best}* has the highest delta_m: {spread(rivals[best], '+.1f')} %.",
        ),
        ("CI-KD on, not off", f"{paired(CI_KD, narrow)}; {paired(CI_KD, '1')}."),
        ("Sandwich rule off, not on", f"{paired(WIDEST, narrow)}; {paired(WIDEST, '1')}."),
        ("A dense ViT, not M3ViT", f"{paired(DENSE, narrow)}; {paired(DENSE, '1')}."),
        (
            "Balancing methods",
            f"the base's deviation over seeds is {results.noise():.1f} %; beyond twice that: "
            f"{', '.join(beyond) or 'none'}; run: {', '.join(tried(results)) or 'none yet'}.",
        ),
        ("Fewer experts at run time", _few_experts(results)),
        ("Do tasks use different experts?", _different_experts(results)),
    ]
    return "\n".join(f"- **{question}** {answer}" for question, answer in lines)


def _few_experts(results: Results) -> str:
    few, trained = TOP_KS[0], results.document["network"]["top_k"]
    with_rule, without = (spread(results.top_k_changes(name, few), "+.1f") for name in (BASE, WIDEST))
    return f"top_k {few} in place of {trained}: {with_rule} % with the sandwich rule, {without} % without."


def _different_experts(results: Results) -> str:
    lines = []
    for block in range(results.blocks()):
        means = {name: np.mean(values) for name, values in results.distances(block).items()}
        lines.append(
            f"in block {block + 1} tasks lie {means['trained']:.2f} apart ({means['untrained']:.2f} before training), "
            f"two halves of the pictures {means['halves']:.2f}"
        )
    return "; ".join(lines) + "."


def page_text(document: Mapping[str, Any]) -> str:
    """Everything between the page's marks."""
    results, plan = Results(document), document["plan"]
    runs, common = document["runs"], document["common"]
    seconds = [run["cpu_s"] for run in runs]
    seeds = results.seeds(BASE)
    base, dense = results.run(BASE, seeds[0]), results.run(DENSE, seeds[0])
    sizes = ", ".join(f"{name} {value}" for name, value in document["network"].items())
    height, width = common["stages.image_hw"]
    planned = len(all_runs(Plan(**plan)))
    missing = f"; {planned - len(runs)} planned runs are not done yet" if len(runs) < planned else ""
    three = [BASE, CI_KD, WIDEST, DENSE]
    parts = [
        f"`{document['command']}`, {document['date']}, {document['threads']} thread(s); "
        f"{'; '.join(document['machine'].values())}.",
        f"{len(runs)} runs (of at most {MOST_RUNS}), seeds {', '.join(map(str, seeds))}{missing}; the longest took "
        f"{max(seconds)} s of CPU time with its measurement (of at most {LIMIT_S}), all together "
        f"{sum(seconds) / 60:.0f} minutes. "
        f"`{common['model']}` with {sizes}, {height} x {width} pixels; {plan['steps']} steps of {plan['pictures']} "
        f"pictures, learning rate {common['lr']:g}; {plan['training']} rooms to train on, {plan['testing']} others to "
        f"measure on. The encoder takes {base['encoder_mflops']:.2f} MFLOPs for a picture with one task, the dense one "
        f"{dense['encoder_mflops']:.2f}.",
        "### Answers",
        answers(results),
        "### At full width",
        full_width(results).rstrip(),
        "### delta_m against the single-task networks at the same width, %",
        by_width(results, three, ALONE).rstrip(),
        "### Gain over the base at the same width, %",
        by_width(results, three[1:], BASE).rstrip(),
        "### Share of the full-width score that narrow widths keep, %",
        kept(results).rstrip(),
        "### Balancing the tasks, seed 0",
        balancing(results).rstrip(),
        "### top_k at run time, change in %",
        top_ks(results).rstrip(),
        "### How far apart the use of experts lies",
        expert_use(results).rstrip(),
    ]
    return "\n\n".join(parts)
