"""The wording that every report shares: numbers as text, one sentence for the whole, the facts of one failure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..case import TITLES
from ..runner import BROKEN
from ..verdict import AGREE, DIFFER
from . import facts

NONE = "–"
SIDES = {"candidate": "candidate", "reference": "reference", "truth": "float64"}


def plain(number: str) -> str:
    """A number's text in ASCII, for terminals."""
    return {"∞": "inf", NONE: "-"}.get(number, number)


def printable(text: str) -> str:
    """The text without what a terminal would obey or could not write."""
    return "".join(char if char.isprintable() else "?" for char in text)


def ratio(x: float | None) -> str:
    """A ratio with as many digits as mean something: 0.0031, 0.42, 12.3, 4.1e+05, ∞."""
    if x is None or math.isnan(x):
        return NONE
    if math.isinf(x):
        return "∞"
    if x == 0:
        return "0"
    if x >= 1e4 or x < 1e-3:
        return f"{x:.1e}"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def error(x: float | None) -> str:
    """An error, to two digits."""
    if x is None:
        return NONE
    return "0" if x == 0 else "∞" if math.isinf(x) else f"{x:.1e}"


def value(x: float) -> str:
    """A float32's value with all the digits that it has."""
    return f"{x:.9g}"


def count(x: float) -> str:
    """A whole number; above a hundred thousand by its size only."""
    return f"{x:.0f}" if x < 1e5 else f"{x:.0e}"


def index(where: Sequence[int]) -> str:
    """[0,3,2], or nothing where there is no index."""
    return f"[{','.join(map(str, where))}]" if where else ""


def duration(seconds: float) -> str:
    """1.2 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def tier(name: str) -> str:
    """ "2 layers" of "2"."""
    title = TITLES.get(name, "")
    return name if title in ("", name) else f"{name} {title}"


def plural(n: int, noun: str) -> str:
    """1 check, 2 checks."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def mutants_headline(mutants: Mapping) -> str:
    """How many mutants were killed, where, and at what price."""
    rows, clean = mutants["rows"], mutants["clean"]
    killed = sum(bool(row["killed"]) for row in rows)
    at_place = sum(bool(row["killed"] and row["at_place"]) for row in rows)
    where = "every one at its place" if at_place == len(rows) else f"{at_place} at their place"
    alarms = clean["alarms"].get(mutants["rules"][0], 0) if mutants["rules"] else 0
    return (
        f"{killed} of {plural(len(rows), 'mutant')} killed, {where}; "
        f"{plural(alarms, 'false alarm')} over {clean['variants']} clean variants"
    )


def headline(results: Mapping) -> str:
    """The whole in one sentence."""
    summary, total = results["summary"], results["summary"]["total"]
    candidate, reference = results["candidate"], results["reference"]
    if not total:
        return mutants_headline(results["mutants"]) + "." if results["mutants"] else "Nothing ran, so nothing is known."
    if summary[AGREE] == total:
        subject = "The one check agrees" if total == 1 else f"{total} of {total} checks agree"
        return f"{subject}: {candidate} computes what {reference} computes."
    first = facts.failures(results["cases"])[0]["id"]
    differ, broken = summary[DIFFER], summary[BROKEN]
    verb = "could not be judged" if not differ else "differs" if differ == 1 else "differ"
    more = f" and {broken} could not be judged" if differ and broken else ""
    naming = "it is" if differ + broken == 1 else "the first is"
    return f"{differ or broken} of {plural(total, 'check')} {verb}{more}; {naming} {first}."


def errors(tensor: Mapping) -> list[tuple[str, list[str]]]:
    """(kind of error, [candidate's, allowed, reference's]) of a tensor, for the kinds that have a bound."""
    rows = []
    for kind, name in (("rms", "worst step" if tensor.get("trajectory") else "rms"), ("max", "largest")):
        if tensor[f"{kind}_bound"]:
            rows.append((name, [error(tensor[f"{kind}_{what}"]) for what in ("error", "bound", "reference")]))
    return rows


def values(tensor: Mapping) -> list[tuple[str, str, str]]:
    """(side, value, how far off float64) at the worst index: candidate, reference, float64."""
    at = facts.values_at_index(tensor)
    truth = at.get("truth")
    return [
        (SIDES[side], value(x), "" if truth is None or side == "truth" else f"{x - truth:+.1e}")
        for side, x in at.items()
    ]


def tree(layers: Sequence[Mapping], side: str = facts.FORWARD) -> list[str]:
    """The tree down to the first culprit, a line a layer, columns aligned."""
    lines = facts.tree_to_culprit(layers, side)
    names = ["  " * line.indent + line.name + (f" ({line.count} layers)" if line.count > 1 else "") for line in lines]
    width = max(map(len, names), default=0)
    texts = []
    for name, line in zip(names, lines, strict=True):
        numbers = f"own {plain(ratio(line.own)):>8}  inherited {plain(ratio(line.inherited)):>8}"
        mark = "  <- first culprit" if line.culprit else "  <- own error fails" if line.failing else ""
        texts.append(f"{name:<{width}}  {numbers}{mark}" if line.own is not None else name)
    return texts


def _of_tensor(tensor: Mapping) -> list[str]:
    lines = [f"at {tensor['name']}{index(tensor['index'])}:"]
    for side, number, off in values(tensor):
        lines.append(f"  {side:<10} {number:>14}" + (f"  off by {off}" if off else ""))
    for name, (found, allowed, own) in errors(tensor):
        lines.append(f"  {name:<10} {found:>14}  allowed {allowed}, reference's own {own}")
    return lines + ([f"  {'ulp':<10} {count(tensor['ulp']):>14}"] if tensor["ulp"] else [])


def failure(case: Mapping) -> list[str]:
    """All that is known about one case that does not agree, as lines of plain text; the last is the command."""
    lines = [" ".join(case["message"].split())] if case["message"] else []
    tensor = facts.worst_tensor(case)
    if tensor and facts.was_measured(tensor):
        lines += _of_tensor(tensor)
    for side, title in ((facts.FORWARD, "layers, forward"), (facts.BACKWARD, "layers, backward")):
        if found := tree(case["layers"], side):
            lines += [f"{title}:"] + [f"  {line}" for line in found]
    return [printable(line) for line in [*lines, f"reproduce: {case['reproduce']}"]]
