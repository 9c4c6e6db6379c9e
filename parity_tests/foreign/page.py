"""docs/real_ports.md and its Chinese twin from what was judged: they need none of the packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from portparity.verdict import AGREE

from . import chinese
from .bugs import BUGS, Bug
from .judging import FOUND
from .pairs import PAIRS, Pair
from .schedulers import SCHEDULERS
from .trainers import TRAINERS

Record = Mapping[str, Any]

EXPLAINED = {  # why right pairs differ
    "BertModel": "MindSpore's tanh (see above), in the pooler at 30 times what it is given",
    "RobertaModel": "the same",
    "AlbertModel": "the same, in gelu_new",
    "GPT2Model": "the same, in gelu_new at 30 times what it is given",
    "DeiTModel": "the same, in the pooler",
    "MPNetModel": "the same, in the pooler",
    "T5EncoderModel": "a layer knows past_key_value where transformers says past_key_values: it raises TypeError, "
    "after which MindSpore's tensors refuse an integer as index (see above)",
    "SiglipVisionModel": "MindSpore's gradient of a matmul of swapped axes raises (see above), in the pooling head",
    "nn.LSTMCell": "MindSpore's tanh and sigmoid, 22 and 13 units off, in a third batch: a false alarm",
}

OF_CHAINS = {  # why chains differ that no bug's row is about: what the names begin with, and why
    "KDPM2DiscreteScheduler": "the last step is NaN (see above)",
    "KDPM2AncestralDiscreteScheduler, beta_schedule squaredcos_cap_v2": "diffusers itself: the root of a difference "
    "that rounding makes negative is NaN in its float32",
    "CMStochasticIterativeScheduler": "mindone is right: at the last step no noise is left, and diffusers takes a "
    "double from a float32: a false alarm",
    "VQDiffusionScheduler": "the same as above",
    "CogVideoXDPMScheduler": "its tables are made in float32 where diffusers' are in double, for want of an expm1 of "
    "doubles, as a comment there says",
    "CosineDPMSolverMultistepScheduler": "the logarithm of an integer 1, which MindSpore does not compute on a CPU",
    "UniPCMultistepScheduler, lower_order_final False": "a second order at sigma 0 is not defined: both are infinite",
}

ENGLISH = {
    "head": """# Ports that nobody here wrote

[简体中文](real_ports.zh.md)

What [`portparity.check`](own_port.md) says of other people's code, by the plain command: ports that are right, which
were written down before any was judged, and bugs. `python -m parity_tests.foreign --output docs` writes this page from
what was found; `python -m parity_tests.foreign judge` judges everything again.
""",
    "judged": "Judged with {packages}, on a CPU. Of {of} right pairs {judged} were judged and {agreeing} agree. "
    "Of {bugs} bugs in {projects} it finds {seen}, {new} of them new.",
    "ratio": """A ratio is the error over its bound; 1 is the limit. Where code says mint it ran by
[stand-ins](../portparity/sides/mint_on_cpu.py) of what mint lacks on a CPU.
""",
    "bugs": "Bugs",
    "of bugs": "| Where | What | It was to be | Ratio | First culprit | New |",
    "new": "new",
    "known": "known",
    "pairs": "Right pairs",
    "of pairs": "| Pair | Port | Verdict | Largest ratio | Parts | Left out or differing |",
    "chains": "Schedulers of mindone",
    "of chains": """Chains from the first sample to the last, against diffusers: every scheduler that both export, with
its main options, listed before any was judged ([schedulers.py](../parity_tests/foreign/schedulers.py)). Where chains
differ they are judged again with MindSpore's elementary functions computed in double and rounded once: what agrees
then is ported rightly, and shows MindSpore's exp, log and powers.

