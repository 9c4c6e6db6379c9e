"""Sampling chains of diffusers' schedulers and of mindone's: the model is a formula, the noise is given.

Most draw by randn_tensor of their module; `FlowMatchEulerDiscreteScheduler` by randn_like, those of DPM's stochastic
equation by a Brownian tree, which a tape stands for as well: what is judged is the scheduler. `VQDiffusionScheduler`
draws uniform numbers, from the generator it is given.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from unittest import mock

import numpy as np
import torch

SHAPE = (2, 3, 4, 4)
TAPE = np.random.default_rng(7).standard_normal((400, *SHAPE)).astype(np.float32)
CLASSES = 6  # of VQDiffusionScheduler, the mask among them
SCORES = np.random.default_rng(8).standard_normal((2, CLASSES - 1, 7)).astype(np.float32)


@dataclass(frozen=True)
class Chain:
    """A scheduler and how it is called.

    Args:
        name: of its class, in both packages.
        config: what it is made with.
        begin: further arguments of set_timesteps.
        step: further arguments of step.
        steps: how many.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    begin: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 10


@contextmanager
def _given_noise(module: Any, library: Any, make: Callable[[np.ndarray], Any]) -> Iterator[None]:
    """Inside, what ``module`` and ``library`` draw is the tape, one entry a draw."""
    tape = cycle(TAPE)

    def draw(*args: Any, **kwargs: Any) -> Any:
        return make(next(tape))

    def sampler(*args: Any, **kwargs: Any) -> Callable:
        return draw

    with ExitStack() as stack:
        for name, drawing in (("randn_tensor", draw), ("BrownianTreeNoiseSampler", sampler)):
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name, drawing))
        stack.enter_context(mock.patch.object(library, "randn_like", draw))
        yield


def _answer(scheduler: Any, sample: Any, t: Any) -> Any:
    """What stands for a network: smooth in both, and not small; with a variance where one is to be learned."""
    answer = sample * 0.3 + (sample * sample) / (1 + sample * sample) * 0.2 + 0.001 * float(t)
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    return answer.tile((1, 2, 1, 1)) if learned else answer


def _states(scheduler: Any, sample: Any, options: Mapping[str, Any]) -> list[Any]:
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, t) if hasattr(scheduler, "scale_model_input") else sample
        sample = scheduler.step(_answer(scheduler, scaled, t), t, sample, return_dict=False, **options)[0]
        states.append(sample)
    return states


def _states_of_times_by_image(scheduler: Any, sample: Any, options: Mapping[str, Any]) -> list[Any]:
    """A time for each image, and none for the last: as the pipelines of Wuerstchen and SCM call them."""
    states = []
    for t in scheduler.timesteps[:-1]:
        times = t.reshape((1,)).tile((sample.shape[0],)) if "Wuerstchen" in type(scheduler).__name__ else t
        sample = scheduler.step(_answer(scheduler, sample, t), times, sample, return_dict=False, **options)[0]
        states.append(sample)
    return states


def _states_with_the_last_prediction(scheduler: Any, sample: Any, options: Mapping[str, Any]) -> list[Any]:
    """CogVideoX's, which is given the prediction and the time before."""
    states, before, last = [], None, None
    for t in scheduler.timesteps:
        answer = _answer(scheduler, sample, t)
        sample, before = scheduler.step(answer, before, t, last, sample, return_dict=False, **options)
        last = t
        states.append(sample)
    return states


def _states_with_jumps(scheduler: Any, sample: Any, options: Mapping[str, Any]) -> list[Any]:
    """RePaint's, which goes back now and then; half of the image is known."""
    states, last = [], scheduler.timesteps[0] + 1
    known, mask = sample * 0.5, (sample > 0) * 1.0
    for t in scheduler.timesteps:
        if t < last:
            sample = scheduler.step(_answer(scheduler, sample, t), t, sample, known, mask, return_dict=False)[0]
        else:
            sample = scheduler.undo_step(sample, last)
        last = t
        states.append(sample)
    return states


WAYS = {
    "DDPMWuerstchenScheduler": _states_of_times_by_image,
    "SCMScheduler": _states_of_times_by_image,
    "CogVideoXDPMScheduler": _states_with_the_last_prediction,
    "RePaintScheduler": _states_with_jumps,
}


def _begun(package: Any, chain: Chain) -> Any:
    scheduler = getattr(package, chain.name)(**chain.config)
    scheduler.set_timesteps(None if {"timesteps", "sigmas"} & chain.begin.keys() else chain.steps, **chain.begin)
    return scheduler


def _run(scheduler: Any, chain: Chain, sample: Any) -> list[Any]:
    start = sample * getattr(scheduler, "init_noise_sigma", 1.0)
    return WAYS.get(chain.name, _states)(scheduler, start, chain.step)


class Original(torch.nn.Module):
    """A scheduler of diffusers from the first sample to the last, every state of it."""

    def __init__(self, chain: Chain):
        super().__init__()
        self.chain = chain

    def forward(self, sample: torch.Tensor) -> list[torch.Tensor]:
        """The states."""
        scheduler = _begun(importlib.import_module("diffusers"), self.chain)

        def make(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(sample.dtype)

        with _given_noise(sys.modules[type(scheduler).__module__], torch, make):
            return _run(scheduler, self.chain, sample)


def port(chain: Chain) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The same chain by mindone's scheduler, as a function of arrays."""

    def states(sample: np.ndarray) -> list[np.ndarray]:
        import mindspore as ms

        scheduler = _begun(importlib.import_module("mindone.diffusers"), chain)
        with _given_noise(sys.modules[type(scheduler).__module__], ms.mint, ms.Tensor):
            return [state.asnumpy() for state in _run(scheduler, chain, ms.Tensor(sample))]

    return states


class OriginalOfTokens(torch.nn.Module):
    """`VQDiffusionScheduler` of diffusers: the classes after each step, on uniform numbers of a seed."""

    def __init__(self, chain: Chain):
        super().__init__()
        self.chain = chain

    def forward(self, sample: torch.Tensor) -> list[torch.Tensor]:
        """The classes as numbers."""
        scheduler, drawn = _begun(importlib.import_module("diffusers"), self.chain), np.random.default_rng(9)

        def uniform(shape: Any, **kwargs: Any) -> torch.Tensor:
            return torch.from_numpy(drawn.uniform(size=tuple(shape))).to(sample.dtype)

        scores = torch.log_softmax(torch.from_numpy(SCORES).to(sample.dtype), 1)
        with mock.patch.object(torch, "rand", uniform):
            return _classes(scheduler, scores, torch.full((2, 7), CLASSES - 1), None)


def port_of_tokens(chain: Chain) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The same by mindone's, which is given a generator of that seed."""

    def classes(sample: np.ndarray) -> list[np.ndarray]:
        import mindspore as ms

        scheduler = _begun(importlib.import_module("mindone.diffusers"), chain)
        scores = ms.Tensor(SCORES - np.log(np.exp(SCORES).sum(1, keepdims=True)))
        first = ms.Tensor(np.full((2, 7), CLASSES - 1))
        return [found.asnumpy() for found in _classes(scheduler, scores, first, np.random.default_rng(9))]

    return classes


def _classes(scheduler: Any, scores: Any, sample: Any, generator: Any) -> list[Any]:
    found = []
    for t in scheduler.timesteps:
        sample = scheduler.step(scores, t, sample, generator=generator, return_dict=False)[0]
        found.append(sample * 1.0)
    return found
