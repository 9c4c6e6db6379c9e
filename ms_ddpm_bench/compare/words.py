"""The wording that page, summary and terminal share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from portparity.report import words
from portparity.verdict import AGREE

from . import judge
from .judge import NAMES

SHADE = 1 / 255  # what a picture of 8 bits can show


def apart(results: Mapping, curve: str = "loss") -> list[float]:
    """How far the two curves are apart, step by step; infinite where one is not a number."""
    pairs = zip(*(results["sides"][side][curve] for side in NAMES), strict=True)
    found = [abs(a - b) for a, b in pairs]
    return [math.inf if math.isnan(x) else x for x in found]


def share(results: Mapping) -> str:
    """How far the losses are apart, as a share of the loss: "1 part in 3,000,000", "0.4%"."""
    theirs = results["sides"]["torch"]["loss"]
    worst = max(a / abs(b) if b else math.inf if a else 0.0 for a, b in zip(apart(results), theirs, strict=True))
    if not worst:
        return "nothing at all"
    if worst > 1e-3:
        return f"{100 * worst:.2g}%"
    parts = 1 / worst
    digits = 10 ** max(math.floor(math.log10(parts)) - 1, 0)
    return f"1 part in {round(parts / digits) * digits:,.0f}"


def pictures(results: Mapping) -> str:
    """How much the drawn pictures differ, as the end of a sentence."""
    largest, number = results["samples"]["largest"], words.plural(results["samples"]["images"], "picture")
    if not largest:
        return f"draw the same {number}, bit for bit"
    if largest < SHADE / 2:
        return f"draw the same {number} (no pixel differs by more than {largest:.0e} of its range)"
    return f"draw {number} of which pixels differ by up to {100 * largest:.2g}% of their range"


def own_spread(results: Mapping) -> float:
    """How far PyTorch's own correct runs are from its plain one, at the most."""
    plain = results["sides"]["torch"]["loss"]
    return max(abs(a - b) for run in results["yardstick"].values() for a, b in zip(run["loss"], plain, strict=True))


def where(results: Mapping) -> str:
    """Which layer is to blame, as a sentence; nothing where layers were not looked at."""
    if not results["layers"]:
        return ""
    if found := judge.first_layer(results["layers"]):
        layer, direction = found
        return f"The first layer that computes something else is {layer['path']} ({direction})."
    return "No layer computes something else, so the fault is outside the network: in what goes into it or comes after."


def headline(results: Mapping) -> str:
    """The whole in one sentence or two."""
    steps = words.plural(results["steps"], "step")
    if results["verdict"] == AGREE:
        alike = " (PyTorch’s own runs differ as much)" if 1e-4 < max(apart(results)) <= own_spread(results) else ""
        return (
            f"MindSpore and PyTorch agree: trained for {steps} from the same start, their losses never differ by "
            f"more than {share(results)}{alike}, and they {pictures(results)}."
        )
    check = judge.parting(results["checks"])
    kind, step = check["name"], judge.step(check)
    subject = (
        f"at step {step} of their sampling" if kind == "sampling chain" else f"at step {step} of {results['steps']}"
    )
    how = f"{NAMES[check['side']]}’s {kind} is off by more than rounding explains"
    return f"MindSpore and PyTorch part {subject}: {how}. {where(results)}".strip()


def seconds(side: Mapping) -> dict[str, float]:
    """Time per step without the first, which compiles: median, quarter, three quarters, most; and the first, in s."""
    first, *rest = side["seconds"]
    rest = rest or [first]
    low, middle, high = statistics.quantiles(rest, n=4) if len(rest) > 1 else rest * 3
    return {"median": middle, "low": low, "high": high, "most": max(rest), "first": first}


def time_of(x: float) -> str:
    """A short time: 96.2 ms, 1.52 s."""
    return f"{1000 * x:.3g} ms" if x < 1 else f"{x:.3g} s"


def memory_of(megabytes: float) -> str:
    """512 MiB, 1.5 GiB."""
    return f"{megabytes:.0f} MiB" if megabytes < 1000 else f"{megabytes / 1024:.2f} GiB"


