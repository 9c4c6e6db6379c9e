"""What the page says of one layer: every tensor's error, the worst values, how values are spread, the command."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ..localise import Layer
from ..report import charts, facts, sections, words
from ..report.svg import escape
from ..verdict import AGREE, DIFFER, TensorVerdict
from .findings import Findings
from .histograms import Histogram

ERRORS = ("own", "own_backward", "inherited", "inherited_backward")
TITLES = ("alone, forward", "alone, backward", "free run, forward", "free run, backward")
WIDTH, HEIGHT = 240, 56
WHERE = {"given": "input {}", "free run": "output {}, free run", "alone": "output {}, alone"}


def shade(ratio: float) -> str:
    """The colour's class of an error over its bound; NaN is beyond any."""
    return charts.step_of({"verdict": AGREE, "ratio": ratio})


def short(ratio: float) -> str:
    """A ratio in five letters at most: 0.42, 1.004, 5e4, ∞. What is beyond the limit never reads as 1.00."""
    if math.isinf(ratio := facts.ordering(ratio)) or 1e-3 <= ratio < 1000:
        return f"{ratio:.4g}" if 1 < ratio < 1.005 else words.ratio(ratio)
    return re.sub("e([+-])0?", lambda sign: "e" + sign[1].strip("+"), f"{ratio:.0e}") if ratio else "0"


def over(ratio: float | None) -> bool:
    """Whether an error is known and beyond its bound."""
    return ratio is not None and not ratio <= 1


def cells(errors: Iterable[float | None], who: str = "") -> str:
    """Four errors over their bounds, coloured."""
    made = []
    for title, ratio in zip(TITLES, errors, strict=True):
        if ratio is None:
            made.append(f'<i class="none" title="{title}: not looked at"></i>')
            continue
        number = short(ratio)
        kind = f"{shade(ratio)} over" if over(ratio) else shade(ratio)
        made.append(f'<i class="{kind}" title="{escape(who)} {title}: {number} of the bound"><b>{number}</b></i>')
    return f'<span class="errs">{"".join(made)}</span>'


def command_of(report: Findings, path: str = "") -> str:
    """What shows it again: the command line, or two lines of Python."""
    if report.command:
        return report.command
    names = report.trees.original.get("", "original"), report.trees.port.get("", "port")
    names = names if names[0] != names[1] else ("original", "port")
    said = f"report.about({path!r})" if path else "report"
    return f"report = portparity.check({', '.join(names)}, inputs)\nprint({said})"


def panel(report: Findings, number: int, calls: Sequence[int], opened: bool) -> str:
    """The panel of ``report.layers[number]``; ``calls``: the numbers of all calls of the same layer, its own too."""
    layer = report.layers[number]
    path = layer.path.partition("#")[0]
    other = report.trees.pairs.get(path, "")
    classes = report.trees.port.get(path, "?"), report.trees.original.get(other, "?")
    errors = [getattr(layer, name) for name in ERRORS]
    message = f'<p class="said bad">{escape(layer.message)}</p>' if layer.message else ""
    left_out = report.left_out.get(layer.path)
    message += f'<p class="said">Not tried alone: {escape(left_out)}</p>' if left_out else ""
    return (
        f'<article class="panel{" opened" if opened else ""}" id="layer-{number}">'
        f'<header><h3>{escape(layer.path)}</h3><a class="close" href="#layers" aria-label="close">×</a></header>'
        f'<p class="soft">{escape(classes[0])}, in the original <code>{escape(other)}</code> {escape(classes[1])}'
        f"{_calls(calls, number)}</p>{message}"
        f'<div class="four">{_heads()}{cells(errors)}</div>{_worst(layer)}'
        f"{_tensors('Alone, on what the original’s layer was given', layer.alone)}"
        f"{_tensors('In the free run', layer.free)}"
        f"{_spread(report.histograms.get(layer.path, ()))}"
        f'<h4>To see it again</h4><pre class="command">{escape(command_of(report, layer.path))}</pre></article>'
    )


