"""What the operators are given: text, so that a reproducer can say it, and the arrays that the text makes.

An argument is a short text. For operators that work on each number alone it names a domain ("real", "positive",
"unit", "above1"), and each region below has `SIZE` numbers of it. For the others it is a kind and a shape ("normal 2 8
4 4", "positive 5", "ints 10 4 5" for whole numbers below 10), and the regions are made of that one array.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ORDINARY, WIDE, TINY, SUBNORMAL, HUGE, SPECIAL = "ordinary", "up to 100", "tiny", "subnormal", "huge", "special"
DOMAINS = ("real", "positive", "unit", "above1")
SIZE = 4096  # numbers of a region: the same in all, so that one compilation serves them
SPECIALS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 6.0, -3.0, 1e-3)
RANGES = {  # (tiny, huge) in decades, then the subnormal numbers
    "float32": ((-37.9, -6), (2, 38.5), (-44.8, -38)),
    "float16": ((-4.2, -2), (1.5, 4.8), (-7.2, -4.3)),
    "bfloat16": ((-37.9, -3), (2, 38.5), (-40, -38)),
}
SCALES = {"float32": (1e-30, 1e30), "float16": (1e-4, 3e3), "bfloat16": (1e-30, 1e30)}  # of arrays that have a shape
PLANTED = {  # region -> what is done to the array x
    "special: NaN": "x.flat[0] = np.nan",
    "special: Inf": "x.flat[0] = np.inf",
    "special: -Inf": "x.flat[-1] = -np.inf",
    "special: zeros": "x[...] = 0",
    "special: ties": "x[...] = 1",
}


def is_float(argument: str) -> bool:
    """Whether a gradient with respect to it exists."""
    return argument.split()[0] not in ("ints", "bool")


def is_elementwise(arguments: Mapping[str, str]) -> bool:
    """Whether the arguments are domains."""
    return all(argument in DOMAINS for argument in arguments.values())


def as_text(argument: str, seed: int, dtype: str) -> str:
    """numpy's expression for an argument that has a shape; bfloat16's numbers are rounded later."""
    kind, *sizes = argument.split()
    if kind == "ints":
        return f"np.random.default_rng({seed}).integers(0, {sizes[0]}, {_shape(sizes[1:])}).astype(np.int32)"
    if kind == "bool":
        return f"np.random.default_rng({seed}).random({_shape(sizes)}) < 0.5"
    made = f"np.random.default_rng({seed}).standard_normal({_shape(sizes)})"
    made = {"normal": made, "positive": f"abs({made})", "unit": f"np.tanh({made}) ** 2"}[kind]
    return f"({made}).astype(np.{'float16' if dtype == 'float16' else 'float32'})"


def _shape(sizes: list[str]) -> str:
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def made(text: str) -> np.ndarray:
    """The array that numpy's expression ``text`` makes; the texts are those of this package."""
    return np.array(eval(text, {"np": np}))


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """``x`` in ``dtype``; bfloat16 as float32 numbers that it holds exactly."""
    if x.dtype.kind != "f":
        return x
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return x.astype(dtype)
        whole = x.astype(np.float32).reshape(-1)
        bits = whole.view(np.uint32).astype(np.uint64)
        even = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
        return np.where(np.isfinite(whole), even, whole).reshape(x.shape)


def _elementwise(domain: str, region: str, dtype: str, rng: np.random.Generator, place: int, count: int) -> np.ndarray:
    """One argument's numbers of one region."""
    sign = rng.choice([-1.0, 1.0], SIZE)
    if region == SPECIAL:  # every pair of special values, where there are two arguments
        return np.resize(np.repeat(SPECIALS, len(SPECIALS) ** place), SIZE)
    if region == ORDINARY:
        half = SIZE // 2
        near = 1 + rng.choice([-1.0, 1.0], half) * 10 ** rng.uniform(-3, 0, half)  # cancellation shows near 1 and 0
        far = rng.uniform(-10, 10, SIZE - half)
        if domain == "unit":
            return np.concatenate([rng.uniform(-1, 1, half), np.tanh(far / 3)])
        if domain == "above1":
            return np.concatenate([1 + abs(near - 1), 1 + abs(far)])
        return np.concatenate([near, far]) if domain == "real" else abs(np.concatenate([near, far])) + 1e-3
    if region == WIDE:  # where float32's exp still is no infinity, and beyond
        values = rng.uniform(-100, 100, SIZE)
        return values / 100 if domain == "unit" else values if domain == "real" else abs(values) + 1
    decades = RANGES[dtype][(TINY, HUGE, SUBNORMAL).index(region)]
    values = 10 ** rng.uniform(*decades, SIZE)
    return values if domain in ("positive", "above1") else sign * values


def regions(arguments: Mapping[str, str], dtype: str) -> dict[str, dict[str, np.ndarray]]:
    """Region -> the arrays of all arguments; the shapes are the same in all of them."""
    if is_elementwise(arguments):
        found = {}
        for number, region in enumerate((ORDINARY, TINY, SUBNORMAL, HUGE, SPECIAL, WIDE)):
            rng = np.random.default_rng(number)
            found[region] = {
                name: rounded(_elementwise(domain, region, dtype, rng, place, len(arguments)), dtype)
                for place, (name, domain) in enumerate(arguments.items())
            }
        return found
    return {
        region: {name: rounded(made_from(lines), dtype) for name, lines in texts.items()}
        for region, texts in structured_texts(arguments, dtype).items()
    }


def structured_texts(arguments: Mapping[str, str], dtype: str) -> dict[str, dict[str, list[str]]]:
    """Region -> for each argument the line that makes it, and the line that changes it (of the first argument)."""
    texts = {name: as_text(argument, seed, dtype) for seed, (name, argument) in enumerate(arguments.items())}
    first = next(iter(arguments))
    tiny, huge = SCALES[dtype]
    changes = {ORDINARY: [], TINY: [f"x *= {tiny:g}"], HUGE: [f"x *= {huge:g}"]}
    changes |= {region: [line] for region, line in PLANTED.items()}
    if not is_float(arguments[first]):
        changes = {ORDINARY: []}
    return {
        region: {name: [text, *(lines if name == first else [])] for name, text in texts.items()}
        for region, lines in changes.items()
    }


def made_from(lines: list[str]) -> np.ndarray:
    """An array from its line and the line that changes it."""
    scope = {"np": np, "x": made(lines[0])}
    for line in lines[1:]:
        exec(line, scope)
    return scope["x"]


def cotangent(shape: tuple[int, ...], number: int, dtype: str) -> np.ndarray:
    """What a gradient is multiplied by: random, and never near 0."""
    return rounded(np.array(eval(cotangent_text(shape, number), {"np": np})).astype(np.float32), dtype)


def cotangent_text(shape: tuple[int, ...], number: int) -> str:
    """numpy's expression for it."""
    return f"np.random.default_rng({100 + number}).uniform(0.5, 2, {tuple(shape)})"
