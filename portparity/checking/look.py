"""What the page of a port has beside the look of all reports. Without the script a click still opens a layer."""

CSS = """
body { max-width: 1480px; }
h1 a { text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: 3px; }
h4 { font-size: 13.5px; font-weight: 600; margin: 18px 0 4px; }
section { margin-top: 40px; }
.parts { margin-top: 10px; }
.part { border-bottom: 1px solid var(--rule); font-size: 14px; }
.part > summary { display: grid; grid-template-columns: 14px 190px 210px 50px minmax(0, 1fr); gap: 0 14px;
  align-items: center; padding: 5px 0; cursor: pointer; list-style: none; }
.part > summary:hover { background: var(--well); }
.part .dot { width: 9px; height: 9px; border-radius: 50%; background: var(--h4); }
.part[data-v=differ] .dot { background: var(--a2); border-radius: 1px; }
.part[data-v=broken] .dot { background: var(--hb); }
.part .say { color: var(--soft); overflow-wrap: anywhere; }
.part summary .n { text-align: right; }
.part:not([data-v=agree]) summary .n { color: var(--bad); font-weight: 600; }
.bar { position: relative; height: 8px; background: var(--well); border-radius: 4px; }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; }
.bar::after { content: ""; position: absolute; left: 50%; top: -4px; bottom: -4px; width: 0;
  border-left: 1.5px dashed var(--bad); }
.scale { display: grid; grid-template-columns: 14px 190px 210px; gap: 0 14px; color: var(--soft); font-size: 12px; }
.scale div { grid-column: 3; display: flex; justify-content: space-between; }

.bench { display: grid; grid-template-columns: minmax(0, 1fr) minmax(380px, 44%); gap: 0 36px; align-items: start;
  margin-top: 12px; }
.panels { position: sticky; top: 14px; max-height: calc(100vh - 28px); overflow-y: auto; background: var(--well);
  border-radius: 8px; padding: 16px 20px 20px; }
.panels pre { background: var(--page); } .panel p.bad { color: var(--bad); }
.panel { display: none; outline: none; }
.panel:target, .panel.opened { display: block; }
.panels:has(.panel:target) .opened:not(:target), .panels:has(.panel:target) .hint,
.panels:has(.opened) .hint { display: none; }
.panel header { display: flex; justify-content: space-between; align-items: baseline; gap: 12px; }
.panel h3 { font-family: var(--mono); font-size: 16px; overflow-wrap: anywhere; }
.close { font-size: 22px; line-height: 1; padding: 2px 8px; }
.close:hover { text-decoration: none; color: var(--ink); }
.panel p { margin: 2px 0 10px; font-size: 13.5px; overflow-wrap: anywhere; }
.panel table { font-size: 12.5px; } .panel td, .panel th { padding-right: 11px; }
.panel details { margin-top: 14px; } .panel summary { cursor: pointer; font-size: 13.5px; font-weight: 600; }
.panel summary span { font-weight: 400; margin-left: 10px; }
.panel details table td:first-child { font-family: var(--mono); font-size: .92em; }
.worst { display: flex; flex-wrap: wrap; gap: 8px 14px; margin-bottom: 8px; }
.worst > p { flex: 0 0 100%; margin: 6px 0 0; }
.four .errs { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); }
.four .errs i { width: auto; height: auto; padding: 3px 0; font-size: 14px; line-height: 1.4; }
.four .heads i { color: var(--soft); background: none; font-size: 11.5px; }
.spread { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 12px 20px;
  margin-top: 8px; }
.spread svg { height: 56px; border-bottom: 1px solid var(--soft); }
.spread figcaption { font-size: 12.5px; margin-bottom: 2px; }
.spread .ends { display: flex; justify-content: space-between; font-size: 11.5px; color: var(--soft); }
path.truth { fill: var(--h2); stroke: none; }
path.ours { fill: none; stroke: var(--ink); stroke-width: 1.2; vector-effect: non-scaling-stroke; }
.key i.truth { background: var(--h2); }
.key i.ours { height: 0; border-top: 2px solid var(--ink); border-radius: 0; vertical-align: 4px; }

.line, .over-trees { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) 208px; gap: 0 10px;
  padding: 1px 6px; align-items: center; font-size: 13.5px; color: inherit; border-left: 3px solid transparent; }
.over-trees { color: var(--soft); font-size: 12px; position: sticky; top: 0; background: var(--page); z-index: 1;
  border-bottom: 1px solid var(--rule); align-items: end; }
.over-trees .wide { grid-column: span 2; }
a.line:hover { background: var(--well); text-decoration: none; }
.line { scroll-margin: 60px 0 30px; }
a.line:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
.line.now { background: var(--well); border-left-color: var(--accent); }
.line.culprit { border-left-color: var(--bad); }
.line.culprit .name b { color: var(--bad); }
.line .name { padding-left: calc(var(--d) * 13px); min-width: 0; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; line-height: 20px;
  background: repeating-linear-gradient(90deg, var(--rule) 0 1px, transparent 1px 13px) no-repeat 4px 0 /
    calc(var(--d) * 13px - 4px) 100%; }
.line .name b { font: 500 .93em var(--mono); }
.line small { color: var(--soft); margin-left: 7px; font-size: 12px; }
.line .why { grid-column: 1 / -1; color: var(--soft); font-size: 12px; padding-left: calc(var(--d) * 13px);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.line.grey .name b, .line.grey small { color: var(--soft); font-weight: 400; }
.line .idle { text-align: center; color: var(--soft); font-size: 12px; }
.line.grey .nobody { color: var(--soft); font-size: 12px; font-style: italic; }
.chip { grid-column: 1 / -1; justify-self: start; color: var(--bad); font-size: 12px; font-weight: 600;
  padding-left: calc(var(--d) * 13px); }
.errs { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 2px; }
.errs i { font-style: normal; font-size: 11.5px; line-height: 18px; height: 18px; border-radius: 3px;
  text-align: center; overflow: hidden; }
.errs b { font-weight: 400; }
.errs :is(.h0, .h1, .h2, .h3) { color: var(--ink); } .errs .h4 { color: #0d1518; } .errs .h5 { color: var(--on); }
.errs .a1 { color: #1b1206; } .errs .a2, .errs .a3 { color: var(--on); }
.errs .over b { font-weight: 700; }
.errs .none { background: repeating-linear-gradient(135deg, transparent 0 4px, var(--rule) 4px 5px); }
.tools { display: none; gap: 6px 16px; flex-wrap: wrap; align-items: center; margin: 10px 0 0; font-size: 14px; }
.js .tools { display: flex; }
.tools input[type=search] { font: inherit; color: inherit; background: var(--page); padding: 4px 9px;
  border: 1px solid var(--rule); border-radius: 5px; width: 240px; max-width: 100%; }
.legend { display: flex; flex-wrap: wrap; align-items: center; font-size: 12px; color: var(--soft); margin-top: 10px; }
.legend span { padding: 0 7px; border-top: 9px solid; line-height: 20px; }
.legend .limit { border: 0; border-left: 1.5px dashed var(--bad); color: var(--bad); margin-left: 2px;
  line-height: 29px; }
.notes li { margin-bottom: 6px; overflow-wrap: anywhere; max-width: 60em; }

@media screen and (min-width: 1021px) { .panel.opened .close { visibility: hidden; } }
@media screen and (max-width: 1020px) {
  .bench { grid-template-columns: minmax(0, 1fr); }
  .panels { position: static; max-height: none; padding: 0; background: none; }
  .hint, .panel.opened:not(:target) { display: none; }
  .panel:target { position: fixed; inset: auto 0 0 0; max-height: 76vh; overflow-y: auto; z-index: 5;
    background: var(--page); border-top: 1px solid var(--rule); border-radius: 12px 12px 0 0; padding: 0 18px 24px;
    box-shadow: 0 -6px 30px #0004; }
  .panel:target > header { position: sticky; top: 0; background: var(--page); padding: 14px 0 6px; z-index: 1; }
  .panels pre { background: var(--well); }
  body:has(.panel:target) { padding-bottom: 78vh; }
}
@media screen and (max-width: 700px) {
  .part > summary { grid-template-columns: 12px minmax(0, 1fr) 90px 50px; gap: 0 10px; }
  .part .say { grid-column: 2 / -1; font-size: 12.5px; }
  .scale { display: none; }
  .line, .over-trees { grid-template-columns: minmax(0, 1fr) 100px; padding: 3px 4px; }
  .line .port { grid-row: 2; } .line .errs, .line .idle { grid-row: 1 / span 2; grid-column: 2; }
  .over-trees .port { grid-row: 2; } .over-trees .errs { grid-row: 1 / span 2; grid-column: 2; }
  .line { border-bottom: 1px solid var(--rule); }
  .legend { flex-wrap: nowrap; } .legend span { padding: 0 3px; font-size: 10.5px; white-space: nowrap; }
  .line .name { line-height: 17px; }
  .line .errs i { font-size: 0; height: 22px; }
  .line .errs .over { font-size: 10.5px; line-height: 22px; }
  .line .why { white-space: normal; }
  .spread { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
}
@media print { .tools, .close, .hint { display: none !important; } .panels { position: static; max-height: none; } }
"""