def _heads() -> str:
    return f'<span class="errs heads">{"".join(f"<i>{title}</i>" for title in TITLES)}</span>'


def _calls(calls: Sequence[int], number: int) -> str:
    """Links to the other calls of the same layer, where there are more."""
    if len(calls) < 2:
        return ""
    links = [f"<b>{n}</b>" if at == number else f'<a href="#layer-{at}">{n}</a>' for n, at in enumerate(calls, 1)]
    return f'; <span class="calls">call {" ".join(links)}</span>'


def _worst(layer: Layer) -> str:
    """The worst value of each error that fails, or of the largest."""
    measured = {name: layer.worst[name] for name in ERRORS if name in layer.worst}
    failing = [name for name in measured if over(getattr(layer, name))]
    largest = sorted(measured, key=lambda name: facts.ordering(measured[name].ratio))[-1:]
    tables = []
    for name in failing or largest:
        tensor = _plain(measured[name])
        if facts.was_measured(tensor):
            said = f'<p class="soft">{TITLES[ERRORS.index(name)]}: <code>{escape(tensor["name"])}</code></p>'
            tables.append(f'<div class="worst">{said}{sections.values(tensor)}{sections.errors(tensor)}</div>')
    return f"<h4>The worst value</h4>{''.join(tables)}" if tables else ""


def _plain(verdict: TensorVerdict) -> dict:
    """What ``as_json`` gives, without its deep copies: there are thousands of tensors."""
    return {key: value for key, value in vars(verdict).items() if value is not None}


def _tensors(title: str, verdicts: Sequence[TensorVerdict]) -> str:
    if not verdicts:
        return ""
    table = sections.tensors({"tensors": list(map(_plain, verdicts))}, most=len(verdicts))
    wrong = sum(verdict.verdict == DIFFER for verdict in verdicts)
    count = words.plural(len(verdicts), "tensor") + (f", {wrong} beyond the bound" if wrong else "")
    head = f'<summary>{title}<span class="soft">{count}</span></summary>'
    return f"<details{' open' if wrong else ''}>{head}{table}</details>"


def _spread(histograms: Sequence[Histogram]) -> str:
    if not histograms:
        return ""
    key = '<span><i class="truth"></i>float64</span><span><i class="ours"></i>the port</span>'
    figures = "".join(map(_figure, histograms))
    return (
        f'<h4>How its values are spread</h4><div class="key">{key}<span>heights are logarithms of counts</span></div>'
        f'<div class="spread">{figures}</div>'
    )


def _figure(histogram: Histogram) -> str:
    title = WHERE[histogram.where].format(histogram.name)
    most = max((*histogram.truth, *histogram.candidate), default=0)
    shapes = f'<path class="truth" d="{_steps(histogram.truth, most)}"/>' if histogram.truth else ""
    shapes += f'<path class="ours" d="{_steps(histogram.candidate, most)}"/>' if histogram.candidate else ""
    lost = f" {words.plural(histogram.not_finite, 'value')} NaN or Inf" if histogram.not_finite else ""
    said = escape(f"{title}: from {histogram.low:.3g} to {histogram.high:.3g}")
    return (
        f"<figure><figcaption>{escape(title)}"
        f'<span class="bad">{lost}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}" preserveAspectRatio="none">{shapes}</svg>'
        f'<div class="ends"><span>{histogram.low:.3g}</span><span>{histogram.high:.3g}</span></div></figure>'
    )


def _steps(counts: Sequence[int], most: int) -> str:
    """The outline as a path from the lower left to the lower right, in whole pixels."""
    if not counts or not most:
        return ""
    tall = [round((HEIGHT - 3) * math.log1p(count) / math.log1p(most)) for count in counts]
    width, at, moves = WIDTH // len(tall), 0, []
    for height in tall:
        moves.append((f"v{at - height}" if height != at else "") + f"h{width}")
        at = height
    return f"M0 {HEIGHT - 1}{''.join(moves)}V{HEIGHT - 1}"
