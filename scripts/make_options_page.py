#!/usr/bin/env python
"""Writes docs/options.md and docs/options.zh.md: every key of a configuration, its default, values and meaning.

  python scripts/make_options_page.py            after a change of a key, or of scripts/docs_options.yaml

Names, defaults, ranges and choices are the configuration's own. The words are its help or, where the page has more room
and in Chinese, those of scripts/docs_options.yaml.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm import config, registry
from ms_ddpm.config.keys import default_of

ROOT = Path(__file__).resolve().parent.parent

WORDS = ROOT / "scripts/docs_options.yaml"
PAGES = {"en": ROOT / "docs/options.md", "zh": ROOT / "docs/options.zh.md"}

COLUMNS = {"en": ("Name", "Default", "Values", "Meaning"), "zh": ("名称", "默认值", "取值", "含义")}
READ_BY = {"en": "Read by: {}, unless a key says otherwise.", "zh": "适用的系统：{}（另有说明的除外）。"}
COMMA, COLON = {"en": ", ", "zh": "、"}, {"en": ": ", "zh": "："}
KINDS = {  # how a value is written -> words
    "en": {
        "int": "whole number", "float": "number", "str": "text", "name": "text", "colour": "colour",
        "bool": "yes or no", "names": "names", "ints": "whole numbers", "floats": "numbers",
        "bools": "list of true, false", "size": "one or two whole numbers",
        "int_or_ints": "whole number, or one per stage", "mapping": "name=value ...",
    },
    "zh": {
        "int": "整数", "float": "数", "str": "文本", "name": "文本", "colour": "颜色", "bool": "是或否",
        "names": "若干名称", "ints": "若干整数", "floats": "若干数",
        "bools": "若干 true、false", "size": "一个或两个整数",
        "int_or_ints": "整数，或每级一个", "mapping": "name=value ...",
    },
}  # fmt: skip
RANGES = {"en": ("from {low}", "{low} to {high}", "up to {high}"), "zh": ("≥ {low}", "{low} 至 {high}", "≤ {high}")}


@dataclasses.dataclass(frozen=True)
class Option:
    """A key of the configuration, with what the pages say of it."""

    name: str
    default: Any
    kind: str  # a key of KINDS
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    help: str
    may_change: bool  # when a run is continued
    systems: tuple[str, ...]  # that read it; empty: all


def options() -> dict[str, Option]:
    """Every key of a configuration. This is the one place that knows where the configuration keeps them."""
    found = {}
    for name, field in config.all_fields().items():
        meta = field.metadata
        found[name] = Option(
            name=name,
            default=default_of(field),
            kind=meta["kind"].rstrip("?"),
            choices=registry.names() if name == "system" else meta["choices"],
            low=meta["low"],
            high=meta["high"],
            help=meta["help"],
            may_change=meta["free"],
            systems=() if name in config.SHARED else tuple(config.systems_of(name)),
        )
    return found


def words() -> dict:
    """scripts/docs_options.yaml: the ``beginning`` of each page, and its ``sections``."""
    return yaml.safe_load(WORDS.read_text(encoding="utf-8"))


def shown(value: Any) -> str:
    """A default as a YAML file has it."""
    if isinstance(value, (bool, type(None))):
        return {True: "true", False: "false", None: "null"}[value]
    return '""' if value == "" else str(value).replace("'", "")


def values(option: Option, language: str) -> str:
    """What may be given: the choices, or the kind and its range."""
    if option.choices:
        return " ".join(f"`{choice}`" for choice in option.choices)
    kind = KINDS[language][option.kind]
    low, high = (None if bound is None else f"{bound:,g}" if bound < 1e6 else f"{bound:,.0f}"
                 for bound in (option.low, option.high))  # fmt: skip
    above, between, below = RANGES[language]
    if low is None and high is None:
        return kind
    pattern = above if high is None else below if low is None else between
    return kind + {"en": ", ", "zh": "，"}[language] + pattern.format(low=low, high=high)


def page(language: str) -> str:
    """The text of the page."""
    known, said = options(), words()
    parts = [said["beginning"][language]]
    for section in said["sections"]:
        keys = {name: known[name] for name in section["keys"]}
        common = statistics.mode(option.systems for option in keys.values())
        parts.append(f"## {section['section'][language]}\n")
        if common:
            parts.append(READ_BY[language].format(COMMA[language].join(f"`{name}`" for name in common)) + "\n")
        rows = ["| " + " | ".join(COLUMNS[language]) + " |", "| --- | --- | --- | --- |"]
        for name, option in keys.items():
            of_key = section["keys"][name]
            text = of_key.get("en", option.help) if language == "en" else of_key["zh"]
            if option.systems != common:
                text = f"{COMMA[language].join(option.systems)}{COLON[language]}{text}"
            star = "*" if option.may_change else ""
            rows.append(f"| `{name}`{star} | `{shown(option.default)}` | {values(option, language)} | {text} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
        print(path.relative_to(ROOT))
