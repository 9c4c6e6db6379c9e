"""From what both frameworks gave for one operator to its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import measure, reproducer, rows, values
from .asked import MindSpore, Torch, truths
from .entries import Entry
from .measure import UNIT, Found
from .rows import Row

FLOOR, FACTOR = 4, 4  # units that anyone may be off, and how much further than PyTorch
WRONG = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.3}  # rms of the error over rms of the truth


def first_line(error: BaseException) -> str:
    """What an exception says, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip("- \n")]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def rows_of(
    entry: Entry,
    dtype: str,
    modes: Sequence[str],
    ours: MindSpore,
    torch: Torch,
    skip: Sequence[str] = (),
    tell: Callable[[str], None] = lambda step: None,
) -> list[Row]:
    """All rows of one operator in one precision.

    ``tell`` hears of each step before it is taken, and steps that are in ``skip`` are not: they have ended a process.
    """
    given = values.regions(entry.arguments, dtype)
    try:
        known = truths(torch, entry, given, dtype)
    except Exception as error:  # PyTorch has no such kernel in this precision: nothing to stand beside
        return [_row(entry, dtype, "both", "y", rows.UNSUPPORTED, said=f"not in PyTorch: {first_line(error)}")]
    given = {region: given[region] for region in known}
    found, answers = [], {}
    for mode in modes:
        try:
            forward, gradient = ours.functions(entry, mode)
            results = {}
            for region, arrays in given.items():
                if (step := f"{mode}, {region}") not in skip:
                    tell(step)
                    results[region] = {"y": ours.forward(forward, arrays, dtype)}
        except Exception as error:
            found.append(_row(entry, dtype, mode, "y", rows.UNSUPPORTED, said=first_line(error)))
            continue
        if entry.gradient:
            try:
                for region in [r for r in results if f"{mode}, gradient, {r}" not in skip]:
                    tell(f"{mode}, gradient, {region}")
                    arrays = given[region]
                    pulled = values.cotangent(known[region]["y"][0].shape, 0, dtype)
                    grads = ours.gradient(gradient, arrays, pulled, dtype)
                    named = zip(entry.arguments, grads, strict=False)
                    results[region] |= {f"grad {n}": g for n, g in named if f"grad {n}" in known[region]}
            except Exception as error:
                found.append(_row(entry, dtype, mode, "grad", rows.UNSUPPORTED, said=first_line(error)))
                results = {region: {"y": made["y"]} for region, made in results.items()}
        if values.ORDINARY not in results:
            continue
        again = repeated(entry, dtype, mode, forward, gradient, given, results, known, ours)
        if again:  # what the other regions were given back is then of no use
            found += again
            results = {values.ORDINARY: results[values.ORDINARY]}
        answers[mode] = results
        for part in results[values.ORDINARY]:
            there = {region: made for region, made in results.items() if part in made}
            found += judge_part(entry, dtype, mode, part, given, there, known)
    found = merged(found)
    if len(answers) == 2:
        found += apart(entry, dtype, answers)
    if "pynative" in answers and values.is_elementwise(entry.arguments):
        found += shapes(entry, dtype, ours, torch, skip, tell)
    return found


def repeated(entry, dtype, mode, forward, gradient, given, results, known, ours: MindSpore) -> list[Row]:
    """A row for each part that is another when the operator is called again with the arguments of the first call."""
    arrays = given[values.ORDINARY]
    again = {"y": ours.forward(forward, arrays, dtype)}
    text = values.cotangent_text(known[values.ORDINARY]["y"][0].shape, 0)
    if len(results[values.ORDINARY]) > 1:
        pulled = values.cotangent(known[values.ORDINARY]["y"][0].shape, 0, dtype)
        named = zip(entry.arguments, ours.gradient(gradient, arrays, pulled, dtype), strict=False)
        again |= {f"grad {n}": g for n, g in named}
    found = []
    for part, first in results[values.ORDINARY].items():
        second = again[part]
        if first.dtype.kind != "f" or not first.size or first.shape != second.shape:
            continue
        off = measure.units(second.astype(np.float64), first.astype(np.float64), dtype)
        if off * UNIT[dtype] > WRONG[dtype]:
            at = int(np.argmax(abs(first - second)))
            row = _row(entry, dtype, mode, part, rows.WRONG, measure="words")
            row.said = "called again with the same arguments, it gives another answer"
            _point(row, entry, arrays, second, known[values.ORDINARY][part], values.ORDINARY, at, text)
            row.calls = 4
            found.append(row)
    return found


