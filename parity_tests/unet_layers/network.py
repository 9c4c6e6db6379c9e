"""The layers of a whole Unet, each alone and in the free run, forward and backward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from portparity.arrays import perturbed
from portparity.backends import backend
from portparity.case import Arrays, Computation
from portparity.errors import HarnessError
from portparity.localise.layers import Layer, Sides, Tap, fails, localise_layers

from .sides import Run

NEIGHBOURS = 2  # references on inputs moved by one ulp, beside the plain one, as `cases` has them
SIGNS = 3  # draws of random signs that measure a sum by its terms


def _torch_side(unet: Mapping, dtype: str) -> Any:
    backend("torch")
    from .on_torch import TorchSide

    return TorchSide(unet, dtype)


def _mindspore_side(unet: Mapping, layers: Mapping[str, str], mode: str, kernels: bool, amp: Mapping) -> Any:
    backend("mindspore")
    from .on_mindspore import MindSporeSide

    return MindSporeSide(unet, layers, mode=mode, kernels=kernels, **amp)


def _amp(computation: Computation) -> dict[str, str]:
    """The level and dtype of mixed precision, options of MindSpore's leg."""
    legs = getattr(computation.candidates.get("mindspore"), "args", ())
    options = next((value for value in legs if isinstance(value, Mapping) and "level" in value), {})
    return {name: options[name] for name in ("level", "dtype") if name in options}


def _of_module(inputs: Arrays, module: str) -> dict[str, np.ndarray]:
    """The weights of one module, by the names they have in it."""
    prefix = f"weight.{module}."
    return {f"weight.{name[len(prefix) :]}": value for name, value in inputs.items() if name.startswith(prefix)}


class _Alone(NamedTuple):
    """One layer alone: what it is fed, what the references and float64 give, and the size of what they sum up."""

    fed: Arrays
    references: list[Arrays]
    truth: Arrays
    scales: Arrays


class _Trusted:
    """What the reference and the oracle say of a network and of each of its layers; computed once."""

    def __init__(self, computation: Computation):
        unet = computation.spec["unet"]
        self.dtype = computation.precision
        self.inputs = computation.inputs()
        self.oracle, self.reference = _torch_side(unet, "float64"), _torch_side(unet, self.dtype)
        self.layers = self.oracle.layers
        self.neighbour = partial(perturbed, precision=computation.precision)
        self.truth = self._run(self.oracle, self.inputs)
        self.runs = self._with_neighbours(partial(self._run, self.reference), self.inputs)
        self.alone = {path: self._alone(path) for path in self.truth.visits}

    @staticmethod
    def _run(side: Any, inputs: Arrays) -> Run:
        run = side.run(inputs)
        if run.problem:
            raise HarnessError(f"the reference itself {run.problem}")
        return run

    def _with_neighbours(self, leg: Callable, inputs: Arrays) -> list:
        return [run(inputs) for run in (leg, *(self.neighbour(leg, seed) for seed in range(NEIGHBOURS)))]

    def _alone(self, path: str) -> _Alone:
        fed = self._fed(path)
        references = self._with_neighbours(partial(self.reference.alone, path), fed)
        return _Alone(fed, references, self.oracle.alone(path, fed), self._sums(path, fed))

    def _fed(self, path: str) -> dict[str, np.ndarray]:
        """float64's own arguments and cotangent rounded to float32, and the layer's weights."""
        visit = self.truth.visits[path]
        fed = {name: self.inputs["time"] if name == "time" else value for name, value in visit.arguments.items()}
        fed["cotangent"] = np.ones_like(visit.output) if visit.cotangent is None else visit.cotangent
        fed |= _of_module(self.inputs, self.layers[path])
        return {name: v.astype(np.float32) if v.dtype.kind == "f" else v for name, v in fed.items()}

    def _sums(self, path: str, fed: Arrays) -> dict[str, np.ndarray]:
        """The magnitudes of gradients that are sums over images and pixels: by the sum's terms, not by what they leave.

        Under random signs of the cotangent the n terms of a sum come to Q, the root of the sum of their squares, and
        partial sums are of that size. A plain loop over them, which some of MindSpore's kernels are, errs by sqrt(n)
        roundings of Q where PyTorch errs by few; with F = 4 two times that is allowed.
        """
        rng, cotangent = np.random.default_rng(0), fed["cotangent"]
        draws = [
            self.oracle.alone(path, {**fed, "cotangent": cotangent * rng.choice([np.float32(-1), 1], cotangent.shape)})
            for _ in range(SIGNS)
        ]
        terms = cotangent.size / cotangent.shape[1]
        return {
            name: np.sqrt(terms * np.mean([draw[name] ** 2 for draw in draws], axis=0)) / 2
            for name in draws[0]
            if name.startswith("grad.") and name != "grad.x"
        }


