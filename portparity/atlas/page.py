"""The atlas as one HTML page that needs nothing but itself: a table to sort and search, reproducers of offenders."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from ..report import style
from ..report.svg import escape
from . import rows
from .rows import Row
from .worst import SHOWN, number, offenders, part

CSS = """
body { max-width: 1480px; }
.worst td, .worst th { padding: 4px 16px 4px 0; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
.worst .at { color: var(--soft); } .worst code, .worst td:nth-child(2) { white-space: nowrap; }
#atlas { width: 100%; table-layout: fixed; }
#atlas th { position: sticky; top: 0; background: var(--page); z-index: 1; padding: 6px 8px 6px 0;
  border-bottom: 1px solid var(--rule); line-height: 1.25; }
#atlas th button { all: unset; cursor: pointer; } #atlas th button:hover { color: var(--ink); }
#atlas th button:focus-visible { outline: 2px solid var(--accent); }
#atlas th[aria-sort=ascending] button::after { content: " ↑"; } #atlas th[aria-sort=descending] button::after {
  content: " ↓"; }
#atlas td { padding: 3px 8px 3px 0; border-bottom: 1px solid var(--rule); vertical-align: baseline;
  overflow-wrap: anywhere; }
#atlas tr.row { border: 0; } #atlas tr.row[tabindex] { cursor: pointer; }
#atlas tr.row:hover { background: var(--well); }
#atlas td.name { font-family: var(--mono); font-size: .92em; } #atlas .n { padding-right: 10px; }
#atlas td.what { color: var(--soft); } #atlas td.what b { font-weight: 500; color: var(--ink); }
#atlas .inside td { padding: 2px 0 14px 22px; } #atlas .inside pre { margin: 8px 0; font-size: 12.5px; }
.v { display: inline-block; border-radius: 3px; padding: 0 7px; font-size: 12.5px; white-space: nowrap; }
.v0 { background: var(--a3); color: #fff; } .v1 { background: var(--a3); color: #fff; }
.v2 { background: var(--hb); color: var(--on); } .v3 { background: var(--a1); color: #241600; }
.v4 { background: var(--well); color: var(--soft); } .v5 { background: var(--h1); color: var(--soft); }
td .u { border-radius: 3px; padding: 0 5px; margin-right: -5px; }
.u1 { background: var(--a1); color: #241600; } .u2 { background: var(--a2); color: #fff; }
.u3 { background: var(--a3); color: #fff; }
dl.verdicts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; margin: 12px 0;
  font-size: 14px; align-items: baseline; }
dl.verdicts dd { margin: 0; color: var(--soft); }
@media screen and (max-width: 900px) { #atlas .w { display: none; } #atlas, .worst { font-size: 12.5px; } }
@media print { #atlas th { position: static; } }
"""

SCRIPT = """
document.documentElement.classList.add("js");
const table = document.getElementById("atlas"), bodies = [...table.tBodies], by = id => document.getElementById(id);
const picks = ["verdict", "dtype", "mode", "module"];
const said = new Map(bodies.map(b => [b, b.dataset.s]));
function show() {
  const words = by("find").value.toLowerCase().split(/\\s+/);
  let shown = 0;
  for (const b of bodies) {
    const other = p => by(p).value && b.dataset[p] !== by(p).value && !(p === "mode" && b.dataset[p] === "both");
    b.hidden = picks.some(other)
      || !words.every(w => said.get(b).includes(w));
    shown += !b.hidden;
  }
  by("shown").textContent = shown + " of " + bodies.length;
}
table.tHead.addEventListener("click", event => {
  const head = event.target.closest("th");
  if (!head) return;
  const down = head.getAttribute("aria-sort") === (head.dataset.n ? "descending" : "ascending");
  const sign = head.dataset.n ? (down ? 1 : -1) : (down ? -1 : 1), i = head.cellIndex;
  const value = c => head.dataset.n ? +(c.dataset.n || -1) : c.dataset.k || c.textContent;
  const key = b => value(b.rows[0].cells[i]);
  const keys = new Map(bodies.map(b => [b, key(b)]));
  bodies.sort((a, b) => { const x = keys.get(a), y = keys.get(b); return sign * (x < y ? -1 : x > y ? 1 : 0); });
  table.append(...bodies);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
});
function open(row) { const inside = row.nextElementSibling; if (inside) inside.hidden = !inside.hidden; }
table.addEventListener("click", event => {
  const row = event.target.closest("tr.row");
  if (row && !String(getSelection())) open(row);
});
table.addEventListener("keydown", event => {
  if (event.key === "Enter" && event.target.matches("tr.row")) open(event.target);
});
function follow() {
  const body = location.hash.startsWith("#r") && by(location.hash.slice(1));
  if (!body) return;
  for (const id of ["find", ...picks]) by(id).value = "";
  show();
  const inside = body.rows[1];
  if (inside) inside.hidden = false;
  body.scrollIntoView({block: "center"});
}
for (const id of ["find", ...picks]) by(id).addEventListener("input", show);
addEventListener("hashchange", follow);
document.querySelectorAll("tr.inside").forEach(row => row.hidden = true);
show(); follow();
"""

COLUMNS = (  # heading, whether it is a number, width, class
    ("operator", False, "17%", ""), ("part", False, "9%", ""), ("dtype", False, "74px", ""),
    ("mode", False, "72px", "w"), ("verdict", False, "92px", ""), ("ulp", True, "66px", ""),
    ("PyTorch", True, "66px", ""),
    ("extreme", True, "66px", "w"), ("PyTorch", True, "66px", "w"), ("rms", True, "62px", "w"),
    ("PyTorch", True, "62px", "w"), ("what was seen", False, "", ""),
)  # fmt: skip


def _heat(x: float | None, theirs: float | None) -> str:
    """A class for a number that stands out, beside PyTorch's."""
    if x is None or x <= 4 or x <= 4 * (theirs or 0):
        return ""
    return " u3" if x > 1e4 else " u2" if x > 64 else " u1"


def _cells(pairs: Sequence[tuple[float | None, float | None, str]]) -> str:
    made = []
    for ours, theirs, kind in pairs:
        for x, heat in ((ours, _heat(ours, theirs)), (theirs, "")):
            sort = "" if x is None else f' data-n="{1e300 if math.isinf(x) else f"{x:g}"}"'
            made.append(f'<td class="n{kind}"{sort}><span class="u{heat}">{number(x)}</span>')
    return "".join(made)


def _seen(row: Row) -> str:
    """What was seen, where, and both answers."""
    text = f"<b>{escape(row.said)}</b>" if row.said else ""
    if row.verdict == rows.AGREES and not row.is_words:
        return text
    if row.where and row.verdict != rows.CRASHES:
        text += f" at {escape(row.where)}"
    if row.mindspore:
        text += f": {escape(row.mindspore)}"
        text += f", PyTorch {escape(row.torch)}" if row.torch else ""
        text += f", float64 {escape(row.truth)}" if row.truth and row.truth != row.torch else ""
    return text


def _row(number_: int, row: Row) -> str:
    verdict = list(rows.VERDICTS).index(row.verdict)
    module = row.operator.split(".")[0] if row.operator.startswith(("ops.", "mint.", "nn.")) else "Tensor"
    find = " ".join((row.operator, part(row), row.dtype, row.mode, row.verdict, row.said, row.where)).lower()
    shown_dtype = {"bfloat16": "bf16"}.get(row.dtype, row.dtype)
    data = {"verdict": row.verdict, "dtype": row.dtype, "mode": row.mode, "module": module, "s": find}
    attributes = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    heads = f'<td class="name">{escape(row.operator)}<td>{escape(part(row))}<td>{shown_dtype}<td class="w">{row.mode}'
    heads += f'<td data-k="{verdict}"><span class="v v{verdict}">{row.verdict}</span>'
    cells = _cells(((row.ulp, row.torch_ulp, ""), (row.extreme_ulp, row.torch_extreme_ulp, " w"),
                    (row.units, row.torch_units, " w")))  # fmt: skip
    opens = ' tabindex="0" title="opens the reproducer"' if row.reproducer else ""
    text = f'<tbody id="r{number_}"{attributes}><tr class="row"{opens}>{heads}{cells}<td class="what">{_seen(row)}'
    if row.reproducer:
        text += f'<tr class="inside"><td colspan="{len(COLUMNS)}"><pre>{escape(row.reproducer)}</pre>'
    return text


def _worst(found: Sequence[Row]) -> str:
    numbers = {id(row): i for i, row in enumerate(found)}
    lines = []
    for offender in offenders(found)[:SHOWN]:
        row = offender.row
        verdict = list(rows.VERDICTS).index(row.verdict)
        names = ", ".join(f"<code>{escape(name)}</code>" for name in offender.names[:3])
        names += f" and {len(offender.names) - 3} more" if len(offender.names) > 3 else ""
        names += f" ({offender.mode})" if offender.mode else ""
        lines.append(
            f'<tr><td><a href="#r{numbers[id(row)]}">{names}</a><td>{escape(part(row))}'
            f'<td><span class="v v{verdict}">{row.verdict}</span>'
            f"{_cells(((row.ulp, row.torch_ulp, ''), (row.units, row.torch_units, ' w')))}"
            f'<td class="at">{_seen(row)}'
        )
    heads = "<tr><th>operator<th>part<th>verdict<th class=n>ulp<th class=n>PyTorch<th class='n w'>rms"
    heads += "<th class='n w'>PyTorch<th>what was seen"
    return (
        f'<section id="worst"><h2>The {min(SHOWN, len(lines))} worst in float32</h2><p class="lead">Crashes, wrong '
        "results, and then how many times as far off as PyTorch. Operators that show the same numbers are one line; it "
        f'leads to its row and a reproducer.</p><div class="scroll"><table class="worst">{heads}'
        f'{"".join(lines)}</table></div>'
        "</section>"
    )  # fmt: skip


def _pick(name: str, first: str, choices: Sequence[str]) -> str:
    options = "".join(f'<option value="{escape(c)}">{escape(c)}' for c in choices)
    return f'<select id="{name}" aria-label="{name}"><option value="">{first}{options}</select>'


def _table(found: Sequence[Row]) -> str:
    dtypes = sorted({row.dtype for row in found if row.dtype in ("float32", "float16", "bfloat16")}, reverse=True)
    picks = _pick("verdict", "every verdict", list(rows.VERDICTS)) + _pick("dtype", "every dtype", dtypes)
    picks += _pick("mode", "both modes", ["pynative", "graph"])
    picks += _pick("module", "all of it", ["ops", "mint", "nn", "Tensor"])
    heads = "".join(
        f'<th{" data-n=1" if numeric else ""} class="{"n " if numeric else ""}{kind}"><button>{name}</button>'
        for name, numeric, _, kind in COLUMNS
    )
    columns = "".join(
        f'<col class="{kind}"{f" style=width:{width}" if width else ""}>' for _, _, width, kind in COLUMNS
    )
    body = "".join(_row(i, row) for i, row in enumerate(found))
    return (
        '<section id="all"><h2>Every row</h2><p class="lead">A heading sorts. ulp: floats between the result and the '
        "float64 value rounded once, the worst of ordinary arguments; extreme: up to 100, tiny, huge, special (for "
        "sums, as rms); rms: error over size, in roundings. An offender’s row opens its reproducer.</p>"
        f'<div class="filter"><input id="find" type="search" placeholder="operator, part, words" aria-label="search">'
        f'{picks}<span id="shown" class="soft"></span></div>'
        f'<table id="atlas"><colgroup>{columns}</colgroup><thead><tr>{heads}</thead>{body}</table></section>'
    )


def page(found: Sequence[Row], environment: Mapping[str, str]) -> str:
    """The whole page as text."""
    counts = Counter(row.verdict for row in found)
    operators = {row.operator for row in found}
    bad = {row.operator for row in found if row.verdict in (rows.CRASHES, rows.WRONG, rows.DIFFERS, rows.IMPRECISE)}
    offending = {row.operator for row in found if row.verdict in (rows.CRASHES, rows.WRONG)}
    title = "The operators’ atlas: whose float32 is right?"
    headline = f"{len(operators)} operators: {len(operators - bad)} as PyTorch, {len(offending)} wrong or crashing"
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{count}</dd></div>"
        for name, count in (("rows", len(found)), *((v, counts[v]) for v in rows.VERDICTS))
    )
    legend = "".join(
        f'<dt><span class="v v{i}">{verdict}</span></dt><dd>{meaning}</dd>'
        for i, (verdict, meaning) in enumerate(rows.VERDICTS.items())
    )
    told = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in environment.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style.CSS}{CSS}</style></head><body>"
        f'<header><div class="eyebrow">{title}</div><h1 class="{"bad" if offending else "good"}">{headline}</h1>'
        f'<dl class="figures">{figures}</dl><nav><a href="#worst">The worst</a>'
        '<a href="#all">Every row</a></nav></header>'
        f'<main><section id="about" class="two"><div><h2>How to read it</h2><dl class="verdicts">{legend}</dl></div>'
        f'<div><h2>Environment</h2><dl class="environment">{told}</dl></div></section>'
        f"{_worst(found)}{_table(found)}</main>"
        f"<footer>The same as data: atlas.json.</footer><script>{SCRIPT}</script></body></html>\n"
    )