def _row(entry: Entry, dtype: str, mode: str, part: str, verdict: str, **more) -> Row:
    return Row(entry.name, dtype, mode, part, verdict, ours=entry.mindspore, theirs=entry.torch, **more)


def judge_part(entry, dtype, mode, part, given, results, known) -> list[Row]:
    """The rows of the result, or of one gradient: what the numbers say, and then what no number says."""
    by_number = values.is_elementwise(entry.arguments)
    found: dict[str, Found] = {}
    for region in results:
        theirs, truth = known[region][part]
        special = by_number and region == values.SPECIAL
        found[region] = measure.measure(results[region][part], theirs, truth, dtype, special)

    def point(row: Row, region: str, at: int) -> Row:
        pulled = values.cotangent_text(known[region]["y"][0].shape, 0)
        _point(row, entry, given[region], results[region][part], known[region][part], region, at, pulled)
        return row

    def differs(region: str, said: str, at: int) -> Row:
        return point(_row(entry, dtype, mode, part, rows.DIFFERS, measure="words", said=said), region, at)

    row = _row(entry, dtype, mode, part, rows.AGREES, measure="ulp" if by_number else "rms")
    # which thread runs an operator decides whether it has subnormal numbers (2.10), so they decide about no verdict
    subnormal = found.pop(values.SUBNORMAL, None)
    if subnormal and subnormal.index >= 0:
        gone = subnormal.flushed or subnormal.problem or _excess(subnormal.ulp, subnormal.torch_ulp) > 1
        row.subnormal = "0" if gone else "kept"
    said = [differs(r, f"{r}: {f.problem}", f.at) for r, f in found.items() if f.problem and r != values.ORDINARY]
    wrong = _is_wrong(found[values.ORDINARY], dtype)
    if not by_number and not wrong:
        for region in [r for r, f in found.items() if r != values.ORDINARY and not f.problem]:
            if _is_wrong(found[region], dtype):
                off = found[region].units * UNIT[dtype]
                said.append(differs(region, f"{region}: off by {off:.2g} of the size", found[region].index))
                del found[region]
    ordinary = found[values.ORDINARY]
    row.ulp, row.torch_ulp = ordinary.ulp, ordinary.torch_ulp
    row.units, row.torch_units = ordinary.units, ordinary.torch_units
    far = (lambda f: (f.ulp, f.torch_ulp)) if by_number else (lambda f: (f.units, f.torch_units))
    others = {region: f for region, f in found.items() if region != values.ORDINARY}
    if others:
        row.extreme = max(others, key=lambda region: _excess(*far(others[region])))
        row.extreme_ulp, row.torch_extreme_ulp = far(others[row.extreme])
    region, at = values.ORDINARY, ordinary.index
    if wrong:
        row.verdict, row.said = rows.WRONG, f"off by {ordinary.units * UNIT[dtype]:.2g} of the size of the result"
    elif ordinary.problem:
        row.verdict = rows.WRONG
        row.said = ordinary.problem
        at = ordinary.at
    elif "exact" in entry.tags and part == "y" and ordinary.ulp > 0:
        row.verdict, row.said = rows.WRONG, "a number changed that only had to move"
    elif max(_excess(*far(ordinary)), _excess(ordinary.units, ordinary.torch_units)) > 1:
        row.verdict = rows.IMPRECISE
    elif others and _excess(*far(others[row.extreme])) > 1:
        row.verdict = rows.IMPRECISE
        row.said = f"for {row.extreme} arguments"
        region = row.extreme
        at = found[region].index
    signed = next((r for r, f in found.items() if f.sign_at >= 0), None)
    if signed and part == "y":
        said.append(differs(signed, "the other sign of zero", found[signed].sign_at))
    return [point(row, region, at), *said]


def _is_wrong(found: Found, dtype: str) -> bool:
    """Whether this is no matter of rounding."""
    return found.units * UNIT[dtype] > WRONG[dtype] and found.units > 100 * max(found.torch_units, 1)


def _excess(ours: float, theirs: float) -> float:
    """Above 1: more than may be."""
    return ours / max(FLOOR, FACTOR * theirs) if math.isfinite(ours) else math.inf


def _show(value) -> str:
    return f"{float(value):.9g}" if np.asarray(value).dtype.kind == "f" else str(value)


