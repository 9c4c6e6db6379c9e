"""Which parameter of the port is which of the original's, and which layer which.

By name first, with MindSpore's own words for the same thing put into PyTorch's; then by structure: what is left and
has one shape and one role is paired in order, where there are as many of it on both sides. A guess is said, and what
cannot be paired is one line with suggestions: `names` settles it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import HarnessError
from .side import Weight

CONVENTIONS = {
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
    "embedding_table": "weight", "w": "weight",  # of nn.Embedding and nn.PReLU
}  # fmt: skip
OF_A_WEIGHT = ("grad.weight.", "weight.", "buffer.")  # what is said of one begins so
TRANSPOSED = ".T"  # at the end of a name: the port keeps the matrix the other way round


class Unpaired(HarnessError):
    """A parameter without a counterpart, or with two."""


@dataclass
class Pairs:
    """Ours -> theirs, of weights and of layers; and what was guessed or left."""

    weights: dict[str, str]
    transposed: frozenset[str] = frozenset()  # of ours
    layers: dict[str, str] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_ours(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The original's arrays under the port's names and the other way round where they are kept so."""
        found = {}
        for ours, theirs in self.weights.items():
            if theirs in weights:
                found[ours] = weights[theirs].T if ours in self.transposed else weights[theirs]
        return found

    def to_theirs(self, arrays: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The port's results under the original's names, those of weights in the original's shape."""
        found = {}
        for name, value in arrays.items():
            kind = next((kind for kind in OF_A_WEIGHT if name.startswith(kind)), "")
            ours = name[len(kind) :]
            if not kind or ours not in self.weights:
                found[name] = value
                continue
            label, value = f"{kind}{self.weights[ours]}", value.T if ours in self.transposed else value
            same = label in like and squeezed(like[label].shape) == squeezed(value.shape)
            found[label] = value.reshape(like[label].shape) if same else value
        return found


def squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without its ones: a convolution over one axis has another one in MindSpore."""
    return tuple(size for size in shape if size != 1)


def translated(name: str) -> str:
    """A name in PyTorch's words."""
    head, _, last = name.rpartition(".")
    return f"{head}.{CONVENTIONS.get(last, last)}".lstrip(".")


def _role(name: str) -> str:
    return translated(name).rpartition(".")[2]


def _similar(name: str, others: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(translated(name), list(others), n=3, cutoff=0.3)


def pair(ours: Mapping[str, Weight], theirs: Mapping[str, Weight], names: Mapping[str, str | None]) -> Pairs:
    """Pairs weights. Raises Unpaired.

    Args:
        ours, theirs: the weights of the port and of the original.
        names: the port's names -> the original's, where it is known better; None: nothing, it stays as it is.
    """
    found: dict[str, str] = {}
    transposed = set()
    for name, other in names.items():
        if name not in ours:
            raise Unpaired(f"names: the port has no parameter {name!r}; nearest: {_listed(_similar(name, ours))}")
        if other is None:
            continue
        plain = other.removesuffix(TRANSPOSED) if other not in theirs else other
        if plain not in theirs:
            raise Unpaired(f"names: the original has no {plain!r}; nearest: {_listed(_similar(plain, theirs))}")
        if plain != other:
            transposed.add(name)
        found[name] = plain
        mine, wanted = ours[name].value.shape, theirs[plain].value.shape
        if squeezed(mine) != squeezed(wanted[::-1] if plain != other else wanted):
            turned = f'; the other way round it fits: "{plain}{TRANSPOSED}"' if mine == wanted[::-1] != wanted else ""
            raise Unpaired(
                f"names: the port's {name} {_shape(mine)} cannot be the original's {other} of {_shape(wanted)}{turned}"
            )
    if twice := {other for other in found.values() if list(found.values()).count(other) > 1}:
        who = " and ".join(name for name, other in found.items() if other in twice)
        raise Unpaired(f"names: {who} are both paired with {', '.join(sorted(twice))}")
    for name, weight in ours.items():
        for other in (name, translated(name)):  # a layer's own "gamma" need not be a norm's gain
            if name in names or name in found or other not in theirs or other in found.values():
                continue
            if _fits(weight, theirs[other]):
                found[name] = other
    left = [name for name in ours if name not in found and name not in names]
    free = [name for name in theirs if name not in found.values()]
    guessed = _by_structure(left, free, ours, theirs)
    found |= guessed
    pairs = Pairs(found, frozenset(transposed), guessed=guessed)
    _say_what_is_left(pairs, ours, theirs, names)
    return pairs


def _fits(ours: Weight, theirs: Weight) -> bool:
    return squeezed(ours.value.shape) == squeezed(theirs.value.shape)


def _by_structure(
    left: list[str], free: list[str], ours: Mapping[str, Weight], theirs: Mapping[str, Weight]
) -> dict[str, str]:
    """What has one shape and one role, in order, where there is as much of it on both sides."""

    def grouped(chosen: list[str], of: Mapping[str, Weight]) -> dict[tuple, list[str]]:
        groups: dict[tuple, list[str]] = {}
        for name in chosen:
            groups.setdefault((_role(name), squeezed(of[name].value.shape)), []).append(name)
        return groups

    found, of_theirs = {}, grouped(free, theirs)
    for key, mine in grouped(left, ours).items():
        others = of_theirs.get(key, [])
        if len(others) == len(mine):
            found |= dict(zip(mine, others, strict=True))
    return found


def _say_what_is_left(
    pairs: Pairs, ours: Mapping[str, Weight], theirs: Mapping[str, Weight], names: Mapping[str, str | None]
) -> None:
    left = [name for name in ours if name not in pairs.weights and name not in names]
    free = [name for name in theirs if name not in pairs.weights.values()]
    problems = []
    for name in left:
        if ours[name].trainable:
            shape = ours[name].value.shape
            hint = _suggested(name, shape, free, theirs)
            problems.append(f"the port's {name} {_shape(shape)} has no counterpart; {hint}")
        else:
            pairs.notes.append(f"{name} of the port, which is not trained, has no counterpart and stays as it is")
    for name in free:
        weight = theirs[name]
        if not weight.is_buffer:
            problems.append(f"the original's {name} {_shape(weight.value.shape)} has no counterpart in the port")
        elif weight.saved and weight.value.dtype.kind == "f":
            pairs.notes.append(f"{name}, a buffer of the original, has no counterpart that can be compared with it")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise Unpaired(f"{'; '.join(problems[:3])}{more}: say it by names={{ours: theirs}}")
    if pairs.guessed:
        shown = ", ".join(f"{a} = {b}" for a, b in list(pairs.guessed.items())[:3])
        more = ", ..." if len(pairs.guessed) > 3 else ""
        pairs.notes.append(f"paired by shape and order, as their names differ: {shown}{more}")


def _suggested(name: str, shape: tuple[int, ...], free: list[str], theirs: Mapping[str, Weight]) -> str:
    turned = [other for other in free if theirs[other].value.shape == shape[::-1] != shape]
    if turned:
        return f'{turned[0]} is the same the other way round ("{turned[0]}{TRANSPOSED}")'
    same = [other for other in free if squeezed(theirs[other].value.shape) == squeezed(shape)]
    nearest = _similar(name, same or free)
    return f"nearest: {_listed(f'{other} {_shape(theirs[other].value.shape)}' for other in nearest or same[:3])}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def pair_layers(
    pairs: Pairs, ours: Mapping[str, str], theirs: Mapping[str, str], given: Mapping[str, str] | None = None
) -> None:
    """Adds the layers: those in which the same paired weights are, and those of the same path or place.

    Args:
        pairs: of the weights; ``layers`` is written.
        ours, theirs: class names of the layers by path.
        given: ours -> theirs, where it is known better. Raises Unpaired where there is no such layer.
    """
    found = dict(given or {})
    for mine, other in found.items():
        for whose, path, known in (("port", mine, ours), ("original", other, theirs)):
            if path not in known:
                near = _listed(difflib.get_close_matches(path, list(known), n=3, cutoff=0.3))
                raise Unpaired(f"layers: the {whose} has no layer {path!r}; nearest: {near}")

    def add(mine: str, other: str) -> bool:
        free = mine in ours and other in theirs and mine not in found and other not in found.values()
        if free:
            found[mine] = other
        return free

    for mine, other in _of_the_same_weights(pairs.weights, ours, theirs):
        add(mine, other)
    for mine in ours:
        add(mine, mine)
    for parent, other in list(found.items()):
        _pair_children(parent, other, ours, theirs, add)
    found.pop("", None)
    pairs.layers = {mine: found[mine] for mine in ours if mine in found}


def _of_the_same_weights(
    weights: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Layers in which exactly the same paired weights are; of several around one another, the innermost first."""

    def grouped(layers: Mapping[str, str], names: Mapping[str, str]) -> dict[frozenset[str], list[str]]:
        groups: dict[frozenset[str], list[str]] = {}
        for path in filter(None, layers):
            inside = frozenset(other for name, other in names.items() if name.startswith(f"{path}."))
            if inside:
                groups.setdefault(inside, []).append(path)
        return groups

    others = grouped(theirs, {other: other for other in weights.values()})
    return [
        pair
        for inside, mine in grouped(ours, weights).items()
        for pair in zip(reversed(mine), reversed(others.get(inside, ())), strict=False)
    ]


def _pair_children(parent: str, other: str, ours: Mapping[str, str], theirs: Mapping[str, str], add) -> None:
    """Children of paired layers: of the same name, or of the same class in order."""

    def children(of: Mapping[str, str], path: str) -> list[str]:
        prefix = f"{path}." if path else ""
        return [name for name in of if name and name.startswith(prefix) and "." not in name[len(prefix) :]]

    mine, others = children(ours, parent), children(theirs, other)
    for name in mine:
        twin = f"{other}.{name.rpartition('.')[2]}".lstrip(".")
        add(name, twin)
    for kind in {ours[name] for name in mine}:
        a = [name for name in mine if ours[name] == kind]
        b = [name for name in others if theirs[name] == kind]
        if len(a) == len(b):
            for one, two in zip(a, b, strict=True):
                add(one, two)