_trusted = functools.lru_cache(maxsize=2)(_Trusted)  # by the object: mutants of one network share it


class _Candidate:
    """The side that is judged, built and run when it is first asked: inside ``around``."""

    def __init__(self, make: Callable[[], Any], trusted: _Trusted):
        self._make, self.trusted = make, trusted

    @cached_property
    def side(self) -> Any:
        return self._make()

    @cached_property
    def free(self) -> Run:
        return self.side.run(self.trusted.inputs)

    @property
    def problem(self) -> str:
        """Why the free run, if there was one, did not come to its end."""
        return vars(self)["free"].problem if "free" in vars(self) else ""

    def alone(self, path: str) -> Arrays | None:
        """The layer alone, in the precision in which the free run calls it: that comes first.

        None for one that this side does not run as a layer of its own.
        """
        assert self.free is not None
        return self.side.alone(path, self.trusted.alone[path].fed)

    def comparable(self, path: str, run: Run) -> Arrays:
        """What a run says of a layer, without what this side computes elsewhere."""
        silent = self.side.silent(path)
        found = run.of(path, self.trusted.layers[path])
        return {name: value for name, value in found.items() if name not in silent}


def _tap(path: str, trusted: _Trusted, candidate: _Candidate) -> Tap:
    _, references, truth, scales = trusted.alone[path]
    seen = partial(candidate.comparable, path)
    own = Sides(partial(candidate.alone, path), references, truth, scales)
    free = Sides(
        lambda: seen(candidate.free), [partial(seen, run) for run in trusted.runs], partial(seen, trusted.truth), scales
    )
    return Tap(path, own, free)


def localise(
    computation: Computation,
    candidate: str = "mindspore",
    *,
    around: Callable[[], AbstractContextManager] = nullcontext,
    mode: str = "pynative",
    kernels: bool | None = None,
) -> list[Layer]:
    """Every layer of a Unet, judged alone and in the free run, forward and backward.

    Args:
        computation: one of kind "network" (`systems.core.cases.nets.network_computation`).
        candidate: "mindspore" or "torch".
        around: a context entered around the candidate's runs only; a mutant, for example.
        mode: how MindSpore runs a layer alone. "graph" compiles each, which takes a minute and more; free runs are
            always in PyNative, for only there are hooks.
        kernels: whether MindSpore's layers run by the C++ kernels (default: as the computation says). Those that the
            kernels join with their neighbours are then looked at together with these, and alone not.

    Returns:
        The layers in the order in which the reference enters them, those that hold others before these.

    Raises:
        HarnessError: the computation is not a network.
    """
    spec = computation.spec
    if spec.get("kind") != "network":
        raise HarnessError(f"{computation.key} is no network, so it has no layers to look at")
    trusted = _trusted(computation)
    kernels = bool(spec.get("kernels")) if kernels is None else kernels
    makers = {
        "torch": lambda: _torch_side(spec["unet"], trusted.dtype),
        "mindspore": lambda: _mindspore_side(spec["unet"], trusted.layers, mode, kernels, _amp(computation)),
    }
    side = _Candidate(makers[candidate], trusted)
    taps = [_tap(path, trusted, side) for path in trusted.truth.visits]
    layers = localise_layers(taps, precision=computation.precision, around=around)
    for layer in layers:
        if side.problem and not layer.message and (fails(layer.inherited) or fails(layer.inherited_backward)):
            layer.message = f"the free run {side.problem}"
    return layers
