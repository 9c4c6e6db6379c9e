"""Chains of reverse steps. Each takes its noise from a tape: any iterable of arrays (B, C, H, W), numpy or torch.

The order of a tape: x_T first, then one array per reverse step but the last, drawn even where its coefficient is zero.
``diffusion`` is a `diffusion.GaussianDiffusion`: the step is its ``p_sample`` or ``ddim_step``.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from .schedules import ddim_times


def tape_reader(noise: Iterable, shape: tuple[int, ...], like: Tensor) -> Callable[[], Tensor]:
    """A function that gives the tape's next array as a tensor; ValueError if none is left or its shape is another."""
    arrays = iter(noise)

    def read() -> Tensor:
        array = next(arrays, None)
        if array is None:
            raise ValueError("the noise tape ran dry: it needs x_T and one array per reverse step but the last")
        array = torch.as_tensor(array, dtype=like.dtype, device=like.device)
        if array.shape != shape:
            raise ValueError(f"the tape's array has shape {tuple(array.shape)}, expected {shape}")
        return array

    return read


def reverse_process(diffusion: nn.Module, x: Tensor, start: int, read: Callable[[], Tensor]) -> list[Tensor]:
    """DDPM Algorithm 2 from x at time ``start``: [x, ..., x_0]. Self-conditioned models are fed their last x_0."""
    chain, x_start = [x], torch.zeros_like(x)
    for time in reversed(range(start + 1)):
        t = torch.full((len(x),), time, device=x.device)
        noise = read() if time > 0 else torch.zeros_like(x)
        x, x_start = diffusion.p_sample(x, t, noise, x_start if diffusion.self_condition else None)
        chain.append(x)
    return chain


@torch.no_grad()
def ddpm(diffusion: nn.Module, batch_size: int, *, noise: Iterable, return_all_timesteps: bool = False) -> Tensor:
    """Ho et al. 2020 (https://arxiv.org/abs/2006.11239), Algorithm 2: T steps, images (B, [T+1,] C, H, W) in [0, 1]."""
    read = tape_reader(noise, (batch_size, diffusion.channels, *diffusion.image_size), diffusion.betas)
    chain = reverse_process(diffusion, read(), diffusion.num_timesteps - 1, read)
    return diffusion.unnormalize(torch.stack(chain, 1) if return_all_timesteps else chain[-1])


@torch.no_grad()
def ddim(
    diffusion: nn.Module,
    batch_size: int,
    *,
    steps: int | None = None,
    eta: float | None = None,
    noise: Iterable,
    return_all_timesteps: bool = False,
) -> Tensor:
    """Song et al. 2020 (https://arxiv.org/abs/2010.02502), eq. 12: S steps, images (B, [S+1,] C, H, W) in [0, 1].

    eta 0 is deterministic, eta 1 with S = T is DDPM. ``steps`` and ``eta`` default to the diffusion's own.
    """
    steps = diffusion.sampling_timesteps if steps is None else steps
    eta = diffusion.ddim_sampling_eta if eta is None else eta
    if not 1 <= steps <= diffusion.num_timesteps:
        raise ValueError(f"steps is {steps}, expected 1 to {diffusion.num_timesteps}")
    read = tape_reader(noise, (batch_size, diffusion.channels, *diffusion.image_size), diffusion.betas)
    x = read()
    chain, x_start = [x], torch.zeros_like(x)
    for time, time_next in pairwise(ddim_times(diffusion.num_timesteps, steps)):
        z = read() if time_next >= 0 else torch.zeros_like(x)
        x, x_start = diffusion.ddim_step(x, time, time_next, z, eta, x_start if diffusion.self_condition else None)
        chain.append(x)
    return diffusion.unnormalize(torch.stack(chain, 1) if return_all_timesteps else chain[-1])


@torch.no_grad()
def interpolate(
    diffusion: nn.Module, x1: Tensor, x2: Tensor, t: int | None = None, lam: float = 0.5, *, noise: Iterable
) -> Tensor:
    """Ho et al. 2020, section 4.4: both images noised to time t (the tape's first two arrays), mixed, and denoised.

    Images in and out are in [0, 1]; t defaults to T-1; lam 0 is x1. The reverse steps are t-1 ... 0, as in the library.
    """
    t = diffusion.num_timesteps - 1 if t is None else t
    if not 0 < t < diffusion.num_timesteps:
        raise ValueError(f"t is {t}, expected 1 to {diffusion.num_timesteps - 1}")
    x1, x2 = (torch.as_tensor(x, dtype=diffusion.betas.dtype, device=diffusion.betas.device) for x in (x1, x2))
    read = tape_reader(noise, tuple(x1.shape), diffusion.betas)
    times = torch.full((len(x1),), t, device=x1.device)
    end1, end2 = (diffusion.q_sample(diffusion.normalize(x), times, read()) for x in (x1, x2))
    chain = reverse_process(diffusion, (1 - lam) * end1 + lam * end2, t - 1, read)
    return diffusion.unnormalize(chain[-1])
