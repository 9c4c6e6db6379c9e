"""Training, complete: Ho et al. 2020 (https://arxiv.org/abs/2006.11239), Algorithm 1. On the digits of scikit-learn:

python -m torch_ref.train --steps 400 --output_dir runs/torch_ref
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .diffusion import GaussianDiffusion
from .ema import EMA
from .layers import Dropout
from .optim import Adam, clip_by_global_norm
from .unet import Unet

Draws = tuple[Tensor, Tensor, bool, Tensor | None]


def draw(rng: np.random.Generator, diffusion: GaussianDiffusion, batch: np.ndarray) -> Draws:
    """All that is random in the loss of a batch (B, C, H, W) in [0, 1]: t, noise, self_cond, offset_noise."""
    like = {"dtype": diffusion.betas.dtype, "device": diffusion.betas.device}
    t = torch.tensor(rng.integers(0, diffusion.num_timesteps, len(batch)), device=like["device"])
    noise = rng.standard_normal(batch.shape)
    if diffusion.immiscible:
        noise = noise[nearest_noise(diffusion.normalize(batch), noise)]
    self_cond = bool(diffusion.self_condition and rng.random() < 0.5)
    offset_noise = None
    if diffusion.offset_noise_strength > 0:
        offset_noise = torch.tensor(rng.standard_normal(batch.shape[:2]), **like)
    return t, torch.tensor(noise, **like), self_cond, offset_noise


def nearest_noise(x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The order of ``noise`` with the least sum of distances to x (Li et al. 2024, https://arxiv.org/abs/2406.12303)."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(x.reshape(len(x), -1), noise.reshape(len(x), -1)))[1]


def train_step(
    diffusion: Callable,
    optimizer: Adam,
    batches: list[tuple],
    max_grad_norm: float = 1.0,
    loss_scale: float = 1.0,
) -> tuple[float, float]:
    """(loss, gradient norm) of one update, by the mean gradient of batches (img, t, noise, self_cond, offset_noise).

    The gradient is that of ``loss_scale`` times the loss, divided by it again (Micikevicius et al. 2018,
    https://arxiv.org/abs/1710.03740, section 3.2).
    """
    parameters = list(optimizer.parameters.values())
    total, grads = 0.0, [torch.zeros_like(p) for p in parameters]
    for batch in batches:
        loss = diffusion(*batch) / len(batches)
        grads = [sum_ + g for sum_, g in zip(grads, torch.autograd.grad(loss * loss_scale, parameters), strict=True)]
        total += loss.item()
    grads = [g / loss_scale for g in grads]
    grads, norm = clip_by_global_norm(grads, max_grad_norm)
    optimizer.step(dict(zip(optimizer.parameters, grads, strict=True)))
    return total, norm.item()


def train(
    diffusion: GaussianDiffusion,
    data: np.ndarray,
    *,
    steps: int,
    batch_size: int = 16,
    lr: float = 1e-4,
    seed: int = 0,
    gradient_accumulate_every: int = 1,
    max_grad_norm: float = 1.0,
    adam_betas: tuple[float, float] = (0.9, 0.99),
    ema_decay: float = 0.995,
    ema_update_every: int = 10,
    progress: bool = True,
) -> tuple[list[float], EMA]:
    """Trains on ``data`` (N, C, H, W) in [0, 1]; the losses, and the average of the weights. One seed gives one run."""
    from tqdm import trange

    if any(module.p > 0 for module in diffusion.modules() if isinstance(module, Dropout)):
        raise ValueError("dropout masks are given from outside: this loop sets none, so train with dropout=0")
    rng = np.random.default_rng(seed)
    optimizer = Adam([p for p in diffusion.parameters() if p.requires_grad], lr=lr, betas=adam_betas)
    ema = EMA(diffusion, beta=ema_decay, update_every=ema_update_every)
    losses = []
    for _ in (bar := trange(steps, disable=not progress)):
        batches = []
        for _ in range(gradient_accumulate_every):
            images = data[rng.integers(0, len(data), batch_size)]
            img = torch.tensor(images, dtype=diffusion.betas.dtype, device=diffusion.betas.device)
            batches.append((img, *draw(rng, diffusion, images)))
        loss, _ = train_step(diffusion, optimizer, batches, max_grad_norm)
        ema.update()
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    return losses, ema


def digits() -> np.ndarray:
    """(1797, 1, 8, 8) in [0, 1]: scikit-learn's handwritten digits."""
    from sklearn.datasets import load_digits

    return load_digits().images[:, None].astype(np.float32) / 16


def main(argv: list[str] | None = None) -> None:
    """The command line: trains on the digits, prints losses, writes them and samples of the averaged weights."""
    parser = argparse.ArgumentParser(prog="python -m torch_ref.train", description="DDPM on 8x8 digits, in PyTorch.")
    parser.add_argument("--steps", type=int, default=400, help="updates (default 400, about a minute)")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_samples", type=int, default=16)
    parser.add_argument(
        "--output_dir", type=Path, help="where losses.txt and samples.npy go; nothing is written without"
    )
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps is {args.steps}, expected at least 1")

    unet = Unet(16, dim_mults=(1, 2), channels=1, rng=args.seed)
    diffusion = GaussianDiffusion(unet, image_size=8, sampling_timesteps=50)
    losses, ema = train(diffusion, digits(), steps=args.steps, batch_size=args.batch_size, lr=args.lr, seed=args.seed)
    for part in np.array_split(np.arange(args.steps), min(10, args.steps)):
        print(f"steps {part[0] + 1:6d} to {part[-1] + 1:6d}: mean loss {np.mean(losses[part[0] : part[-1] + 1]):.4f}")
    if args.output_dir:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        np.savetxt(args.output_dir / "losses.txt", losses)
        tape = np.random.default_rng(args.seed).standard_normal((50, args.num_samples, 1, 8, 8))
        with ema.swapped():
            np.save(args.output_dir / "samples.npy", diffusion.sample(args.num_samples, noise=tape).numpy())
        print(f"wrote losses.txt and samples.npy to {args.output_dir}")


if __name__ == "__main__":
    main()
