"""Stock MindSpore: the plain port of `stock_net`, nn.Adam and ops.clip_by_global_norm, nothing repaired."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .. import sizes
from .ours import Training, start

__all__ = ["Contestant", "start"]
_STOCK_NAMES = {"norm.gamma": "norm.weight", "norm.beta": "norm.bias"}  # of nn.GroupNorm


class Contestant(Training):
    """The plain port with the given weights; ``names`` maps ms_ddpm's names to those of ``weights``."""

    def __init__(self, workload: sizes.Workload, weights: Mapping[str, np.ndarray], names: Mapping[str, str]):
        from .stock_net import Unet

        super().__init__(Unet(**workload.unet()), workload)
        self.weights = weights
        self.names = names

    def load(self) -> None:
        """Puts the initial weights back."""
        from ms_ddpm.ops.assign import set_value

        for name, parameter in self.unet.parameters_and_names():
            for stock, ours in _STOCK_NAMES.items():
                name = name[: -len(stock)] + ours if name.endswith(stock) else name
            set_value(parameter, self.weights[self.names[name]])

    def make_step(self) -> Callable[[], tuple[float, float]]:
        """value_and_grad, clip, nn.Adam, in one graph."""
        import mindspore as ms
        from mindspore import Tensor, nn, ops

        from ms_ddpm.training.train_step import as_function

        optimizer = nn.Adam(self.diffusion.trainable_params(), sizes.LEARNING_RATE, *sizes.BETAS)
        gradients = ms.value_and_grad(as_function(self.diffusion), None, optimizer.parameters)
        each = ops.HyperMap()

        def square_sum(g):
            return (g * g).sum()

        def step(img, t, noise):
            loss, grads = gradients(img, t, noise)
            norm = ops.sqrt(ops.addn(each(square_sum, grads)))  # clip_by_global_norm does not return it
            loss = ops.depend(loss, optimizer(ops.clip_by_global_norm(grads, sizes.MAX_GRAD_NORM)))
            return loss, norm

        compiled, (img, t, noise) = ms.jit(step), self.batch[:3]

        def call():
            loss, norm = compiled(Tensor(img), Tensor(t), Tensor(noise))
            return float(loss.asnumpy()), float(norm.asnumpy())

        return call
