"""What mindone trains with, that is to be diffusers' or PyTorch's: averages, weights, learning rates, optimizers.

Written down before any was judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .bugs import _step_of_mindone, _step_of_torch, _torch_function
from .pairs import MINDONE, Made, Pair, _of, x

PROJECT = f"{MINDONE} (trainers)"
STEPS = 12


def _made(function: Callable) -> Made:
    return lambda: function


def _average(**options: Any) -> Pair:
    """EMAModel over the weights of a training."""

    def original(torch: Any, weights: Any) -> Any:
        kept = torch.nn.Parameter(weights[0].detach().clone())
        average = _of("diffusers.training_utils", "EMAModel")([kept], **options)
        for weight in weights.detach():
            kept.data = weight.clone()
            average.step([kept])
        return average.shadow_params[0].clone()

    def port(weights: np.ndarray) -> np.ndarray:
        import mindspore as ms

        kept = ms.Parameter(ms.Tensor(weights[0]), name="weight")
        average = _of("mindone.diffusers.training_utils", "EMAModel")([kept], **options)
        for weight in weights:
            kept.set_data(ms.Tensor(weight))
            average.step([kept])
        return average.shadow_params[0].asnumpy()

    words = ", ".join(f"{key} {value}" for key, value in options.items())
    name = f"EMAModel{', ' * bool(words)}{words}"
    return Pair(name, PROJECT, _torch_function(original), _made(port), (x(STEPS, 4, 5),))


def _snr(**config: Any) -> Pair:
    times = np.array([0, 1, 250, 500, 998])

    def original(torch: Any, scale: Any) -> Any:
        scheduler = _of("diffusers", "DDPMScheduler")(**config)
        return scale * _of("diffusers.training_utils", "compute_snr")(scheduler, torch.from_numpy(times))

    def port(scale: np.ndarray) -> np.ndarray:
        import mindspore as ms

        scheduler = _of("mindone.diffusers", "DDPMScheduler")(**config)
        return scale * _of("mindone.diffusers.training_utils", "compute_snr")(scheduler, ms.Tensor(times)).asnumpy()

    words = ", ".join(f"{key} {value}" for key, value in config.items())
    return Pair(f"compute_snr, {words}", PROJECT, _torch_function(original), _made(port), (x(5),))


def _learning_rates(name: str, **options: Any) -> Pair:
    """Every learning rate of get_scheduler, times a number."""
    total = {} if name in ("constant", "constant_with_warmup", "piecewise_constant") else {"num_training_steps": STEPS}

    def original(torch: Any, scale: Any) -> Any:
        optimizer, rates = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), []
        schedule = _of("diffusers.optimization", "get_scheduler")(name, optimizer, **options, **total)
        for _ in range(STEPS):
            rates.append(scale * schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return torch.stack(rates)

    def port(scale: np.ndarray) -> np.ndarray:
        rates = _of("mindone.diffusers.optimization", "get_scheduler")(
            name, lr=0.1, num_training_steps=STEPS, **options
        )
        return np.stack([scale * np.float32(rate) for rate in rates])

    words = ", ".join(f"{key} {value}" for key, value in {"name": name, **options}.items())
    return Pair(f"get_scheduler, {words}", PROJECT, _torch_function(original), _made(port), (x(3),))


def _clipped(limit: float) -> Pair:
    """Gradients by their common norm."""

    def original(torch: Any, first: Any, second: Any) -> Any:
        kept = [torch.nn.Parameter(torch.zeros_like(value)) for value in (first, second)]
        for parameter, value in zip(kept, (first, second), strict=True):
            parameter.grad = value.detach().clone()
        torch.nn.utils.clip_grad_norm_(kept, limit)
        return [parameter.grad for parameter in kept]

    def port(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        import mindspore as ms

        clipper = _of("mindone.diffusers.training_utils", "GradClipper")(limit)
        return [value.asnumpy() for value in clipper.clip_grad_norm((ms.Tensor(first), ms.Tensor(second)))]

    return Pair(f"GradClipper, {limit}", PROJECT, _torch_function(original), _made(port), (x(4, 5), x(7)))


def _optimizer(name: str, theirs: str, original: dict[str, Any], port: dict[str, Any]) -> Pair:
    given = (x(4, 5), x(STEPS, 4, 5))
    return Pair(f"create_optimizer {name}", PROJECT, _step_of_torch(theirs, **original),
                _step_of_mindone(name, **port), given)  # fmt: skip


WARMUP = {"num_warmup_steps": 4}
TRAINERS: tuple[Pair, ...] = (
    _average(),
    _average(use_ema_warmup=True, power=0.75),
    _average(decay=0.5, min_decay=0.3, update_after_step=3),
    _snr(beta_schedule="linear"),
    _snr(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    _snr(beta_schedule="squaredcos_cap_v2"),
    _learning_rates("constant"),
    _learning_rates("constant_with_warmup", **WARMUP),
    _learning_rates("piecewise_constant", step_rules="1:3,0.1:8,0.005"),
    _learning_rates("linear", **WARMUP),
    _learning_rates("cosine", **WARMUP),
    _learning_rates("cosine_with_restarts", **WARMUP, num_cycles=2),
    _learning_rates("polynomial", **WARMUP, power=2.0),
    _clipped(1.0),
    _clipped(100.0),
    _optimizer("adamw_re", "AdamW", {"lr": 1e-2, "eps": 1e-6, "weight_decay": 0.1},
               {"lr": 1e-2, "eps": 1e-6, "weight_decay": 0.1}),
    _optimizer("momentum", "SGD", {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1},
               {"lr": 1e-2, "weight_decay": 0.1}),
)  # fmt: skip
