"""results.json as Markdown: for the summary page of a CI run, and the kill matrix for the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from . import facts, words

SHOWN_FAILURES = 15
LIMIT = 60_000  # characters; GitHub cuts a comment at 65536
LINES_PER_FAILURE = 40


def cell(text: object) -> str:
    """Text that stays within its cell and means nothing to Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", " ".join(str(text).split()))


def code(text: str) -> str:
    """Text as code within a table's cell."""
    text = " ".join(text.split()).replace("|", "\\|")
    return f"{_fence(text, 2)} {text} {_fence(text, 2)}" if "`" in text else f"`{text}`"


def _fence(text: str, least: int) -> str:
    """More backticks than ``text`` has in a row."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _fenced(lines: Iterable[str]) -> list[str]:
    text = "\n".join(lines)
    return [f"{_fence(text, 3)}text", text, _fence(text, 3)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], columns: str) -> list[str]:
    """A table; ``columns`` says of each whether it is text ("l") or numbers ("r")."""
    rule = [":--" if column == "l" else "--:" for column in columns]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def _failures(results: Mapping) -> list[str]:
    failed = facts.failures(results["cases"])
    if not failed:
        return []
    lines = ["### What does not agree"]
    for case in failed[:SHOWN_FAILURES]:
        text = words.failure(case)
        if len(text) > LINES_PER_FAILURE:
            text = [*text[: LINES_PER_FAILURE - 2], "...", text[-1]]
        lines += ["", f"**{case['verdict']}** {code(case['id'])}", "", *_fenced(line[:400] for line in text)]
    if len(failed) > SHOWN_FAILURES:
        lines += ["", f"… and {len(failed) - SHOWN_FAILURES} more, in the report."]
    return [*lines, ""]


def _tiers(results: Mapping) -> list[str]:
    rows = [
        (
            words.tier(row.tier), str(row.cases), str(row.agree), str(row.differ), str(row.broken),
            f"{row.seconds:.1f}", words.ratio(row.worst["ratio"]) if row.worst else words.NONE,
            code(row.worst["id"]) if row.worst else words.NONE,
        )
        for row in facts.tier_rows(results["cases"])
    ]  # fmt: skip
    header = ("tier", "checks", "agree", "differ", "broken", "seconds", "worst ratio", "its check")
    return ["### By tier", "", *table(header, rows, "lrrrrrrl"), ""] if rows else []


def _alarms(row: facts.RuleRow, variants: int) -> str:
    return words.NONE if row.alarms is None else f"{row.alarms} of {variants}"


def _mutants(mutants: Mapping | None) -> list[str]:
    if not mutants:
        return []
    variants = mutants["clean"]["variants"]
    rows = [(cell(row.rule), f"{row.killed} of {row.of}", _alarms(row, variants)) for row in facts.rule_rows(mutants)]
    lines = ["### Is the harness any good?", "", f"{words.mutants_headline(mutants)}.", ""]
    return [*lines, *table(("rule", "mutants killed", "false alarms"), rows, "lrr"), ""]


def _environment(results: Mapping) -> list[str]:
    told = {"command": results["command"]} | ({"bundle": results["bundle"]} if results["bundle"] else {})
    rows = [(cell(key), code(str(value))) for key, value in (told | results["environment"]).items()]
    return ["### Environment", "", *table(("", ""), rows, "ll"), ""]


def summary(results: Mapping) -> str:
    """The whole for a CI page, failures first: at most `LIMIT` characters."""
    mark = "✅" if facts.is_good(results) else "❌"
    title = f"## {mark} Parity: {cell(words.headline(results))}"
    head = [title, "", *_failures(results)]
    tail = [*_tiers(results), *_mutants(results["mutants"]), *_environment(results)]
    text, end = "\n".join(head), "\n".join(tail)
    room = LIMIT - min(len(end), LIMIT // 2) - 100
    if len(text) > room:
        text = text[:room].rpartition("\n**")[0] + "\n… and more, in the report.\n"
    return (text + "\n" + end)[:LIMIT].rstrip() + "\n"


def kill_matrix(mutants: Mapping) -> str:
    """Every mutant against every rule as a Markdown table, totals last: ✓ killed, · not seen."""
    rules = mutants["rules"]
    rows = []
    for row in mutants["rows"]:
        elsewhere = f", found at {code(row['found_at'])}" if row["found_at"] else ", not found"
        place = code(row["place"]) + ("" if row["at_place"] else elsewhere)
        seen = ["✓" if row["by_rule"].get(rule) else "·" for rule in rules]
        rows.append([code(row["name"]), cell(row["family"]), cell(row["framework"]), place, *seen])
    totals = facts.rule_rows(mutants)
    variants = mutants["clean"]["variants"]
    rows.append(["**killed**", "", "", "", *(f"{row.killed} of {row.of}" for row in totals)])
    rows.append(["**false alarms**", "", "", "", *(_alarms(row, variants) for row in totals)])
    header = ("mutant", "family", "in", "place", *(cell(rule) for rule in rules))
    return "\n".join(table(header, rows, "llll" + "r" * len(rules))) + "\n"
