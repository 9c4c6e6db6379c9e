"""Adam and AdamW with PyTorch's exact semantics, and clipping by the global norm.

MindSpore's own add eps before the bias correction (``nn.Adam``), leave the correction out (``nn.AdamWeightDecay``) or
never update a weight on CPU (``mint.optim``), all measured on 2.10.

All gradients travel as one flat vector: a step is then a dozen operators whatever the number of parameters, where a
dozen per parameter cost more in launches than in arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..errors import UserError
from ..ops import kernels
from ..ops.assign import set_value
from ..ops.choose import choose
from ..ops.expm1 import expm1
from ..ops.split import Pieces

_map = ops.HyperMap()  # a Python loop over 140 parameters takes the graph parser 6 s, this 0.2 s
_concat = ops.Concat(0)
_reshape = ops.Reshape()
_cast = ops.Cast()
_assign = ops.Assign()


def _ravel(tensor: Tensor) -> Tensor:
    return _reshape(_cast(tensor, ms.float32), (-1,))


def _assign_reshaped(parameter: Parameter, value: Tensor) -> Tensor:
    return _assign(parameter, _reshape(value, parameter.shape))


class FlatView:
    """The parameters of a network as one float32 vector, and back.

    ``fused``: by the C++ kernels, in one operator.
    """

    def __init__(self, parameters: Sequence[Parameter], fused: bool = False):
        self.fused = fused
        self.join = kernels.flatten() if fused else None
        self.parameters = ParameterTuple(parameters)
        self.shapes = tuple(tuple(p.shape) for p in self.parameters)
        self.sizes = tuple(math.prod(shape) for shape in self.shapes)
        self.size = sum(self.sizes)
        self.pieces = Pieces(self.sizes)

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """One vector (size,) of arrays shaped like the parameters; inside or outside a graph."""
        if self.fused:
            return self.join(*tensors)
        return _concat(_map(_ravel, tensors))

    def assign(self, parameters: ParameterTuple, flat: Tensor):
        """Puts one vector (size,) into ``parameters``, inside a graph (which finds them only as a Cell's member)."""
        return _map(_assign_reshaped, parameters, self.pieces(flat))

    def flatten_numpy(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """`flatten` on the host."""
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays])

    def unflatten_numpy(self, flat: np.ndarray) -> list[np.ndarray]:
        """Arrays shaped like the parameters of one vector (size,), on the host; they are copies."""
        pieces = np.split(flat, np.cumsum(self.sizes)[:-1])
        return [piece.reshape(shape).copy() for piece, shape in zip(pieces, self.shapes, strict=True)]


def global_norm(flat: Tensor) -> Tensor:
    """Euclidean norm of a flat gradient vector: scalar."""
    return ops.sqrt((flat * flat).sum())