SCRIPT = """
document.documentElement.classList.add("js");
const lines = [...document.querySelectorAll(".line")], find = document.getElementById("find");
const only = document.getElementById("only");
const shown = () => lines.filter(line => !line.hidden && line.href);
function filter() {
  const words = find.value.toLowerCase().split(/\\s+/);
  for (const line of lines) {
    const text = line.dataset.path.toLowerCase();
    line.hidden = (only.checked && !line.dataset.over) || !words.every(word => text.includes(word));
  }
}
function go(hash, line) {  // neither the page nor the focus jumps away from the line
  const y = scrollY;
  location.hash = hash;
  scrollTo(0, y);
  if (line) line.focus({preventScroll: true});
}
function mark() {
  lines.forEach(line => line.classList.toggle("now", !!location.hash && line.hash === location.hash));
  const box = document.querySelector(".panels"); if (box) box.scrollTop = 0;
}
document.addEventListener("click", event => {
  const link = event.target.closest("a.line, .close, .calls a");
  if (!link) return;
  event.preventDefault();
  const line = link.matches(".line") ? link : lines.find(other => other.matches(".now"));
  go(link.getAttribute("href"), line);
});
document.addEventListener("keydown", event => {
  const line = document.activeElement.closest(".line");
  if (event.key === "Escape") go("#layers", line);
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!step || !line) return;
  event.preventDefault();
  const all = shown(), next = all[all.indexOf(line) + step];
  if (next) { next.scrollIntoView({block: "nearest"}); go(next.hash, next); }
});
if (find) [find, only].forEach(input => input.addEventListener("input", filter));
addEventListener("hashchange", mark); mark();
"""
