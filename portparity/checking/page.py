"""`Findings` as files: results.json, junit.xml and summary.md as of any run, and a page of both models' layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import report as reports
from ..bundles import versions
from ..localise import Layer
from ..report import charts, facts, markdown, sections, style, words
from ..report.svg import escape
from ..runner import BROKEN
from ..verdict import AGREE, DIFFER
from . import look
from .findings import Findings
from .panels import ERRORS, cells, command_of, over, panel, short
from .trees import Row

DECADES = 3  # of a bar, on either side of the limit
JOINT = " -> "


def write(report: Findings, folder: Path) -> Path:
    """Writes the four files into ``folder``, which is made where it is missing; returns it."""
    renderers = {
        **reports.RENDERERS,
        "summary.md": lambda found: summary(report, found),
        "report.html": lambda found: page(report, found),
    }
    reports.write(results(report), folder, renderers)
    return folder


def results(report: Findings) -> dict:
    """What results.json holds: what it does of any run, and both models' layers, which is which, and the notes."""
    trees, again = report.trees, command_of(report)
    found = reports.results(
        [replace(outcome, reproduce=outcome.reproduce or again) for outcome in report.outcomes],
        candidate=f"the port {trees.port.get('', '')}".strip(),
        reference=f"the original {trees.original.get('', '')}".strip(),
        environment=versions(),
        command=again,
        seconds=report.seconds,
    )
    return found | {
        "title": report.title,
        "first_culprit": report.first_culprit,
        "trees": {"original": dict(trees.original), "port": dict(trees.port), "pairs": dict(trees.pairs)},
        "layers_left_out": dict(report.left_out),
        "notes": list(report.notes),
    }


def summary(report: Findings, found: Mapping) -> str:
    """The Markdown of any run, and the culprit and the notes below."""
    lines = [f"First culprit: {markdown.code(report.first_culprit)}", ""] if report.first_culprit else []
    lines += [f"- {markdown.cell(note)}" for note in report.notes]
    return markdown.summary(found) + ("\n" + "\n".join(lines).rstrip() + "\n" if lines else "")


def page(report: Findings, found: Mapping) -> str:
    """The whole page as text, self-contained."""
    culprits = (report.first_culprit or "").split(JOINT)
    opened = _opened(report, culprits)
    title = f"{report.title}: {report.verdict}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style.CSS}{look.CSS}</style></head><body>"
        f'<header><div class="eyebrow">{escape(report.title)}</div>{_verdict(report, found, opened)}'
        f"{_figures(report)}</header>"
        f"<main>{_parts(found)}{_layers(report, culprits, opened)}{_rest(report, found)}</main>"
        f"<footer>All numbers of its parts are in results.json, format {found['format']}.</footer>"
        f"<script>{look.SCRIPT}</script></body></html>\n"
    )


def _verdict(report: Findings, found: Mapping, opened: int | None) -> str:
    """One line, and why in another."""
    culprit = report.first_culprit
    if report.verdict == AGREE:
        parts = words.plural(len(report.outcomes), "part")
        return f'<h1 class="good">The port computes what its original computes: {parts}, and no difference.</h1>'
    if not culprit:
        return f'<h1 class="bad">{escape(words.headline(found))}</h1>{_first_message(report)}'
    where = f"between {culprit.replace(JOINT, ' and ')}" if JOINT in culprit else f"in {culprit}"
    link = escape(where) if opened is None else f'<a href="#layer-{opened}">{escape(where)}</a>'
    why = report.layers[opened].message if opened is not None else ""
    if JOINT in culprit:
        why = "No layer is wrong alone, but in the free run values part there: what joins the layers is not the same."
    said = f"<p>{escape(why)}</p>" if why else ""
    return f'<h1 class="bad">The port differs; it goes wrong first {link}.</h1>{said}'


def _first_message(report: Findings) -> str:
    failed = next((outcome for outcome in report.outcomes if outcome.verdict != AGREE), None)
    said = [*report.in_training, f"{failed.id}: {failed.message}"] if failed else []
    return f"<p>{escape(said[0])}</p>" if said else ""