def clip_by_global_norm(flat: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """(the vector scaled so that its norm is at most ``max_norm``, its norm before), PyTorch's ``clip_grad_norm_``.

    The factor is max_norm / (norm + 1e-6), at most 1. A norm that is not finite is returned as it is.
    """
    norm = global_norm(flat)
    return flat * clip_factor(norm, max_norm), norm


def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What `clip_by_global_norm` multiplies gradients of this norm with."""
    return ops.minimum(max_norm / (norm + 1e-6), Tensor(1.0, ms.float32))


class Adam(nn.Cell):
    """Adam (Kingma & Ba, https://arxiv.org/abs/1412.6980) as ``torch.optim.Adam`` has it: eps after the correction.

    Args:
        params: the parameters to train.
        lr: default learning rate.
        betas, eps: as in PyTorch.
        weight_decay: times the weight, added to the gradient (default 0), or, in `AdamW`, times lr, taken off the
            weight (default 0.01).
        fused: by the C++ kernels, in one operator (default: where they are there).
    """

    decoupled_decay = False
    default_decay = 0.0

    def __init__(
        self,
        params: Sequence[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        fused: bool | None = None,
    ):
        super().__init__(auto_prefix=False)
        self.fused = kernels.available() if fused is None else fused
        weight_decay = self.default_decay if weight_decay is None else weight_decay
        if len(betas) != 2:
            raise UserError(f"Adam betas is {tuple(betas)}, expected two numbers")
        for name, beta in zip(("betas[0]", "betas[1]"), betas, strict=True):
            if not 0 <= beta < 1:
                raise UserError(f"Adam {name} is {beta}, expected in [0, 1)")
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise UserError(f"Adam lr, eps and weight_decay are {lr}, {eps}, {weight_decay}, expected none negative")
        self.view = FlatView(params, self.fused)
        if not self.view.parameters:
            raise UserError("Adam was given no parameters to train")
        self.trained = self.view.parameters
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        zeros = np.zeros(self.view.size, np.float32)
        self.exp_avg = Parameter(Tensor(zeros), name="exp_avg", requires_grad=False)
        self.exp_avg_sq = Parameter(Tensor(zeros), name="exp_avg_sq", requires_grad=False)
        self.steps = Parameter(Tensor(0.0, ms.float32), name="optimizer_steps", requires_grad=False)
        # Not inside the graph, which computes even with Python's floats in float32: 1 - 0.999 would be 1.3e-5 off.
        self.new_share = tuple(1 - beta for beta in betas)
        # 1 - beta^t = -expm1(t log beta): as exact in float32 as PyTorch's double precision, rounded once.
        self.log_betas = tuple(math.log(beta) if beta > 0 else -math.inf for beta in betas)
        if self.fused:
            self.kernel = kernels.adam(len(self.trained))
            self.norm = kernels.norm_of_all()
            constants = (self.new_share[0], betas[1], self.new_share[1], eps)
            self.constants = Tensor(np.array(constants, np.float32))

    def bias_correction(self, i: int, steps: Tensor) -> Tensor:
        """1 - betas[i]^steps."""
        if self.betas[i] == 0:
            return Tensor(1.0, ms.float32)
        return -expm1(steps * self.log_betas[i])

    def apply(self, gradient: Tensor, lr: Tensor, acts: Tensor) -> Tensor:
        """One update from a flat gradient (size,); where the boolean scalar ``acts`` is false nothing changes.

        Returns the number of updates so far. Called inside a compiled graph.
        """
        weights = self.view.flatten(self.trained)
        gradient = choose(acts, gradient, ops.zeros_like(gradient))
        if self.weight_decay and not self.decoupled_decay:
            gradient = gradient + self.weight_decay * weights
        steps = self.steps + 1
        m = self.exp_avg + self.new_share[0] * (gradient - self.exp_avg)
        v = self.betas[1] * self.exp_avg_sq + self.new_share[1] * (gradient * gradient)
        denominator = ops.sqrt(v) / ops.sqrt(self.bias_correction(1, steps)) + self.eps
        updated = weights
        if self.weight_decay and self.decoupled_decay:
            updated = updated * (1 - lr * self.weight_decay)
        updated = updated - (lr / self.bias_correction(0, steps)) * (m / denominator)
        updated = choose(acts, updated, weights)
        self.view.assign(self.trained, updated)
        ops.assign(self.exp_avg, choose(acts, m, self.exp_avg))
        ops.assign(self.exp_avg_sq, choose(acts, v, self.exp_avg_sq))
        ops.assign(self.steps, ops.select(acts, steps, self.steps))
        return self.steps

    def apply_fused(self, gradients: Sequence[Tensor], lr: Tensor, acts: Tensor, factor: Tensor) -> Tensor:
        """`apply` of one gradient per parameter, each times ``factor``, by the C++ kernel."""
        steps = self.steps + 1
        l2, shrink = ops.zeros_like(lr), ops.ones_like(lr)
        if self.weight_decay and self.decoupled_decay:
            shrink = 1 - lr * self.weight_decay
        elif self.weight_decay:
            l2 = l2 + self.weight_decay
        rate, root = lr / self.bias_correction(0, steps), ops.sqrt(self.bias_correction(1, steps))
        scalars = ops.concat(
            (ops.stack((ops.cast(acts, ms.float32), factor, rate, root)), self.constants, ops.stack((l2, shrink)))
        )
        results = self.kernel(scalars, self.exp_avg, self.exp_avg_sq, *gradients, *self.trained)
        _map(_assign, self.trained, results[2:])
        ops.assign(self.exp_avg, results[0])
        ops.assign(self.exp_avg_sq, results[1])
        ops.assign(self.steps, ops.select(acts, steps, self.steps))
        return self.steps

    def construct(self, grads: Sequence[Tensor], lr: Tensor | None = None) -> Tensor:
        """One update from one gradient per parameter; returns the number of updates so far."""
        lr = Tensor(self.lr, ms.float32) if lr is None else lr
        if self.fused:
            return self.apply_fused(grads, lr, Tensor(True), Tensor(1.0, ms.float32))
        return self.apply(self.view.flatten(grads), lr, Tensor(True))

    def state(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Moments per parameter, ``exp_avg.NAME`` and ``exp_avg_sq.NAME``, and ``steps``: what a checkpoint holds."""
        state = {"steps": self.steps.asnumpy().reshape(1)}
        for key, moment in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
            for name, value in zip(names, self.view.unflatten_numpy(moment.asnumpy()), strict=True):
                state[f"{key}.{name}"] = value
        return state

    def load_state(self, names: Sequence[str], state: dict[str, np.ndarray]) -> None:
        """Restores what `state` gave."""
        for key, moment in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
            set_value(moment, self.view.flatten_numpy([state[f"{key}.{name}"] for name in names]))
        set_value(self.steps, state["steps"])


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, https://arxiv.org/abs/1711.05101), as in PyTorch."""

    decoupled_decay = True
    default_decay = 0.01


OPTIMIZERS = {"adam": Adam, "adamw": AdamW}


def optimizer_class(name: str) -> type[Adam]:
    """The optimizer called ``name``. Raises UserError where there is none."""
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer is {name!r}, expected one of: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]
