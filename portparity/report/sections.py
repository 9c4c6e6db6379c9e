"""The parts of the page that are tables: failures, kill matrix, all checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..runner import BROKEN
from ..verdict import DIFFER
from . import facts, words
from .svg import escape

OPEN_FAILURES, SHOWN_FAILURES, SHOWN_TENSORS = 5, 60, 10


def numbers(*cells: str) -> str:
    """Cells of a table that hold numbers."""
    return "".join(f'<td class="n">{escape(cell)}' for cell in cells)


def values(tensor: Mapping) -> str:
    """What each side has at the worst index, and how far it is from float64."""
    rows = [f'<tr><td class="label">{side}{numbers(*found)}' for side, *found in words.values(tensor)]
    where = f"at <code>{escape(tensor['name'])}{words.index(tensor['index'])}</code>"
    head = f'<tr><th>{where}<th class="n">value<th class="n">off by'
    return f"<div><table>{head}{''.join(rows)}</table></div>" if rows else ""


def errors(tensor: Mapping) -> str:
    """The errors beside what is allowed and what the reference errs itself."""
    rows = [f'<tr><td class="label">{name}{numbers(*found)}' for name, found in words.errors(tensor)]
    rows += [f"<tr><td>ulp{numbers(words.count(tensor['ulp']))}"] if tensor["ulp"] else []
    head = '<tr><th>error<th class="n">candidate<th class="n">allowed<th class="n">reference’s'
    return f"<div><table>{head}{''.join(rows)}</table></div>" if rows else ""


def _tree(layers: Sequence[Mapping], side: str, title: str) -> str:
    lines = facts.tree_to_culprit(layers, side)
    rows = []
    for line in lines:
        name = escape(line.name) + (f' <span class="soft">{line.count} layers</span>' if line.count > 1 else "")
        mark = "first culprit" if line.culprit else "own error fails" if line.failing else ""
        kind = ' class="culprit"' if line.culprit else ""
        cells = [words.ratio(x) if x is not None else "" for x in (line.own, line.inherited)]
        rows.append(f'<tr{kind}><td style="padding-left:{1.3 * line.indent:.1f}em">{name}{numbers(*cells)}<td>{mark}')
    head = '<tr><th>layer<th class="n">own<th class="n">inherited<th>'
    return f'<table class="tree"><caption>{title}</caption>{head}{"".join(rows)}</table>' if rows else ""


def _failure(case: Mapping, number: int, is_open: bool) -> str:
    tensor = facts.worst_tensor(case)
    found = values(tensor) + errors(tensor) if tensor and facts.was_measured(tensor) else ""
    trees = _tree(case["layers"], facts.FORWARD, "forward, to the first layer whose own error fails")
    trees += _tree(case["layers"], facts.BACKWARD, "backward, to the first layer whose own error fails")
    about = f"{words.tier(case['tier'])}, {case['mode']}, {case['precision']}"
    about += f", ratio {words.ratio(case['ratio'])}" if case["verdict"] == DIFFER else ", could not be judged"
    return (
        f'<details class="failure {case["verdict"]}"{" open" if is_open else ""}>'
        f"<summary><code>{escape(case['id'])}</code><span>{escape(about)}</span></summary>"
        f"<p>{escape(case['message'])}</p>"
        + (f'<div class="two">{found}</div>' if found else "")
        + (f'<div class="two">{trees}</div>' if trees else "")
        + f'<pre class="command">{escape(case["reproduce"])}</pre>'
        + (f'<p class="links"><a href="#c{number}">all its tensors</a></p>' if case["tensors"] else "")
        + "</details>"
    )


def failures(results: Mapping) -> str:
    """Every case that does not agree, with all that is known about it."""
    numbered = {id(case): number for number, case in enumerate(results["cases"])}
    failed = facts.failures(results["cases"])
    if not failed:
        return ""
    shown = [_failure(case, numbered[id(case)], at < OPEN_FAILURES) for at, case in enumerate(failed[:SHOWN_FAILURES])]
    rest = len(failed) - len(shown)
    more = f'<p class="soft">{rest} more in the table of all checks.</p>' if rest else ""
    return (
        '<section id="failures"><h2>What does not agree</h2><p class="lead">The worst value of each check, the layer '
        "where it starts where layers were followed, and the command that shows it again.</p>"
        f"{''.join(shown)}{more}</section>"
    )


def _kill_totals(mutants: Mapping) -> str:
    totals = facts.rule_rows(mutants)
    variants = mutants["clean"]["variants"]
    killed, alarms = [], []
    for at, row in enumerate(totals):
        ours = "ours" if at == 0 else ""
        killed.append(f'<td class="{ours}">{row.killed} of {row.of}')
        warn = " warn" if row.alarms else ""
        said = words.NONE if row.alarms is None else f"{row.alarms} of {variants}"
        alarms.append(f'<td class="{ours}{warn}">{said}')
    return (
        f'<tr class="sum"><th>mutants killed<td class="place">{"".join(killed)}'
        f'<tr class="sum"><th>false alarms over clean variants<td class="place">{"".join(alarms)}'
    )


def _kill_row(row: Mapping, rules: Sequence[str]) -> str:
    name = f'<td class="mono">{escape(row["name"])}'
    if row["killed"] and not row["at_place"]:
        name += f'<br><span class="bad">found at {escape(row["found_at"] or "no place")}</span>'
    cells = []
    for at, rule in enumerate(rules):
        seen, ours = row["by_rule"].get(rule), at == 0
        kind = ("k ours" if ours else "k") if seen else "x" if ours else "m"
        cells.append(f'<td class="{kind}">{"✓" if seen else "missed" if ours else "·"}')
    return f'<tr>{name}<td class="mono place">{escape(row["place"])}{"".join(cells)}'


def _unbroken(rule: str) -> str:
    """A rule's name that is not broken within 1e-4 or after >."""
    return escape(re.sub(r"(?<=[<>]) ", "\u00a0", re.sub(r"(?<=e)-(?=\d)", "\u2011", rule))).replace("_", "_<wbr>")


