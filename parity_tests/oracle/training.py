"""Adam, clipping by the global norm, and the moving average of the weights, as pure functions.

A tree is a dict or a list of arrays, or one array; what comes back is a new one of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
Tree = Mapping[str, ArrayLike] | list[ArrayLike] | ArrayLike


def _map(f: Callable, first: Tree, *others: Tree) -> Tree:
    """``f`` of the corresponding float64 leaves."""
    if isinstance(first, Mapping):
        if any(set(first) != set(other) for other in others):
            raise ValueError(f"trees have different names: {[sorted(t) for t in (first, *others)]}")
        return {name: _map(f, first[name], *(other[name] for other in others)) for name in first}
    if isinstance(first, list | tuple):
        return [_map(f, *leaves) for leaves in zip(first, *others, strict=True)]
    return f(*(np.asarray(leaf, np.float64) for leaf in (first, *others)))


def _leaves(tree: Tree) -> list[Array]:
    found = []
    _map(found.append, tree)
    return found


def adam_step(
    params: Tree,
    grads: Tree,
    state: dict | None,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Tree, dict]:
    """One step of Adam (Kingma & Ba, arXiv 1412.6980, Algorithm 1); ``decoupled``: AdamW (arXiv 1711.05101, Alg. 2).

    eps is added after bias correction, as the algorithm says: sqrt(v / (1 - beta2^n)) + eps. Without ``decoupled``
    the decay is added to the gradient; with it the weights shrink by lr * weight_decay first.

    Returns:
        new params, new state ``{"step": n, "exp_avg": tree, "exp_avg_sq": tree}``; None is the state before step 1.
    """
    beta1, beta2 = betas
    if state is None:
        zeros = _map(np.zeros_like, params)
        state = {"step": 0, "exp_avg": zeros, "exp_avg_sq": zeros}
    step = state["step"] + 1
    if decoupled:
        params = _map(lambda p: p * (1 - lr * weight_decay), params)
    else:
        grads = _map(lambda g, p: g + weight_decay * p, grads, params)
    first = _map(lambda m, g: beta1 * m + (1 - beta1) * g, state["exp_avg"], grads)
    second = _map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state["exp_avg_sq"], grads)
    unbias1, unbias2 = 1 - beta1**step, 1 - beta2**step
    params = _map(lambda p, m, v: p - lr * (m / unbias1) / (np.sqrt(v / unbias2) + eps), params, first, second)
    return params, {"step": step, "exp_avg": first, "exp_avg_sq": second}


def clip_by_global_norm(grads: Tree, max_norm: float) -> tuple[Tree, float]:
    """Gradients times min(1, max_norm / (norm + 1e-6)), and the norm before: Pascanu et al., arXiv 1211.5063, Alg. 1.

    The 1e-6 and the norm over all leaves together are PyTorch's clip_grad_norm_.
    """
    norm = float(np.linalg.norm([np.linalg.norm(leaf) for leaf in _leaves(grads)]))
    factor = min(1.0, max_norm / (norm + 1e-6))
    return _map(lambda g: g * factor, grads), norm


def ema_acts(calls: int, update_every: int = 10) -> bool:
    """Whether call number ``calls`` (from 1) of the average does anything: 1, 11, 21, ... as in ema-pytorch."""
    return (calls - 1) % update_every == 0


def ema_decay(
    calls: int,
    beta: float = 0.995,
    update_after_step: int = 100,
    inv_gamma: float = 1.0,
    power: float = 2 / 3,
    min_value: float = 0.0,
) -> float:
    """What the average keeps of itself at call number ``calls`` (from 1), if that call acts; 0 is a copy.

    ema-pytorch: with e = calls - update_after_step - 1, 0 while e <= 0, then 1 - (1 + e / inv_gamma)^-power, not
    below min_value and not above beta.
    """
    epoch = calls - update_after_step - 1
    if epoch <= 0:
        return 0.0
    return min(beta, max(min_value, 1 - (1 + epoch / inv_gamma) ** -power))


def ema_run(
    weights_sequence: Iterable[Tree],
    beta: float = 0.995,
    update_after_step: int = 100,
    update_every: int = 10,
    inv_gamma: float = 1.0,
    power: float = 2 / 3,
    min_value: float = 0.0,
) -> list[Tree]:
    """The average after each call, given the weights at each call. The first call always copies."""
    averages: list[Tree] = []
    for calls, weights in enumerate(weights_sequence, 1):
        if not ema_acts(calls, update_every):
            averages.append(averages[-1])
            continue
        decay = ema_decay(calls, beta, update_after_step, inv_gamma, power, min_value)
        before = averages[-1] if averages else weights
        averages.append(_map(lambda a, w, d=decay: d * a + (1 - d) * w, before, weights))
    return averages
