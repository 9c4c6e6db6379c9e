"""The comparison as one HTML page that needs nothing but itself: to read, to send, to print."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence

from portparity.report import charts as reports
from portparity.report import facts, style
from portparity.report import words as numbers
from portparity.report.svg import escape
from portparity.verdict import AGREE

from . import charts, judge, words
from .judge import NAMES

TITLE = "MindSpore and PyTorch side by side"


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str], kinds: Sequence[str]) -> str:
    """A table whose columns have the classes ``kinds``."""
    head = "".join(f'<th class="{kind}">{escape(name)}' for kind, name in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind.split()[0]}">{escape(cell)}' for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    return f'<div class="scroll"><table class="sides"><tr>{head}{body}</table></div>'


def _of_sides(rows: Sequence[Sequence[str]]) -> str:
    return _table(rows, ("", *NAMES.values()), ("label", "n mindspore", "n torch"))


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>"


def _section(key: str, title: str, lead: str, body: str) -> str:
    return f'<section id="{key}"><h2>{title}</h2><p class="lead">{lead}</p>{body}</section>'


def _figures(results: Mapping) -> str:
    """The key numbers."""
    times = [words.seconds(results["sides"][side])["median"] for side in NAMES]
    worst = max(facts.ordering(check["ratio"]) for check in results["checks"])
    entries = [
        ("steps trained", str(results["steps"]), "", ""),
        ("losses at most apart", numbers.ratio(max(words.apart(results))), "", ""),
        ("pixels at most apart", numbers.ratio(results["samples"]["largest"]), " of 1", ""),
        ("largest error", numbers.ratio(worst), " of what is allowed", "" if results["verdict"] == AGREE else "bad"),
        ("step, MindSpore", words.time_of(times[0]), "", ""),
        ("step, PyTorch", words.time_of(times[1]), "", ""),
    ]
    cells = "".join(
        f'<div><dt>{name}</dt><dd class="{kind}">{number}<small>{unit}</small></dd></div>'
        for name, number, unit, kind in entries
    )
    return f'<dl class="figures">{cells}</dl>'


def _check(results: Mapping, name: str, side: str = "mindspore") -> Mapping:
    return next(check for check in results["checks"] if check["name"] == name and check["side"] == side)


def _first_outside(results: Mapping, name: str) -> int | None:
    steps = [judge.step(c) for c in results["checks"] if c["name"] == name and c["verdict"] != AGREE]
    return min(steps, default=None)


def _training(results: Mapping) -> str:
    upper, lower = [], []
    for key, name in judge.CURVES.items():
        ours, theirs = (results["sides"][side][key] for side in NAMES)
        outside = _first_outside(results, name)
        upper.append(_figure(f"{name.capitalize()} of both", charts.curves(ours, theirs, name, outside)))
        pair = [_check(results, name, side) for side in NAMES]
        if all(check.get("trajectory") for check in pair):
            drawn = charts.distance(pair[0], pair[1]["trajectory"]["error"], words.apart(results, key), name)
            ratios = " and ".join(numbers.ratio(check["ratio"]) for check in pair)
            lower.append(_figure(f"{name.capitalize()}, distance from float64: {ratios} of the allowed", drawn))
        else:
            lower.append(_figure(escape(" ".join(check["message"] for check in pair)), ""))
    return _section(
        "training", "Training", "Both get the same weights, images, times and noise, and then run freely. Two correct "
        "runs part as they go on, and how far is measured: PyTorch also trains in float64, with other kernels, and "
        f"from inputs moved by one unit in the last place. A run may be {_k()} times as far from float64 as the "
        "furthest of these has been; the shaded area is what that allows.",
        f'<div class="charts">{"".join(upper + lower)}</div>',
    )  # fmt: skip


def _k() -> str:
    from portparity.tolerances import tolerance

    return f"{tolerance('float32', 'envelope').K:g}"


def _image(content: bytes, said: str) -> str:
    return f'<img alt="{escape(said)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _samples(results: Mapping, pictures: Mapping[str, bytes], factor: int) -> str:
    shown = [_figure(f"<b>{name}</b>", _image(pictures[side], f"samples of {name}")) for side, name in NAMES.items()]
    largest = numbers.ratio(results["samples"]["largest"])
    said = f"<b>Difference</b>, {factor:,} times amplified" if factor > 1 else "<b>Difference</b>, not amplified"
    shown.append(_figure(said, _image(pictures["difference"], "difference") + charts.colour_scale(factor)))
    chain = [_check(results, "sampling chain", side) for side in NAMES]
    ratios = " and ".join(numbers.ratio(check["ratio"]) for check in chain)
    return _section(
        "samples", "Samples from the same noise", "Each side draws with the averaged weights of its own training, from "
        f"the same noise. Pixels differ by at most {largest} of their range, on average by "
        f"{numbers.ratio(results['samples']['mean'])}. In the difference, turquoise is where MindSpore is brighter and "
        "pink where PyTorch is. Given equal weights, the whole chain from noise to image is judged as training is: "
        f"{ratios} of what is allowed.",
        f'<div class="grids">{"".join(shown)}</div>',
    )  # fmt: skip


def _layers(results: Mapping) -> str:
    layers = results["layers"]
    if not layers:
        return ""
    drawn = [
        _figure(direction, reports.depth(layers, side))
        for side, direction in ((facts.FORWARD, "Forward"), (facts.BACKWARD, "Backward: gradients"))
        if any(layer.get(side) is not None for layer in layers)
    ]
    return _section(
        "layers", "Layer by layer", "With the weights at the end of MindSpore’s training and a batch of it. Every "
        "layer is judged twice: fed the same inputs (its <em>own</em> error), and in the running network "
        f"(<em>inherited</em>); error over what is allowed, so up to 1 agrees. {escape(words.layer_line(layers))}",
        f'<div class="charts">{"".join(drawn)}</div>',
    )  # fmt: skip


def _cost(results: Mapping) -> str:
    turn = numbers.plural(results["turn"], "step")
    figure = _figure("Every step but the first, ms, and the median", charts.times(results["sides"]))
    return _section(
        "cost", "Time and memory", f"Each framework has a process of its own. They compute in turns of {turn}, never "
        "both at once, so what the machine does meanwhile hits both alike. A step is loss, gradients, clipping, update "
        "and average, from arrays in memory to the loss as a number; MindSpore’s first one compiles. PyTorch’s side is "
        f"torch_ref, which is written to be read. {escape(words.no_kernels(results))}",
        f'<div class="two gap">{figure}<div>{_of_sides(words.cost_rows(results))}</div></div>',
    )  # fmt: skip


def _quality(results: Mapping) -> str:
    if why := words.no_quality(results):
        return _section("quality", "Quality", f"Not measured: {escape(why)}.", "")
    found = [results["sides"][side]["quality"] for side in NAMES]
    table = f"<div>{_of_sides(words.quality_rows(results))}</div>"
    drawn = ""
    if "class_histogram" in found[0]:
        drawn = _figure("What was drawn", charts.classes(*(quality["class_histogram"] for quality in found)))
    scale = " For scale: 1,000 real digits 0.12, uniform noise 43." if found[0]["metric"] == "digits-frechet" else ""
    return _section(
        "quality", "Quality", f"{found[0]['samples']:,} samples of each against {found[0]['reference_images']:,} real "
        f"images, as scripts/evaluate.py measures.{scale} So short a training is judged here by whether both are "
        "alike, not by how good they are.", f'<div class="two gap">{drawn}{table}</div>',
    )  # fmt: skip


def _recipe(results: Mapping) -> dict[str, str]:
    """What the recipe says that is not the default."""
    from ms_ddpm.config import Config, to_dict

    plain = to_dict(Config())
    hidden = ("source", "output_dir", "num_samples", "save_and_sample_every", "train_num_steps")
    return {k: str(v) for k, v in results["config"].items() if v != plain[k] and k not in hidden}


def _list(entries: Mapping) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return f'<dl class="environment">{rows}</dl>'


def _about(results: Mapping) -> str:
    size = results["size"]
    given = {"parameters": f"{size['parameters']:,}", "images": f"{size['images']:,} of {tuple(size['shape'])}"}
    checks = _table(
        words.check_rows(results), ("what is judged", "whose", "ratio", ""), ("label", "label", "n", "soft")
    )
    return (
        '<section id="about"><div class="two"><div><h2>Environment</h2>'
        f"{_list(results['environment'] | {'took': numbers.duration(results['seconds'])})}</div>"
        f"<div><h2>Recipe</h2>{_list(given | _recipe(results))}</div></div>"
        f'<h2 class="gap">Verdict</h2><p class="lead">Error over what is allowed, largest of all steps: up to 1 agrees.'
        f'</p>{checks}<h2 class="gap">Run it again</h2><pre class="command">{escape(results["command"])}</pre>'
        "</section>"
    )


def _navigation(body: str) -> str:
    titles = {"training": "Training", "samples": "Samples", "layers": "Layer by layer", "cost": "Time and memory",
              "quality": "Quality", "about": "Environment"}  # fmt: skip
    links = [f'<a href="#{key}">{title}</a>' for key, title in titles.items() if f'<section id="{key}"' in body]
    return f"<nav>{''.join(links)}</nav>"


def page(results: Mapping, pictures: Mapping[str, bytes], factor: int) -> str:
    """The whole page as text, self-contained.

    Args:
        results: as `run.compare` makes it, with the ``command``.
        pictures: PNG files: "mindspore", "torch", "difference".
        factor: how much the difference is amplified.
    """
    body = "".join(
        (_training(results), _samples(results, pictures, factor), _layers(results), _cost(results), _quality(results),
         _about(results))
    )  # fmt: skip
    good = "good" if results["verdict"] == AGREE else "bad"
    spoilt = (
        f'<p class="bad">PyTorch was given wrong {escape(results["spoilt"])} on purpose (--spoil), to see that it is '
        "noticed.</p>" if results["spoilt"] else ""
    )  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{style.CSS}{charts.CSS}</style></head><body>"
        f'<header><div class="eyebrow">{TITLE}</div><h1 class="{good}">{escape(words.headline(results))}</h1>'
        f"{spoilt}{_figures(results)}{_navigation(body)}</header><main>{body}</main>"
        f"<footer>Rendered from compare.json, format {results['format']}.</footer></body></html>\n"
    )


def finite(value: object) -> object:
    """Plain values as JSON has them: what is not finite as "inf", "-inf" or "nan"."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
