"""Samplers of score models: from noise at t = 1 back to t = eps, by the reverse SDE or the probability-flow ODE.

``sampler(model, batch_size, *, ..., **request)`` gives images (B, C, H, W) around [0, 1], not clipped. All take

    labels: the class of each image, (B,) or one for all; default: image i gets class i mod num_classes.
    guidance_scale: s of score = s_none + s (s_class - s_none); default: the model's.
    eps: the time of the last call of the network; default: the model's ``sampling_eps``.
    denoise: end with x_0's expected value (x + std^2 score) / coeff (Tweedie's formula; Jolicoeur-Martineau et al.,
        https://arxiv.org/abs/2009.05475). Default: the model's, False if nothing was said: what the score article
        (docs/systems.md) does, see `euler`.
    seed, noise, first_image: the random numbers. ``noise`` is a tape: anything that yields arrays of the sample's
        shape, first the noise that x_1 is made of, then what each sampler says. Without it every image draws from a
        stream of its own, named by ``seed`` and its index, so image 7 of seed 0 is the same whatever the batch size.
    return_all_timesteps: the chain (B, states, C, H, W), x_1 first; progress: a bar.

Song et al., "Score-based generative modeling through SDEs", https://arxiv.org/abs/2011.13456.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mindspore import Tensor

from ..errors import UserError
from .flow_ode import flow_row, flow_times, heun, heun_step, ode, plain_score, require_scipy
from .request import Score, begin, check_request
from .reverse_sde import (
    CORRECTOR_NORMS,
    corrector_weight,
    denoising_row,
    euler,
    euler_step,
    pc,
    reverse_row,
    reverse_rows,
    reverse_times,
)

__all__ = [
    "CORRECTOR_NORMS", "SCORE_SAMPLERS", "check_request", "check_sample", "corrector_weight", "denoising_row", "euler",
    "euler_step", "flow_row", "flow_times", "heun", "heun_step", "ode", "options_of", "pc", "plain_score",
    "reverse_row", "reverse_rows", "reverse_times", "sample",
]  # fmt: skip

SCORE_SAMPLERS: dict[str, Callable[..., Tensor]] = {"euler": euler, "pc": pc, "ode": ode, "heun": heun}


def options_of(sampler: str) -> tuple[str, ...]:
    """The names of the options that ``sampler`` takes."""
    own = inspect.signature(SCORE_SAMPLERS[sampler]).parameters.values()
    common = inspect.signature(begin).parameters.values()
    return tuple(p.name for p in (*own, *common) if p.kind is p.KEYWORD_ONLY)


def check_sample(model: Score, sampler: str | None, options: dict) -> None:
    """Raises UserError where `sample` would refuse ``options``; not for a tape or labels."""
    given = {name: value for name, value in options.items() if value is not None}
    checked = inspect.signature(check_request).parameters
    check_request(model, sampler=sampler, **{name: value for name, value in given.items() if name in checked})
    sampler = model.sampler if sampler is None else sampler
    for name in given:
        if name not in options_of(sampler):
            raise UserError(f"the {sampler} sampler takes no {name}; it takes: {', '.join(options_of(sampler))}")
    if sampler == "ode":
        require_scipy("ode sampler", "heun sampler")


def sample(model: Score, batch_size: int, sampler: str | None, options: dict) -> Tensor:
    """``sampler`` (None: the model's) with those of ``options`` that are not None; UserError for an unknown one."""
    check_sample(model, sampler, options)
    sampler = model.sampler if sampler is None else sampler
    options = {name: value for name, value in options.items() if value is not None}
    return SCORE_SAMPLERS[sampler](model, batch_size, **options)
