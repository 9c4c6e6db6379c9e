"""What is asked of a score model's samplers: checked, and held together while one of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..config.limits import MAX_STEPS, SCORE_SAMPLERS, SMALLEST_EPS
from ..data.labels import labels_of_images
from ..errors import UserError, quoted
from ..maths.random import Tape, noise_tape
from ..nn.sde import SDE
from .chain import Chain, numbers


class Score(Protocol):
    """What is sampled here, see `ms_ddpm.ScoreModel`: a score, and the defaults of what may be asked."""

    sde: SDE
    channels: int
    image_size: tuple[int, int]
    conditional: bool
    num_classes: int
    null_class: bool
    class_dropout: float
    guidance_scale: float
    sampler: str
    sampling_timesteps: int
    sampling_eps: float
    corrector_snr: float
    denoise: bool

    def compiled_step(self, make: Callable, guided: bool) -> Callable:
        """``make(score)``, a step around ``score(x, t, y, scale)``, as one graph, made once."""


def is_real(value) -> bool:
    """Whether ``value`` is a number, and not a truth value."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _is_whole(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_request(
    model: Score,
    *,
    sampler: str | None = None,
    steps: int | None = None,
    eps: float | None = None,
    snr: float | None = None,
    guidance_scale: float | None = None,
    batch_size: int = 1,
    seed: int | None = None,
    first_image: int = 0,
) -> None:
    """Raises UserError where ``model`` cannot be sampled so. None stands for the model's own value."""
    sampler = model.sampler if sampler is None else sampler
    if sampler not in SCORE_SAMPLERS:
        raise UserError(f"sampler is {quoted(sampler)}, expected one of: {', '.join(SCORE_SAMPLERS)}")
    if sampler == "ode" and steps is not None:
        raise UserError(
            f"the ode sampler chooses its own steps, not {quoted(steps)}; the heun sampler takes a number of them"
        )
    least = 1 if sampler == "heun" else 2
    steps = model.sampling_timesteps if steps is None else steps
    if sampler != "ode" and not (_is_whole(steps) and least <= steps <= MAX_STEPS):
        raise UserError(
            f"steps of the {sampler} sampler is {quoted(steps)}, expected at least {least} and at most {MAX_STEPS}; "
            "usual: 500"
        )
    eps = model.sampling_eps if eps is None else eps
    if not (is_real(eps) and SMALLEST_EPS <= eps < 1):
        raise UserError(f"sampling eps is {quoted(eps)}, expected {SMALLEST_EPS:g} to below 1; usual: 0.001")
    snr = model.corrector_snr if snr is None else snr
    if not (is_real(snr) and 0 < snr < 10):
        raise UserError(f"the corrector's signal-to-noise ratio is {quoted(snr)}, expected above 0 and below 10")
    scale = model.guidance_scale if guidance_scale is None else guidance_scale
    if not (is_real(scale) and 0 <= scale < float("inf")):
        raise UserError(f"guidance_scale is {quoted(scale)}, expected 0 (no class), 1 (the class alone) or more")
    if scale != 1 and not model.conditional:
        raise UserError(f"guidance_scale is {scale:g}, but this model is not conditional: train one with num_classes")
    if scale != 1 and not (model.null_class and model.class_dropout > 0):
        raise UserError(
            f"guidance_scale is {scale:g}, but this model never learned to do without a class: "
            "train one with class_dropout above 0"
        )
    for name, value, least in (("batch_size", batch_size, 1), ("first_image", first_image, 0), ("seed", seed, 0)):
        if value is not None and not (_is_whole(value) and value >= least):
            raise UserError(f"{name} is {quoted(value)}, expected at least {least}, a whole number")


@dataclass
class Request:
    """What one call of a sampler was asked for, checked, and its chain."""

    model: Score
    chain: Chain
    steps: int
    eps: float
    y: Tensor | None
    scale: Tensor
    guided: bool
    denoise: bool

    def step(self, make: Callable) -> Callable:
        """The compiled step ``(x, t, y, scale, ...)`` of this request as a function of (x, t, ...), t a number."""
        call = self.model.compiled_step(make, self.guided)

        def step(x, time, *more):
            return call(x, self.chain.at(time), self.y, self.scale, *more)

        return step

    def start(self) -> Tensor:
        """x_1, from the prior."""
        return numbers(self.model.sde.prior_std * next(self.chain.tape).astype(np.float64))


def begin(
    model: Score,
    batch_size: int,
    sampler: str,
    holds: str,
    steps: int | None = None,
    snr: float | None = None,
    *,
    eps: float | None = None,
    labels: int | Iterable[int] | Tensor | None = None,
    guidance_scale: float | None = None,
    denoise: bool | None = None,
    seed: int | None = None,
    noise: Iterable | None = None,
    first_image: int = 0,
    return_all_timesteps: bool = False,
    progress: bool = False,
) -> Request:
    """A checked request of ``sampler``; the arguments are those of `score`, ``holds`` what its tape has to."""
    check_request(
        model, sampler=sampler, steps=steps, eps=eps, snr=snr, guidance_scale=guidance_scale, batch_size=batch_size,
        seed=seed, first_image=first_image,
    )  # fmt: skip
    y = labels_of_images(model, labels, batch_size, first_image)
    shape = (batch_size, model.channels, *model.image_size)
    scale = float(model.guidance_scale if guidance_scale is None else guidance_scale)
    tape = Tape(noise_tape(seed, shape, first_image) if noise is None else noise, shape, holds)
    return Request(
        model,
        Chain(tape, return_all_timesteps, progress),
        model.sampling_timesteps if steps is None else steps,
        float(model.sampling_eps if eps is None else eps),
        None if y is None else Tensor(y),
        Tensor(scale, ms.float32),
        scale != 1,
        model.denoise if denoise is None else denoise,
    )