def _figures(report: Findings) -> str:
    agreeing = sum(outcome.verdict == AGREE for outcome in report.outcomes)
    wrong = sum(layer.verdict == DIFFER for layer in report.layers)
    alone = [e for layer in report.layers for e in (layer.own, layer.own_backward) if e is not None]
    largest = words.ratio(max(map(facts.ordering, alone))) if alone else words.NONE
    entries = [
        ("parts that agree", str(agreeing), f" of {len(report.outcomes)}", agreeing < len(report.outcomes)),
        ("layers wrong alone", str(wrong), f" of {len(report.layers)}", wrong),
        ("largest error of a layer alone", largest, " of 1", wrong),
        ("not looked at alone", str(len(report.left_out)), "", False),
        ("took", words.duration(report.seconds), "", False),
    ]
    made = "".join(
        f'<div><dt>{name}</dt><dd class="{"bad" if bad else ""}">{number}<small>{unit}</small></dd></div>'
        for name, number, unit, bad in entries
    )
    return f'<dl class="figures">{made}</dl>'


def _parts(found: Mapping) -> str:
    scale = f"<div><span>10⁻{'³'}</span><span>limit 1</span><span>10³</span></div>"
    return (
        '<section id="parts"><h2>What was judged</h2><p class="lead">Error over bound, on a log scale: up to 1 agrees. '
        f'A part opens.</p><div class="scale">{scale}</div><div class="parts">'
        f"{''.join(map(_part, found['cases']))}</div></section>"
    )


def _part(case: Mapping) -> str:
    """One part in a line that opens."""
    ratio = facts.ordering(case["ratio"])
    position = 0.0 if ratio <= 0 else 50 + 50 * math.log10(min(max(ratio, 1e-9), 1e9)) / DECADES
    width = min(max(position, 2.0 if ratio > 0 else 0.0), 100.0)
    bar = f'<i class="{charts.step_of(case)}" style="width:{width:.1f}%"></i>'
    number = "broken" if case["verdict"] == BROKEN else short(ratio)
    message = case["message"] or f"{words.plural(len(case['tensors']), 'array')}"
    more = '<p class="links"><a href="#layers">layer by layer</a></p>' if case["layers"] else ""
    return (
        f'<details class="part" data-v="{case["verdict"]}"><summary><span class="dot"></span>'
        f'<span>{escape(case["id"])}</span><span class="bar">{bar}</span><span class="n">{number}</span>'
        f'<span class="say">{escape(message)}</span></summary><div class="inside">{sections.tensors(case)}{more}'
        f'<pre class="command">{escape(case["reproduce"])}</pre></div></details>'
    )


def _opened(report: Findings, culprits: Sequence[str]) -> int | None:
    """Which layer's panel stands open at first: the culprit's; of a joint the side that is wrong in the free run."""
    found = [at for at, layer in enumerate(report.layers) if layer.path in culprits]
    return min(found, key=lambda at: (not over(report.layers[at].inherited), at), default=None)


def _layers(report: Findings, culprits: Sequence[str], opened: int | None) -> str:
    """Both trees, and beside them the panel of the layer that was clicked."""
    if not report.trees.original:
        return ""
    by_path: dict[str, list[int]] = {}
    for at, layer in enumerate(report.layers):
        by_path.setdefault(_owner(layer), []).append(at)
    marks = _in_training(report)
    lines = "".join(
        _line(report, row, by_path.get(row.port or "", []), culprits, marks.get(row.port or "", ()))
        for row in report.trees.rows()
    )
    panels = "".join(panel(report, at, by_path[_owner(layer)], at == opened) for at, layer in enumerate(report.layers))
    heads = '<i class="wide">alone</i><i class="wide">free run</i>'
    heads += '<i title="forward">→</i><i title="backward">←</i>' * 2
    return (
        '<section id="layers"><h2>Layer by layer</h2><p class="lead">Alone: the port’s layer on what the original’s '
        "was given, so that only what it does itself can be wrong. Free run: with every error before it. Each forward "
        "(→) and backward (←). The first layer wrong alone is where to look. A click shows a layer, and so do Enter "
        "and the arrows.</p>"
        '<div class="tools"><input id="find" type="search" placeholder="part of a path" aria-label="find a layer">'
        '<label><input id="only" type="checkbox"> only what is beyond its bound</label></div>'
        f'{_legend()}<div class="bench"><div class="trees"><div class="over-trees"><span>the original</span>'
        f'<span class="port">the port</span><span class="errs">{heads}</span></div>{lines}</div>'
        f'<aside class="panels"><p class="hint soft">A click on a layer shows its numbers here.</p>{panels}</aside>'
        "</div></section>"
    )