| Scheduler | Chains | Agree | Agree with exact functions | Differ still |
| --- | --- | --- | --- | --- |""",
    "of bug": "see the bugs",
    "not explained": "not explained",
}
CHINESE = {
    "head": (
        "# 别人写的移植\n\n[English](real_ports.md)\n\n"
        "[`portparity.check`](own_port.zh.md) 用普通命令对别人的代码给出的结论："
        "正确的移植（在判断之前就列出），以及程序错误。"
        "`python -m parity_tests.foreign --output docs` 根据结果写出本页，"
        "`python -m parity_tests.foreign judge` 重新判断全部内容。\n"
    ),
    "judged": "所用版本：{packages}，在 CPU 上。{of} 对正确的移植中判断了 {judged} 对，{agreeing} 对一致。"
    "{projects} 中的 {bugs} 个错误找到 {seen} 个，其中 {new} 个是新发现的。",
    "ratio": "比值是误差与界之比，1 是极限。使用 mint 的代码在 CPU 上由"
    "[替身](../portparity/sides/mint_on_cpu.py)补足 mint 所缺的函数。\n",
    "bugs": "程序错误",
    "of bugs": "| 位置 | 现象 | 本应 | 比值 | 首个出错处 | 新旧 |",
    "new": "新",
    "known": "已知",
    "pairs": "正确的移植",
    "of pairs": "| 移植 | 来自 | 结论 | 最大比值 | 项数 | 略过或不一致之处 |",
    "chains": "mindone 的调度器",
    "of chains": (
        "从第一个样本到最后一个样本的采样链，与 diffusers 比较：两者都导出的每个调度器及其主要选项，"
        "在判断之前就列出（[schedulers.py](../parity_tests/foreign/schedulers.py)）。"
        "不一致的链再判断一次，这时 MindSpore 的初等函数用双精度计算、只舍入一次："
        "这样就一致的，移植本身是正确的，问题在于 MindSpore 的 exp、log 和幂。\n\n"
        "| 调度器 | 链数 | 一致 | 用精确函数时一致 | 仍不一致 |\n"
        "| --- | --- | --- | --- | --- |"
    ),
    "of bug": "见上面的错误",
    "not explained": "原因未明",
}
OF_LANGUAGE = {"": ENGLISH, ".zh": CHINESE}


def page(found: Mapping[str, Any], language: str = "") -> str:
    """The page in Markdown; ``language``: what stands before ".md"."""
    words, records = OF_LANGUAGE[language], found["pairs"]
    listed = (*PAIRS, *TRAINERS)
    right = [(pair, records[pair.name]) for pair in listed if pair.name in records]
    bugs = [(bug, records[bug.pair.name]) for bug in BUGS if bug.pair.name in records]
    seen = [bug for bug, record in bugs if record["verdict"] != AGREE]
    counts = words["judged"].format(
        packages=", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        of=len(listed), judged=len(right), agreeing=sum(record["verdict"] == AGREE for _, record in right),
        bugs=len(bugs), seen=len(seen), new=sum(not bug.known for bug in seen),
        projects=", ".join(sorted({bug.pair.project.partition(" ")[0] for bug, _ in bugs})),
    )  # fmt: skip
    lines = [
        words["head"],
        f"{counts}\n",
        words["ratio"],
        f"## {words['bugs']}\n",
        words["of bugs"],
        "| --- | --- | --- | --- | --- | --- |",
        *(_bug(bug, record, words) for bug, record in bugs),
        f"\n## {words['pairs']}\n",
        words["of pairs"],
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {_cell(pair.name)} | {pair.project} | {record['verdict']} | {_largest(record)} | "
            f"{len(record['parts'])} | {_cell(_in(words, EXPLAINED.get(pair.name) or _remark(record)))} |"
            for pair, record in right
        ),
        f"\n## {words['chains']}\n",
        words["of chains"],
        *_chains(records, words),
    ]
    return "\n".join(lines) + "\n"


def _bug(bug: Bug, record: Record, words: Mapping[str, str]) -> str:
    said = chinese.WORDS if words is CHINESE else {}
    cells = (
        f"{bug.pair.name}<br>{bug.place}", said.get(bug.cause, bug.cause), said.get(bug.intent, bug.intent),
        _largest(record), record["culprit"] or _first(record), words["known" if bug.known else "new"],
    )  # fmt: skip
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _in(words: Mapping[str, str], remark: str) -> str:
    return chinese.remark(remark) if words is CHINESE else remark


def _chains(records: Mapping[str, Record], words: Mapping[str, str]) -> list[str]:
    """A row for each scheduler."""
    of_class: dict[str, list[Pair]] = {}
    for pair in SCHEDULERS:
        if pair.name in records:
            of_class.setdefault(pair.name.partition(",")[0], []).append(pair)
    rows = []
    for name, pairs in of_class.items():
        verdicts = [records[pair.name]["verdict"] == AGREE for pair in pairs]
        exact = [records[pair.name].get("exact") == AGREE for pair in pairs]
        left = [pair for pair, agrees, then in zip(pairs, verdicts, exact, strict=True) if not (agrees or then)]
        reasons: dict[str, list[str]] = {}
        for pair in left:
            options = pair.name.partition(", ")[2] or "-"
            reasons.setdefault(_why(pair, records[pair.name], words), []).append(options)
        said = "<br>".join(f"{reason} ({'; '.join(options)})" for reason, options in reasons.items())
        rows.append(f"| {name} | {len(pairs)} | {sum(verdicts)} | {sum(exact)} | {_cell(said)} |")
    return rows


def _why(pair: Pair, record: Record, words: Mapping[str, str]) -> str:
    if pair.name in {bug.pair.name for bug in BUGS}:
        return words["of bug"]
    known = next((why for start, why in OF_CHAINS.items() if pair.name.startswith(start)), "")
    return _in(words, known) if known else f"{words['not explained']}, {_largest(record)}"


def _cell(text: str) -> str:
    for character in "|*_<>":
        text = text.replace(character, f"\\{character}")
    return text.replace("\\<br\\>", "<br>")


def _largest(record: Record) -> str:
    ratios = [float(ratio) for _, ratio, _ in record["parts"].values()]
    return f"{max(ratios):.3g}" if ratios else "-"


def _first(record: Record) -> str:
    """The first part that differs."""
    differing = [name for name, (verdict, _, _) in record["parts"].items() if verdict != AGREE]
    return differing[0] if differing else "cannot be paired" if record["notes"] and not record["parts"] else "-"


def _remark(record: Record) -> str:
    differing = [f"{name}: {message}" for name, (verdict, _, message) in record["parts"].items() if verdict != AGREE]
    return "; ".join(differing) or next((note for note in record["notes"] if _matters(note)), "")


def _matters(note: str) -> bool:
    return note.startswith(("as a graph", "it only computes", "in training mode"))


def write(folder: str | Path, found: Mapping[str, Any] | None = None) -> None:
    """Writes real_ports.md and its Chinese twin."""
    found = found or json.loads(FOUND.read_text())
    for language in OF_LANGUAGE:
        Path(folder, f"real_ports{language}.md").write_text(page(found, language), encoding="utf-8")


def missing(found: Mapping[str, Any]) -> Iterable[str]:
    """The names of pairs that nobody has judged yet."""
    return [
        pair.name
        for pair in (*PAIRS, *TRAINERS, *SCHEDULERS, *(bug.pair for bug in BUGS))
        if pair.name not in found["pairs"]
    ]