def kill_matrix(mutants: Mapping | None) -> str:
    """Mutants against rules; ours is the first rule, the totals stand above."""
    if not mutants:
        return ""
    rules = mutants["rules"]
    several = len({row["framework"] for row in mutants["rows"]}) > 1
    groups: dict[str, list[Mapping]] = {}
    for row in mutants["rows"]:
        groups.setdefault(row["family"] + (f", in {row['framework']}" if several else ""), []).append(row)
    heads = "".join(
        f'<th class="rule{" ours" if at == 0 else ""}" scope="col">{_unbroken(rule)}' for at, rule in enumerate(rules)
    )
    bodies = "".join(
        f'<tbody><tr><th colspan="{len(rules) + 2}">{escape(name)}'
        + "".join(_kill_row(row, rules) for row in rows)
        + "</tbody>"
        for name, rows in groups.items()
    )
    return (
        '<section id="mutants"><h2>Would it have noticed?</h2><p class="lead">'
        f"{escape(words.mutants_headline(mutants))}. Each row is one port bug planted on purpose; each column is a "
        "rule that could have been used, the first the one that is.</p>"
        f'<div class="scroll"><table class="kills"><thead><tr><th>planted bug<th class="place">place{heads}'
        f"{_kill_totals(mutants)}</thead>{bodies}</table></div></section>"
    )


def tensors(case: Mapping, most: int = SHOWN_TENSORS) -> str:
    """The worst tensors of a case."""
    ranked = facts.ranked(case)
    rows = []
    for tensor in ranked[:most]:
        over = ' class="over"' if tensor["verdict"] == DIFFER else ""
        row = f"<tr{over}><td>{escape(tensor['name'])}{numbers(words.ratio(tensor['ratio']))}"
        if facts.was_measured(tensor):
            errors = [tensor[key] for key in ("rms_error", "rms_bound", "max_error", "max_bound")]
            row += numbers(*map(words.error, errors), words.count(tensor["ulp"]), words.index(tensor["index"]))
        else:
            row += f'<td colspan="6">{escape(tensor["message"])}'
        rows.append(row)
    if not rows:
        return ""
    head = "".join(f'<th class="n">{h}' for h in ("ratio", "rms", "allowed", "largest", "allowed", "ulp", "at"))
    rest = len(ranked) - len(rows)
    more = f'<p class="soft">and {words.plural(rest, "tensor")} with smaller ratios</p>' if rest else ""
    return f'<div class="scroll"><table><tr><th>tensor{head}{"".join(rows)}</table></div>{more}'


def _row(number: int, case: Mapping) -> str:
    tensor = facts.worst_tensor(case)
    measured = tensor and facts.was_measured(tensor)
    cells = [
        ("w", case["mode"]), ("w", case["precision"]), ("w", case["rule"]),
        ("n r", "broken" if case["verdict"] == BROKEN else words.ratio(case["ratio"])),
        ("n", words.error(tensor["max_error"]) if measured else words.NONE),
        ("n w", words.count(tensor["ulp"]) if measured and tensor["ulp"] else ""),
        ("n w", f"{case['seconds']:.2f}"),
    ]  # fmt: skip
    spans = "".join(f'<span class="{kind}">{escape(text)}</span>' for kind, text in cells)
    message = f"<p>{escape(case['message'])}</p>" if case["message"] else ""
    rank = 1e300 if case["verdict"] == BROKEN else min(facts.ordering(case["ratio"]), 1e299)
    order = f'data-r="{rank:.3g}" data-s="{case["seconds"]:.3g}"'
    return (
        f'<details class="row" id="c{number}" data-v="{case["verdict"]}" data-t="{escape(case["tier"])}" {order}>'
        f"<summary><i></i><code>{escape(case['id'])}</code>{spans}</summary>"
        f'<div class="inside">{message}{tensors(case)}'
        f'<pre class="command">{escape(case["reproduce"])}</pre></div></details>'
    )


def all_checks(results: Mapping) -> str:
    """Every case in one line that opens."""
    if not results["cases"]:
        return ""
    tiers = "".join(
        f'<option value="{escape(tier)}">{escape(words.tier(tier))}' for tier in facts.by_tier(results["cases"])
    )
    head = [
        ("w", "mode"), ("w", "precision"), ("w", "rule"), ("n", "ratio"), ("n", "largest error"),
        ("n w", "ulp"), ("n w", "seconds"),
    ]  # fmt: skip
    heads = "".join(f'<span class="{kind}">{name}</span>' for kind, name in head)
    rows = "\n".join(_row(number, case) for number, case in enumerate(results["cases"]))
    return (
        '<section id="checks"><h2>All checks</h2><div class="filter">'
        '<input id="find" type="search" placeholder="words of its name" aria-label="find a check">'
        '<select id="verdict" aria-label="verdict"><option value="">every verdict<option>agree<option>differ'
        f'<option>broken</select><select id="tier" aria-label="tier"><option value="">every tier{tiers}</select>'
        '<select id="order" aria-label="order"><option value="">in order<option value="r">worst ratio first'
        '<option value="s">slowest first</select><span class="soft" id="shown"></span></div>'
        f'<div class="head"><span></span><span>check</span>{heads}</div><div id="rows">{rows}</div></section>'
    )
