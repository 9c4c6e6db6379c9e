"""results.json as one HTML page that needs nothing but itself: to read, to send, to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..runner import BROKEN
from ..verdict import AGREE, DIFFER
from . import charts, facts, sections, style, words
from .svg import escape

SHOWN_DEPTHS, SHOWN_TRAJECTORIES = 6, 12

RULE = (
    "Arithmetic in {precision} is never exact, and how much it may lose depends on the computation, so the yardstick "
    "is measured and not chosen: everything is also computed in float64, and the error that {reference} itself makes "
    "against float64 is what honest rounding costs here.",
    "{candidate} may err a few times that much, or a few roundings of the result’s size where that is more; its "
    "<em>ratio</em> is its error over this bound, so up to 1 agrees and above 1 differs.",
    "Before any number is looked at, names, shapes, dtypes and the places of NaN and Inf must be the same, and a check "
    "that could not run is counted as broken, never as agreement.",
)


def _figures(results: Mapping) -> str:
    """The key numbers."""
    summary, mutants = results["summary"], results["mutants"]
    agreeing = [facts.ordering(case["ratio"]) for case in results["cases"] if case["verdict"] == AGREE]
    entries = []
    if results["cases"] or not mutants:
        entries.append(("checks", str(summary["total"]), "", ""))
        entries.append(("agree", str(summary[AGREE]), "", ""))
        entries.append(("differ", str(summary[DIFFER]), "", "bad" if summary[DIFFER] else ""))
        entries.append(("could not be judged", str(summary[BROKEN]), "", "bad" if summary[BROKEN] else ""))
    if agreeing:
        entries.append(("largest ratio that agrees", words.ratio(max(agreeing)), " of 1", ""))
    if mutants:
        ours = facts.rule_rows(mutants)[0]
        entries.append(
            ("planted bugs found", str(ours.killed), f" of {ours.of}", "" if ours.killed == ours.of else "bad")
        )
        entries.append(
            ("false alarms", str(ours.alarms or 0), f" of {mutants['clean']['variants']}", "bad" if ours.alarms else "")
        )
    entries.append(("took", words.duration(results["seconds"]), "", ""))
    cells = "".join(
        f'<div><dt>{name}</dt><dd class="{kind}">{number}<small>{unit}</small></dd></div>'
        for name, number, unit, kind in entries
    )
    return f'<dl class="figures">{cells}</dl>'


def _about(results: Mapping) -> str:
    """The rule for a newcomer beside the environment."""
    precisions = sorted({case["precision"] for case in results["cases"]}) or ["float32"]
    names = {
        "precision": escape(precisions[0] if len(precisions) == 1 else "low precision"),
        "candidate": escape(results["candidate"]),
        "reference": escape(results["reference"]),
    }
    told = {"bundle": results["bundle"]} if results["bundle"] else {}
    told |= results["environment"] | {"command": results["command"]}
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in told.items())
    return (
        '<section id="about" class="two"><div><h2>How it is judged</h2>'
        f"<p>{' '.join(RULE).format(**names)}</p></div>"
        f'<div><h2>Environment</h2><dl class="environment">{rows}</dl></div></section>'
    )


def _families(members: Sequence[tuple[int, Mapping]]) -> dict[str, list[tuple[int, Mapping]]]:
    groups: dict[str, list[tuple[int, Mapping]]] = {}
    for number, case in members:
        groups.setdefault(facts.family(case), []).append((number, case))
    return groups


def _heat_map(results: Mapping) -> str:
    numbers = {id(case): number for number, case in enumerate(results["cases"])}
    rows = []
    for tier, cases in facts.by_tier(results["cases"]).items():
        rows.append(
            f'<div class="tier"><h3>{escape(words.tier(tier))}<span>{words.plural(len(cases), "check")}</span></h3>'
        )
        for name, members in _families([(numbers[id(case)], case) for case in cases]).items():
            rows.append(f'<div class="family"><span class="of">{escape(name)}</span>{charts.cells(members)}</div>')
        rows.append("</div>")
    used = {charts.step_of(case) for case in results["cases"]}
    key = [(kind, label) for _, kind, label in charts.STEPS if kind in used or kind.startswith("h")]
    key += [("hb", "could not be judged")] if "hb" in used else []
    legend = "".join(f'<span><i class="{kind}"></i>{label}</span>' for kind, label in key)
    return f'<div class="key">{legend}</div><div class="map">{"".join(rows)}</div>'


def _ratios(results: Mapping) -> str:
    """Distribution and heat map."""
    if not results["cases"]:
        return ""
    return (
        '<section id="ratios"><h2>Every ratio</h2><p class="lead">Error over bound: calm colours agree, warm colours '
        'differ. Each square is a check; it says its name, and leads to its row.</p><div class="two"><figure>'
        f"{charts.histogram(results['cases'])}</figure><div>{_tier_table(results)}</div></div>"
        f"{_heat_map(results)}</section>"
    )


def _tier_table(results: Mapping) -> str:
    rows = []
    for row in facts.tier_rows(results["cases"]):
        worst = words.ratio(row.worst["ratio"]) if row.worst else words.NONE
        failing = "".join(f'<td class="n{" over" if n else ""}">{n}' for n in (row.differ, row.broken))
        cells = sections.numbers(str(row.cases), str(row.agree)) + failing
        cells += f'{sections.numbers(worst)}<td class="n w">{row.seconds:.1f}'
        rows.append(f'<tr><td class="label">{escape(words.tier(row.tier))}{cells}')
    heads = "".join(f'<th class="n">{name}' for name in ("checks", "agree", "differ", "broken", "worst"))
    heads += '<th class="n w">seconds'
    return f'<div class="scroll"><table><tr><th>tier{heads}{"".join(rows)}</table></div>'


def _charts(name: str, title: str, lead: str, figures: list[str], rest: str) -> str:
    """A section of figures, nothing where there are none; ``rest``: what is not shown, if anything."""
    if not figures:
        return ""
    more = f'<p class="soft">And {rest}, in results.json.</p>' if rest else ""
    return (
        f'<section id="{name}"><h2>{title}</h2><p class="lead">{lead}</p>'
        f'<div class="charts">{"".join(figures)}</div>{more}</section>'
    )


def _depths(results: Mapping) -> str:
    """Error by depth, for the cases whose layers were followed."""
    followed = [(n, case) for n, case in enumerate(results["cases"]) if case["layers"]]
    followed.sort(key=lambda pair: (pair[1]["verdict"] != DIFFER, -facts.ordering(pair[1]["ratio"])))
    figures = []
    for number, case in followed[:SHOWN_DEPTHS]:
        for side in (facts.FORWARD, facts.BACKWARD):
            if not any(layer.get(side) is not None for layer in case["layers"]):
                continue
            found = facts.culprit(case["layers"], side)
            said = f"starts at <code>{escape(found['path'])}</code>" if found else "no layer is wrong alone"
            direction = charts.SIDES[side][0]
            figures.append(
                f'<figure><figcaption><a href="#c{number}"><code>{escape(case["id"])}</code></a> {direction}: {said}'
                f"</figcaption>{charts.depth(case['layers'], side)}</figure>"
            )
    lead = (
        "Each layer is judged twice: fed the reference’s inputs (its <em>own</em> error), and as it stands in the "
        "running network (<em>inherited</em>). The first layer whose own error fails is where to look."
    )
    rest = f"{len(followed) - SHOWN_DEPTHS} more checks with layers" if len(followed) > SHOWN_DEPTHS else ""
    return _charts("depth", "Error by depth", lead, figures, rest)


def _trajectories(results: Mapping) -> str:
    """Free runs in their envelopes."""
    numbers = {id(case): number for number, case in enumerate(results["cases"])}
    pairs = facts.trajectories(results["cases"])
    figures = []
    for case, tensor in pairs[:SHOWN_TRAJECTORIES]:
        curves = tensor["trajectory"]
        link = f'<a href="#c{numbers[id(case)]}"><code>{escape(case["id"])}</code></a>'
        told = f"{link} {escape(tensor['name'])}, {len(curves['error'])} steps, ratio {words.ratio(tensor['ratio'])}"
        figures.append(f"<figure><figcaption>{told}</figcaption>{charts.trajectory(curves)}</figure>")
        if curves.get("candidate") and curves.get("truth"):
            figures.append(f"<figure><figcaption>and its values</figcaption>{charts.course(curves)}</figure>")
    lead = (
        "Two correct runs part as they go on. What is allowed at a step is measured: a few times the largest error "
        "that the reference’s own runs have had up to there."
    )
    rest = f"{len(pairs) - SHOWN_TRAJECTORIES} more free runs" if len(pairs) > SHOWN_TRAJECTORIES else ""
    return _charts("trajectories", "Free runs in their envelopes", lead, figures, rest)


def _navigation(body: str) -> str:
    titles = {
        "failures": "What does not agree",
        "about": "How it is judged",
        "ratios": "Every ratio",
        "depth": "Error by depth",
        "trajectories": "Free runs",
        "mutants": "Would it have noticed?",
        "checks": "All checks",
    }
    links = [f'<a href="#{key}">{title}</a>' for key, title in titles.items() if f'<section id="{key}"' in body]
    return f"<nav>{''.join(links)}</nav>"


def page(results: Mapping) -> str:
    """The whole page as text, self-contained."""
    good = facts.is_good(results)
    title = f"Parity of {results['candidate']} with {results['reference']}"
    parts = [
        sections.failures(results),
        _about(results),
        _ratios(results),
        _depths(results),
        _trajectories(results),
        sections.kill_matrix(results["mutants"]),
        sections.all_checks(results),
    ]
    body = "".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style.CSS}</style></head><body>"
        f'<header><div class="eyebrow">{escape(title)}</div>'
        f'<h1 class="{"good" if good else "bad"}">{escape(words.headline(results))}</h1>'
        f"{_figures(results)}{_navigation(body)}</header>"
        f"<main>{body}</main>"
        f"<footer>Rendered from results.json, format {results['format']}.</footer>"
        f"{f'<script>{style.SCRIPT}</script>' if results['cases'] else ''}</body></html>\n"
    )
