"""Sampling chains of diffusers' schedulers and of mindone's: the model is a formula, the noise is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

SHAPE = (2, 3, 4, 4)
TAPE = np.random.default_rng(7).standard_normal((200, *SHAPE)).astype(np.float32)


@contextmanager
def _given_noise(module: Any, make: Any) -> Iterator[None]:
    """Inside, what ``module`` draws is the tape, one entry a draw."""
    tape = iter(TAPE)

    def draw(shape: Any, *args: Any, **kwargs: Any) -> Any:
        return make(next(tape))

    with ExitStack() as stack:
        if hasattr(module, "randn_tensor"):
            stack.enter_context(mock.patch.object(module, "randn_tensor", draw))
        yield


def _answer(sample: Any, t: Any) -> Any:
    """What stands for a network: smooth in both, and not small."""
    return sample * 0.3 + (sample * sample) / (1 + sample * sample) * 0.2 + 0.001 * float(t)


def _states(scheduler: Any, sample: Any, steps: int) -> list[Any]:
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, t) if hasattr(scheduler, "scale_model_input") else sample
        sample = scheduler.step(_answer(scaled, t), t, sample, return_dict=False)[0]
        states.append(sample)
    return states


class Original(torch.nn.Module):
    """A scheduler of diffusers from the first sample to the last, every state of it."""

    def __init__(self, name: str, config: Mapping[str, Any], steps: int):
        super().__init__()
        self.name = name
        self.config = dict(config)
        self.steps = steps

    def forward(self, sample: torch.Tensor) -> list[torch.Tensor]:
        """The states."""
        import sys

        import diffusers

        kind = getattr(diffusers, self.name)
        scheduler = kind(**self.config)
        scheduler.set_timesteps(self.steps)

        def make(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(sample.dtype)

        with _given_noise(sys.modules[kind.__module__], make):
            return _states(scheduler, sample * scheduler.init_noise_sigma, self.steps)


def port(name: str, config: Mapping[str, Any], steps: int) -> Any:
    """The same chain by mindone's scheduler, as a function of arrays."""

    def chain(sample: np.ndarray) -> list[np.ndarray]:
        import importlib
        import sys

        import mindspore as ms

        kind = getattr(importlib.import_module("mindone.diffusers"), name)
        scheduler = kind(**config)
        scheduler.set_timesteps(steps)
        start = ms.Tensor(sample) * scheduler.init_noise_sigma
        with _given_noise(sys.modules[kind.__module__], ms.Tensor):
            return [state.asnumpy() for state in _states(scheduler, start, steps)]

    return chain
