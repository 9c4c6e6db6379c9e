"""Learning-rate schedules: functions of the step that give a factor on the base rate, computed on the host."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import UserError

Factor = Callable[[int], float]


def constant(total_steps: int) -> Factor:
    """1 throughout."""
    return lambda step: 1.0


def cosine(total_steps: int) -> Factor:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter, https://arxiv.org/abs/1608.03983, without restarts)."""
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))


def linear(total_steps: int) -> Factor:
    """A straight line from 1 to 0."""
    return lambda step: max(1 - step / total_steps, 0.0)


def exponential(decay: float, floor: float, steps_per_epoch: int) -> Factor:
    """max(floor, decay^epoch), epochs counted from 0: PyTorch's LambdaLR stepped once an epoch."""
    if not 0 <= decay <= 1 or not 0 <= floor <= 1:
        raise UserError(f"lr_decay and lr_floor are {decay} and {floor}, expected both in [0, 1]")
    return lambda step: max(floor, decay ** (step // steps_per_epoch))


SCHEDULES = {"constant": constant, "cosine": cosine, "linear": linear}


def lr_schedule(
    name_or_function: str | Factor, *, base_lr: float, total_steps: int, warmup_steps: int = 0
) -> Callable[[int], float]:
    """step (0 = first) -> learning rate.

    ``name_or_function`` is "constant", "cosine", "linear", or any function step -> factor (PyTorch's LambdaLR). During
    the first ``warmup_steps`` the rate rises in a straight line; a named schedule then runs over the steps that remain.
    """
    if warmup_steps < 0 or (warmup_steps and warmup_steps >= total_steps):
        raise UserError(f"warmup_steps is {warmup_steps}, expected 0 to train_num_steps - 1 ({total_steps - 1})")
    if callable(name_or_function):
        factor = name_or_function
    elif name_or_function in SCHEDULES:
        run = SCHEDULES[name_or_function](max(total_steps - warmup_steps, 1))

        def factor(step: int) -> float:
            return run(step - warmup_steps)
    else:
        raise UserError(f"lr_schedule is {name_or_function!r}, expected one of: {', '.join(SCHEDULES)}")

    def rate(step: int) -> float:
        return base_lr * ((step + 1) / (warmup_steps + 1) if step < warmup_steps else factor(step))

    return rate
