"""The look of the page and its few lines of script. Without the script, all is there; only the filter is not."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #fcfcfa; --well: #f4f5f2; --ink: #1b2125; --soft: #57626b; --rule: #dfe3e0; --accent: #1d6b74;
  --h0: #e6eae7; --h1: #d2e5e5; --h2: #b0d5d7; --h3: #82bdc2; --h4: #4a989f; --h5: #1d6b74;
  --a1: #f0a23c; --a2: #dc5a2a; --a3: #a4152b; --hb: #5d5470; --on: #fff;
  --bad: #b3261e; --warn: #9a5b00; --good: #1d6b74; --tube: #1d6b7418; --second: #82bdc2;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --well: #1c2226; --ink: #e3e7e9; --soft: #98a4ac; --rule: #2c3439; --accent: #63bac2;
    --h0: #232b2f; --h1: #203539; --h2: #204950; --h3: #26656d; --h4: #35888f; --h5: #66c3cb;
    --a1: #d99a35; --a2: #f0703d; --a3: #ff4a5c; --hb: #9b8fb5; --on: #101315;
    --bad: #ff7a70; --warn: #e2ab53; --good: #63bac2; --tube: #63bac21c; --second: #3d8d95;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1120px; padding: 40px 28px 80px; background: var(--page); color: var(--ink);
  font: 15px/1.5 var(--sans); font-variant-numeric: tabular-nums; }
code, pre, kbd, .mono { font-family: var(--mono); font-size: .86em; }
code { overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
h1 { font-size: 25px; line-height: 1.28; font-weight: 600; letter-spacing: -.012em; margin: 6px 0 10px;
  max-width: 40em; overflow-wrap: anywhere; text-wrap: pretty; }
h2 { font-size: 19px; font-weight: 600; letter-spacing: -.005em; margin: 0 0 4px; }
h3 { font-size: 15px; font-weight: 600; margin: 0; }
section { margin-top: 52px; padding-top: 18px; border-top: 1px solid var(--rule); }
p { margin: 0 0 12px; max-width: 46em; }
.lead, figcaption, .soft { color: var(--soft); }
.eyebrow { color: var(--soft); font-size: 13px; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
h1::before { content: ""; display: inline-block; width: .62em; height: .62em; margin-right: .42em; border-radius: 50%;
  background: var(--good); }
h1.bad::before { background: var(--bad); }
h1.good, h1.bad { color: inherit; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; margin-top: 14px; }

.figures { display: flex; flex-wrap: wrap; gap: 18px 34px; margin: 28px 0 0; padding: 0; }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 0; font-size: 24px; font-weight: 500; letter-spacing: -.01em; line-height: 1.25; }
.figures dd small { font-size: 14px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.two { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 20px 48px; }
.environment { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 18px; margin: 0;
  font-size: 14px; }
.environment dt { color: var(--soft); }
.environment dd { margin: 0; overflow-wrap: anywhere; }

figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; stroke-linejoin: round; }
figcaption { font-size: 14px; margin-bottom: 6px; }
figcaption code { color: var(--ink); }
figure svg text { font-variant-numeric: tabular-nums; paint-order: stroke; stroke: var(--page); stroke-width: 3px; }

.map { columns: 2; column-gap: 48px; margin-top: 20px; font-size: 13.5px; }
.map .tier { break-inside: avoid; padding-bottom: 12px; }
.map .family { display: grid; grid-template-columns: 150px minmax(0, 1fr); gap: 0 14px; padding-bottom: 5px; }
.map h3 { padding-bottom: 3px; font-size: 14px; }
.map h3 span { font-weight: 400; color: var(--soft); margin-left: 8px; }
.map .of { line-height: 16px; color: var(--soft); overflow-wrap: anywhere; }
.cells { display: flex; flex-wrap: wrap; gap: 2px; margin-top: 2px; }
.cells a { width: 12px; height: 12px; border-radius: 2px; color: var(--on); font-size: 13px; line-height: 11px;
  text-align: center; }
.cells a:hover { outline: 1.5px solid var(--ink); text-decoration: none; }
.h0 { background: var(--h0); } .h1 { background: var(--h1); } .h2 { background: var(--h2); }
.h3 { background: var(--h3); } .h4 { background: var(--h4); } .h5 { background: var(--h5); }
.a1 { background: var(--a1); } .a2 { background: var(--a2); } .a3 { background: var(--a3); }
.hb { background: var(--hb); }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); margin-top: 10px; }
.key i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px;
  vertical-align: -1px; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 30px 48px; margin-top: 20px; }
.wide { grid-column: 1 / -1; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; }
th { font-weight: 500; color: var(--soft); text-align: left; vertical-align: bottom; }
td, th { padding: 2px 18px 2px 0; }
.n, .label { white-space: nowrap; } .n { text-align: right; }
pre { margin: 10px 0 0; padding: 9px 13px; background: var(--well); border-radius: 5px; overflow-x: auto;
  line-height: 1.45; }
pre.command { user-select: all; }

.failure { margin-top: 14px; border-left: 3px solid var(--bad); padding: 2px 0 4px 18px; }
.failure.broken { border-color: var(--hb); }
.failure .links { margin: 4px 0 0; font-size: 13.5px; }
.failure summary { cursor: pointer; list-style: none; font-weight: 600; }
.failure summary span { font-weight: 400; color: var(--soft); margin-left: 10px; font-size: 13.5px; }
.failure[open] { padding-bottom: 10px; }
.failure > p { margin: 2px 0 10px; overflow-wrap: anywhere; }
.failure .two { grid-template-columns: max-content max-content; gap: 8px 56px; align-items: start; }
.tree { margin-top: 6px; } .tree caption { text-align: left; color: var(--soft); white-space: nowrap; }
.tree td { line-height: 19px; padding-top: 1px; padding-bottom: 1px; }
.tree td:first-child { font-family: var(--mono); font-size: .92em; white-space: nowrap; }
.tree td .soft { font-family: var(--sans); }
.tree .culprit td { color: var(--bad); font-weight: 600; }

.kills { font-size: 13px; margin-top: 14px; }
.kills th.rule { width: 74px; min-width: 74px; max-width: 74px; font-weight: 500; font-size: 12px; padding: 0 2px 8px;
  text-align: center; line-height: 1.25; }
.kills .mono { padding-right: 12px; }
.kills th.ours { color: var(--ink); font-weight: 600; }
.kills td.k, .kills td.m, .kills td.x { text-align: center; padding: 0; border: 1px solid var(--page);
  border-radius: 3px; line-height: 19px; }
.kills td.k { background: var(--h1); color: var(--soft); } .kills td.m { background: var(--well); color: var(--soft); }
.kills td.k.ours { background: var(--h4); color: var(--on); } .kills td.x { background: var(--a3); color: var(--on); }
.kills .sum td, .kills .sum th { border-bottom: 1px solid var(--rule); padding-bottom: 6px; padding-top: 4px;
  color: var(--ink); }
.kills .sum td { text-align: center; padding-left: 4px; padding-right: 4px; white-space: nowrap; }
.kills .sum .ours { font-weight: 600; }
.kills .sum .warn { color: var(--warn); }
.kills tbody th { padding-top: 11px; font-weight: 500; }
.kills .mono { white-space: nowrap; } .kills .place { color: var(--soft); }
.kills .sum th { white-space: nowrap; }

.filter { display: none; flex-wrap: wrap; gap: 8px; margin: 14px 0 10px; align-items: center; font-size: 14px; }
.js .filter { display: flex; }
.filter input, .filter select { font: inherit; color: inherit; background: var(--page); padding: 5px 9px;
  border: 1px solid var(--rule); border-radius: 5px; }
.filter input { flex: 1 1 220px; max-width: 340px; }
.filter :focus-visible { outline: 2px solid var(--accent); outline-offset: 0; }
.row { border-bottom: 1px solid var(--rule); font-size: 13.5px; }
.row > summary, .head { display: grid; gap: 0 14px; padding: 4px 0; align-items: baseline;
  grid-template-columns: 14px minmax(0, 1fr) 62px 64px 60px 64px 88px 60px 60px; }
.row > summary { cursor: pointer; list-style: none; }
.row > summary:hover { background: var(--well); }
summary::-webkit-details-marker { display: none; }
.head { color: var(--soft); font-size: 13px; border-bottom: 1px solid var(--rule); position: sticky; top: 0;
  background: var(--page); z-index: 1; }
.row i { width: 9px; height: 9px; border-radius: 50%; align-self: center; background: var(--h4); }
.row[data-v=differ] i { background: var(--a2); border-radius: 1px; } .row[data-v=broken] i { background: var(--hb); }
.row[data-v=differ] .r, .row[data-v=broken] .r { color: var(--bad); font-weight: 600; }
.row:target > summary, .row.target > summary { background: var(--well); box-shadow: -6px 0 0 var(--well),
  -9px 0 0 var(--accent); }
.inside { padding: 4px 0 16px 28px; }
.inside td, .inside th { padding-right: 16px; font-size: 12.5px; }
.inside .soft { margin: 6px 0 0; font-size: 12.5px; }
.inside td:first-child { overflow-wrap: anywhere; min-width: 9em; }
tr.over td, td.over { color: var(--bad); }
[hidden] { display: none !important; }
footer { margin-top: 60px; color: var(--soft); font-size: 13px; }

@media screen and (max-width: 860px) {
  body { padding: 24px 18px 60px; }
  h1 { font-size: 22px; }
  .two, .charts, .failure .two { grid-template-columns: minmax(0, 1fr); }
  .figures { gap: 14px 28px; } .figures dd { font-size: 21px; }
  .map { columns: 1; } .map .family { grid-template-columns: 118px minmax(0, 1fr); }
  .row > summary, .head { grid-template-columns: 12px minmax(0, 1fr) 56px 62px; }
  .w, .kills .place { display: none; }
  .kills th.rule { width: 60px; min-width: 60px; font-size: 11px; } .kills .sum th { white-space: normal; }
  .kills td:first-child, .kills th:first-child { position: sticky; left: 0; background: var(--page); }
  .kills :is(td, th:not([colspan])):first-child { min-width: 130px; max-width: 130px; overflow-wrap: anywhere;
    white-space: normal; }
  .head .n { white-space: normal; }
  td, th { padding-right: 11px; }
  .failure summary span { display: block; margin: 0; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .inside { padding-left: 0; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; background: #fff; }
  section { margin-top: 26px; break-inside: auto; } figure, .failure, .row { break-inside: avoid; }
  nav, .js .filter { display: none; } .head { position: static; } .scroll { overflow: visible; }
  .two, .charts, .map { gap: 14px 28px; } .map .family { grid-template-columns: 96px minmax(0, 1fr); }
  .kills { font-size: 8pt; } .kills th.rule { min-width: 0; font-size: 7pt; } .kills tr { break-inside: avoid; }
  .row > summary, .head { grid-template-columns: 12px minmax(0, 1fr) 56px 56px 40px 48px 60px 36px 50px;
    gap: 0 8px; font-size: 8pt; padding: 2px 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
document.documentElement.classList.add("js");
const list = document.getElementById("rows"), rows = [...list.children];
const by = id => document.getElementById(id);
function show() {
  const words = by("find").value.toLowerCase().split(/\\s+/), verdict = by("verdict").value, tier = by("tier").value;
  let shown = 0;
  for (const row of rows) {
    const d = row.dataset, name = row.querySelector("summary").textContent.toLowerCase();
    row.hidden = (verdict && d.v !== verdict) || (tier && d.t !== tier) || !words.every(w => name.includes(w));
    shown += !row.hidden;
  }
  by("shown").textContent = shown + " of " + rows.length;
}
function order() {
  const key = by("order").value;
  list.append(...[...rows].sort((a, b) => key ? b.dataset[key] - a.dataset[key] : 0));
}
function open() {
  const row = location.hash.slice(1) && by(location.hash.slice(1));
  document.querySelectorAll(".target").forEach(other => other.classList.remove("target"));
  if (row && row.classList.contains("row")) {
    row.hidden = false; row.open = true; row.classList.add("target"); row.scrollIntoView({block: "center"});
  }
}
["find", "verdict", "tier"].forEach(id => by(id).addEventListener("input", show));
by("order").addEventListener("input", order);
addEventListener("hashchange", open);
show(); open();
"""