def without_kernels(reason: str, device_target: str = "CPU") -> str:
    """The line that says so where MindSpore's side ran without our C++ kernels, which are for the CPU; or nothing."""
    if not reason or device_target.upper() != "CPU":
        return ""
    return f"MindSpore's side ran by MindSpore's operators, not by ms_ddpm's C++ kernels: {reason}"


def no_kernels(results: Mapping) -> str:
    """`without_kernels` of a comparison; results of an earlier version do not say."""
    return without_kernels(results.get("no_kernels", ""), results["config"]["device_target"])


def cost_rows(results: Mapping) -> list[tuple[str, str, str]]:
    """(figure, MindSpore's, PyTorch's) of time and memory."""
    times = [seconds(results["sides"][side]) for side in NAMES]
    config = results["config"]
    images = config["train_batch_size"] * config["gradient_accumulate_every"]
    memory = [results["sides"][side]["memory"] for side in NAMES]
    number = results["samples"]["images"]
    return [
        ("time per step, median", *(time_of(t["median"]) for t in times)),
        ("middle half of the steps", *(f"{time_of(t['low'])} to {time_of(t['high'])}" for t in times)),
        ("slowest step but the first", *(time_of(t["most"]) for t in times)),
        ("first step", *(time_of(t["first"]) for t in times)),
        ("images per second", *(f"{images / t['median']:.0f}" for t in times)),
        (f"sampling {number} images", *(time_of(results["sides"][side]["sampling_seconds"]) for side in NAMES)),
        ("peak memory", *(memory_of(m["peak_mb"]) for m in memory)),
        ("of it, above the import", *(memory_of(m["above_import_mb"]) for m in memory)),
    ]  # fmt: skip


def quality_rows(results: Mapping) -> list[tuple[str, str, str]]:
    """(figure, MindSpore's, PyTorch's) of the samples' quality; nothing where it could not be measured."""
    found = [results["sides"][side]["quality"] for side in NAMES]
    if any("missing" in quality for quality in found):
        return []
    copies = [quality["memorisation"] for quality in found]
    name = {"fid": "FID"}.get(found[0]["metric"], "Fréchet distance to the data")
    return [
        (f"{name}, lower is better", *(f"{q['frechet_distance']:.4g}" for q in found)),
        ("nearest real image, median", *(f"{c['nearest_median']:.4g}" for c in copies)),
        ("copies of real images", *(f"{c['copies']}" for c in copies)),
    ]  # fmt: skip


def no_quality(results: Mapping) -> str:
    """Why there are no figures of quality, or nothing."""
    return next((q["missing"] for side in NAMES if "missing" in (q := results["sides"][side]["quality"])), "")


def check_rows(results: Mapping) -> list[tuple[str, str, str, str]]:
    """(what, side, ratio, message) of every check; a ratio up to 1 agrees."""
    return [
        (check["name"], NAMES[check["side"]], words.ratio(check["ratio"]), check["message"])
        for check in results["checks"]
    ]


def layer_line(layers: Sequence[Mapping]) -> str:
    """How the layers fared, as a sentence."""
    from portparity.report import facts

    keys = (facts.FORWARD, facts.BACKWARD)
    wrong = [layer for layer in layers if any(facts.fails(layer, key) for key in keys)]
    judged = [(layer[key], layer["path"]) for layer in layers for key in keys if layer.get(key) is not None]
    worst, path = max(judged, key=lambda pair: facts.ordering(pair[0]))
    if not wrong:
        return (
            f"All {len(layers)} layers agree; the largest error is {words.ratio(worst)} of what is allowed, at {path}."
        )
    first, direction = judge.first_layer(layers)
    number = f"{len(wrong)} of {words.plural(len(layers), 'layer')}"
    return (
        f"{number} {'computes' if len(wrong) == 1 else 'compute'} something else, first {first['path']} ({direction})."
    )


def terminal(results: Mapping) -> str:
    """What is printed in the end."""
    lines = ["", headline(results), ""]
    rows = [("", *NAMES.values()), *cost_rows(results), *quality_rows(results)]
    width = max(len(row[0]) for row in rows)
    lines += [f"{name:<{width}}  {ours:>20}  {theirs:>20}" for name, ours, theirs in rows]
    lines += [layer_line(results["layers"])] if results["layers"] else []
    lines += filter(None, [no_kernels(results)])
    return "\n".join(lines) + "\n"