def _in_training(report: Findings) -> dict[str, list[str]]:
    """What of a layer differs in training alone, by the port's path: its running statistics, its dropout."""
    ours = {theirs: mine for mine, theirs in report.trees.pairs.items()}
    found: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        for tensor in outcome.failed:
            owner, _, last = tensor.name.removeprefix("buffer.").rpartition(".")
            if outcome.id == "dropout layers":
                found.setdefault(tensor.name, []).append("dropout")
            elif tensor.name.startswith("buffer."):
                found.setdefault(ours.get(owner, owner), []).append(last)
    return found


def _owner(layer: Layer) -> str:
    """The path without the number of the call."""
    return layer.path.partition("#")[0]


def _legend() -> str:
    marks = []
    for most, kind, label in charts.STEPS:
        marks.append(f'<span style="border-color:var(--{kind})">{label}</span>')
        if most == 1:
            marks.append('<span class="limit">limit</span>')
    return f'<div class="legend">{"".join(marks)}</div>'


def _line(report: Findings, row: Row, calls: Sequence[int], culprits: Sequence[str], in_training: Sequence[str]) -> str:
    """A pair, with the largest errors of all its calls; it leads to the panel of the first call that is wrong."""
    layers = [report.layers[at] for at in calls]
    path = row.original if row.port is None else row.port
    depth = 1 + path.count(".") if path else 0
    names = _name(row.original, report.trees.original, "original", "no counterpart in the original")
    names += _name(row.port, report.trees.port, "port", "no counterpart in the port")
    why = _why_not(report, row, layers)
    mark = any(layer.path in culprits for layer in layers)
    chip = ""
    if mark:
        said = f"the joint {' → '.join(culprits)}" if len(culprits) > 1 else "first culprit"
        chip = f'<span class="chip">{escape(said)}</span>'
    if in_training:
        chip += f'<span class="chip">in training: {escape(", ".join(in_training))}</span>'
    errors = [_largest(layers, name) for name in ERRORS]
    kind = "line" + (" culprit" if mark or in_training else "") + (" grey" if not layers else "")
    wrong = in_training or any(map(over, errors))
    data = f'data-path="{escape(f"{row.original} {row.port}")}"' + (" data-over=1" if wrong else "")
    idle = "" if row.original is None or row.port is None or why or not path else "not called"
    shown = cells(errors, path) if layers else f'<span class="idle">{idle}</span>'
    inside = names + shown + (f'<span class="why" title="{escape(why)}">{escape(why)}</span>' if why else "") + chip
    look_of = f'class="{kind}" style="--d:{depth}" {data}'
    if not layers:
        return f"<div {look_of}>{inside}</div>"
    first = next((at for at in calls if any(over(getattr(report.layers[at], name)) for name in ERRORS)), calls[0])
    return f'<a {look_of} href="#layer-{first}">{inside}</a>'


def _name(path: str | None, classes: Mapping[str, str], side: str, nobody: str) -> str:
    if path is None:
        return f'<span class="name nobody {side}">{nobody}</span>'
    depth = 1 + path.count(".") if path else 0
    last = f"<b>{escape(path.rpartition('.')[2])}</b>" if path else ""
    told = escape(f"{path} {classes[path]}".strip())
    last += f"<small>{escape(classes[path])}</small>"
    return f'<span class="name {side}" style="--d:{depth}" title="{told}">{last}</span>'


def _why_not(report: Findings, row: Row, layers: Sequence[Layer]) -> str:
    """Why a pair could not be tried alone."""
    if row.original is None or row.port is None or row.port == "":
        return ""
    reasons = [
        report.left_out[name] for name in (row.port, *(layer.path for layer in layers)) if name in report.left_out
    ]
    return f"not tried alone: {reasons[0]}" if reasons else ""


def _largest(layers: Sequence[Layer], name: str) -> float | None:
    known = [getattr(layer, name) for layer in layers if getattr(layer, name) is not None]
    return max(known, key=facts.ordering, default=None)


def _rest(report: Findings, found: Mapping) -> str:
    """Notes, and what the numbers depend on."""
    notes = "".join(f"<li>{escape(note)}" for note in report.notes)
    told = found["environment"] | {"command": found["command"].replace("\n", "; ")}
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in told.items())
    shown = f'<h2>Notes</h2><ul class="notes">{notes}</ul>' if notes else "<h2>Notes</h2><p>None.</p>"
    return (
        f'<section id="notes" class="two"><div>{shown}</div>'
        f'<div><h2>Environment</h2><dl class="environment">{rows}</dl></div></section>'
    )