def _point(row: Row, entry: Entry, arrays: Mapping, ours, known, region: str, at: int, pulled: str) -> None:
    """Which argument, and the three answers."""
    if at < 0 or ours.size <= at:
        return
    theirs, truth = known
    row.region = region
    if row.part.startswith("grad"):
        row.cotangent = pulled
    row.mindspore, row.torch = _show(ours.flat[at]), _show(theirs.flat[at] if theirs.size > at else np.nan)
    row.truth = _show(truth.flat[at] if truth.size > at else np.nan)
    if values.is_elementwise(entry.arguments):
        row.where = ", ".join(f"{name} = {_show(a.flat[at])}" for name, a in arrays.items())
        if row.cotangent:
            row.cotangent = f"np.full({reproducer.REPEATED}, {values.made(pulled).flat[at]:.9g})"
    else:
        row.at = at
        index = ", ".join(str(int(i)) for i in np.unravel_index(at, ours.shape))
        row.where = f"[{index}] of {region} arguments"


def merged(found: list[Row]) -> list[Row]:
    """Two rows that differ in the mode alone become one."""
    made: list[Row] = []
    for row in found:
        same = [r for r in made if r.mode != row.mode and (r == _as(row, r.mode) or _both_raise(r, row))]
        if same:
            same[0].mode = "both"
        else:
            made.append(row)
    return made


def _both_raise(a: Row, b: Row) -> bool:
    return a.verdict == b.verdict == rows.UNSUPPORTED and a.part == b.part


def _as(row: Row, mode: str) -> Row:
    return Row(**{**row.__dict__, "mode": mode})


def apart(entry: Entry, dtype: str, answers: Mapping) -> list[Row]:
    """A row for each part in which PyNative and graph give different answers for the same numbers."""
    found = []
    for part in answers["graph"][values.ORDINARY]:
        for region in answers["graph"].keys() & answers["pynative"].keys() - {values.SUBNORMAL}:
            ours, other = (answers[mode][region].get(part) for mode in ("pynative", "graph"))
            if ours is None or other is None:
                continue
            if ours.shape != other.shape or ours.dtype != other.dtype:
                said = f"PyNative {ours.dtype}{list(ours.shape)}, graph {other.dtype}{list(other.shape)}"
                found.append(_row(entry, dtype, "both", part, rows.DIFFERS, said=f"modes: {said}"))
                break
            if ours.dtype.kind != "f" or not ours.size:
                continue
            with np.errstate(all="ignore"):
                nan = np.isnan(ours) != np.isnan(other)
                far = np.where(np.isnan(ours) | np.isnan(other), 0, measure.distance(ours, other, dtype))
                rms = measure.units(np.nan_to_num(ours), np.nan_to_num(other).astype(np.float64), dtype)
            if nan.any() or (far.max() > 16 and rms > 16):
                at = int(np.argmax(nan if nan.any() else far))
                row = _row(entry, dtype, "both", part, rows.DIFFERS, said=f"modes: PyNative and graph part ({region})")
                row.mindspore = f"PyNative {_show(ours.flat[at])}, graph {_show(other.flat[at])}"
                found.append(row)
                break
    return found


def shapes(entry: Entry, dtype: str, ours: MindSpore, torch: Torch, skip, tell) -> list[Row]:
    """Rows for a scalar, one element and an empty tensor, where MindSpore does not do what PyTorch does."""
    found = []
    forward, _ = ours.functions(entry, "pynative")
    for shape in ((), (1,), (0,), (2, 0)):
        arrays = {name: values.rounded(np.full(shape, 0.5), dtype) for name in entry.arguments}
        try:
            theirs, truth = (torch.forward(entry, arrays, precision) for precision in (dtype, "float64"))
        except Exception:
            continue
        if (step := f"pynative, shape {shape}") in skip:
            continue
        tell(step)
        try:
            result = measure.measure(ours.forward(forward, arrays, dtype), theirs, truth, dtype)
            said = result.problem or (f"{result.ulp:g} ulp" if result.ulp > FLOOR + FACTOR * result.torch_ulp else "")
        except Exception as error:
            said = f"raises {first_line(error)}"
        if said and "ulp" not in said:
            row = _row(entry, dtype, "pynative", f"shape {shape}", rows.DIFFERS, said=said)
            row.torch, row.where = f"shape {tuple(theirs.shape)}", f"arguments of shape {shape}"
            found.append(row)
    return found
