"""docs/real_ports.md from what was judged: it needs none of the packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from portparity.verdict import AGREE

from .bugs import BUGS, Bug
from .judging import FOUND
from .pairs import PAIRS

Record = Mapping[str, Any]

EXPLAINED = {  # why right pairs differ
    "BertModel": "MindSpore's tanh (see above), in the pooler at 30 times what it is given",
    "RobertaModel": "the same",
    "AlbertModel": "the same, in gelu_new",
    "AutoencoderTiny": "not explained yet: every layer agrees alone, a joint does not; taken for a false alarm",
    "T2IAdapter": "not explained yet: every layer agrees alone, a joint does not; taken for a false alarm",
    "nn.LSTMCell": "MindSpore's tanh and sigmoid, 22 and 13 units off, in a third batch: a false alarm",
}

HEAD = """# Ports that nobody here wrote

What [`portparity.check`](own_port.md) says of other people's code, by the plain command: ports that are right, which
were written down before any was judged, and bugs. `python -m parity_tests.foreign --output docs/real_ports.md` writes
this page from what was found; `python -m parity_tests.foreign judge` judges everything again.

"""


def page(found: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    records = found["pairs"]
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    right = [(pair, records[pair.name]) for pair in PAIRS if pair.name in records]
    bugs = [(bug, records[bug.pair.name]) for bug in BUGS if bug.pair.name in records]
    agreeing = sum(record["verdict"] == AGREE for _, record in right)
    new = sum(not bug.known for bug, record in bugs if record["verdict"] != AGREE)
    seen = sum(record["verdict"] != AGREE for _, record in bugs)
    projects = sorted({bug.pair.project.partition(" (")[0].partition(" ")[0] for bug, _ in bugs})
    lines = [
        HEAD,
        f"Judged with {packages}, on a CPU. Of {len(PAIRS)} right pairs {len(right)} were judged and {agreeing} agree. "
        f"Of {len(bugs)} bugs in {', '.join(projects)} it finds {seen}, {new} of them new.\n",
        "A ratio is the error over its bound; 1 is the limit. Where code says mint it ran by",
        "[stand-ins](../portparity/sides/mint_on_cpu.py) of what mint lacks on a CPU.\n",
        "## Bugs\n",
        "| Where | What | It was to be | Ratio | First culprit | New |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_bug(bug, record) for bug, record in bugs),
        "\n## Right pairs\n",
        "| Pair | Port | Verdict | Largest ratio | Parts | Left out or differing |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {_cell(pair.name)} | {pair.project} | {record['verdict']} | {_largest(record)} | "
            f"{len(record['parts'])} | {_cell(EXPLAINED.get(pair.name) or _remark(record))} |"
            for pair, record in right
        ),
    ]
    return "\n".join(lines) + "\n"


def _bug(bug: Bug, record: Record) -> str:
    where = f"{bug.pair.name}<br>{bug.place}"
    new = "known" if bug.known else "new"
    cells = (where, bug.cause, bug.intent, _largest(record), record["culprit"] or _first(record), new)
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


def write(output: str | Path, found: Mapping[str, Any] | None = None) -> None:
    """Writes the page."""
    Path(output).write_text(page(found or json.loads(FOUND.read_text())), encoding="utf-8")


def missing(found: Mapping[str, Any]) -> Iterable[str]:
    """The names of pairs that nobody has judged yet."""
    return [pair.name for pair in (*PAIRS, *(bug.pair for bug in BUGS)) if pair.name not in found["pairs"]]
