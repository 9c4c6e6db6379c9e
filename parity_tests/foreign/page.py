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
from .pairs import PAIRS

Record = Mapping[str, Any]

EXPLAINED = {  # why right pairs differ
    "BertModel": "MindSpore's tanh (see above), in the pooler at 30 times what it is given",
    "RobertaModel": "the same",
    "AlbertModel": "the same, in gelu_new",
    "GPT2Model": "the same, in gelu_new at 30 times what it is given",
    "DeiTModel": "the same, in the pooler",
    "MPNetModel": "the same, in the pooler",
    "T5EncoderModel": "after the rest was judged, every tensor of that process, a new one too, refuses to be indexed "
    "by an integer: a state of MindSpore's, whose cause was not found",
    "SiglipVisionModel": "MindSpore's gradient of a matmul of swapped axes raises (see above), in the pooling head",
    "nn.LSTMCell": "MindSpore's tanh and sigmoid, 22 and 13 units off, in a third batch: a false alarm",
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
}
OF_LANGUAGE = {"": ENGLISH, ".zh": CHINESE}


def page(found: Mapping[str, Any], language: str = "") -> str:
    """The page in Markdown; ``language``: what stands before ".md"."""
    words, records = OF_LANGUAGE[language], found["pairs"]
    right = [(pair, records[pair.name]) for pair in PAIRS if pair.name in records]
    bugs = [(bug, records[bug.pair.name]) for bug in BUGS if bug.pair.name in records]
    seen = [bug for bug, record in bugs if record["verdict"] != AGREE]
    counts = words["judged"].format(
        packages=", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        of=len(PAIRS), judged=len(right), agreeing=sum(record["verdict"] == AGREE for _, record in right),
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
            f"{len(record['parts'])} | {_cell(EXPLAINED.get(pair.name) or _remark(record))} |"
            for pair, record in right
        ),
    ]
    return "\n".join(lines) + "\n"


def _bug(bug: Bug, record: Record, words: Mapping[str, str]) -> str:
    said = chinese.WORDS if words is CHINESE else {}
    cells = (
        f"{bug.pair.name}<br>{bug.place}", said.get(bug.cause, bug.cause), said.get(bug.intent, bug.intent),
        _largest(record), record["culprit"] or _first(record), words["known" if bug.known else "new"],
    )  # fmt: skip
    return f"| {' | '.join(_cell(text) for text in cells)} |"


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
    return [pair.name for pair in (*PAIRS, *(bug.pair for bug in BUGS)) if pair.name not in found["pairs"]]
