"""A network of three layers for tests of what is around a network: a U-Net takes most of their time to compile."""

import numpy as np
from mindspore import nn, ops

from ms_ddpm.nn.layers import Conv2d, Linear
from ms_ddpm.nn.norms import GroupNorm
from ms_ddpm.ops.dropout import HashDropout


class SmallNet(nn.Cell):
    """Called as `Unet` is, with as many of its options as `GaussianDiffusion` and `Trainer` look at."""

    def __init__(self, channels=1, *, self_condition=False, learned_variance=False, dropout=0.0, rng=0):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.channels, self.self_condition, self.dropout = channels, self_condition, dropout
        self.out_dim = channels * (2 if learned_variance else 1)
        self.first = Conv2d(channels * (2 if self_condition else 1), 8, 3, padding=1, rng=rng)
        self.time = Linear(1, 8, rng=rng)
        self.norm = GroupNorm(2, 8)
        self.drop = HashDropout(dropout, 0)
        self.last = Conv2d(8, self.out_dim, 1, rng=rng)

    def check_size(self, height, width):
        """Any size will do."""

    def construct(self, x, time, x_self_cond=None, dropout_key=None):
        if self.self_condition:
            if x_self_cond is None:
                x_self_cond = ops.zeros_like(x)
            x = ops.concat((x_self_cond, x), 1)
        time = self.time(time.reshape(-1, 1).astype(x.dtype) / 1000)
        x = ops.silu(self.norm(self.first(x)) + time.reshape(-1, 8, 1, 1))
        return self.last(self.drop(x, dropout_key))
