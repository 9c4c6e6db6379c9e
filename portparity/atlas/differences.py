# ruff: noqa: E501 - a line for each question
"""What only words can say: defaults, rounding modes, ties, NaN, empty means, in-place methods, types of results.

A difference is two short pieces of Python, as a reader would type them, whose answers are put beside one another.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import rows
from .asked import MindSpore, Torch
from .rows import Row

FILE = """import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops


def asked():
    {lines}


def compiled():
    {lines}
"""


@dataclass(frozen=True)
class Difference:
    """One question to both."""

    operator: str
    about: str
    mindspore: str
    torch: str


def _differences(text: str) -> list[Difference]:
    lines = [[part.strip() for part in line.split("|")] for line in text.strip().splitlines()]
    return [Difference(*parts) for parts in lines]


_TABLE = """
nn.GELU | default form | nn.GELU()(Tensor([1.0])) | torch.nn.GELU()(torch.tensor([1.0]))
nn.LayerNorm | default eps | nn.LayerNorm((2,))(Tensor([[0.0, 0.001]])) | torch.nn.LayerNorm(2)(torch.tensor([[0.0, 0.001]]))
nn.GroupNorm | default eps | nn.GroupNorm(1, 2)(Tensor([[[[0.0]], [[0.001]]]])) | torch.nn.GroupNorm(1, 2)(torch.tensor([[[[0.0]], [[0.001]]]]))
nn.BatchNorm2d | default momentum: running mean after one batch of 1 | n = nn.BatchNorm2d(1); n.set_train(); n(ops.ones((2, 1, 1, 1), ms.float32)); n.moving_mean.value() | n = torch.nn.BatchNorm2d(1); n(torch.ones(2, 1, 1, 1)); n.running_mean
nn.Conv2d | default padding: shape of the result | nn.Conv2d(1, 1, 3)(ops.ones((1, 1, 5, 5), ms.float32)).shape | torch.nn.Conv2d(1, 1, 3)(torch.ones(1, 1, 5, 5)).shape
nn.Conv2d | default bias: number of weights | len(nn.Conv2d(1, 1, 3).trainable_params()) | len(list(torch.nn.Conv2d(1, 1, 3).parameters()))
nn.LeakyReLU | default slope | nn.LeakyReLU()(Tensor([-1.0])) | torch.nn.LeakyReLU()(torch.tensor([-1.0]))
ops.leaky_relu | default slope | ops.leaky_relu(Tensor([-1.0])) | F.leaky_relu(torch.tensor([-1.0]))
nn.SmoothL1Loss | default reduction | nn.SmoothL1Loss()(Tensor([1.0, 2.0]), Tensor([0.0, 0.0])) | torch.nn.SmoothL1Loss()(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
ops.smooth_l1_loss | default reduction | ops.smooth_l1_loss(Tensor([1.0, 2.0]), Tensor([0.0, 0.0])) | F.smooth_l1_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
nn.L1Loss | default reduction | nn.L1Loss()(Tensor([1.0, 2.0]), Tensor([0.0, 0.0])) | torch.nn.L1Loss()(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
nn.BCELoss | default reduction | nn.BCELoss()(Tensor([0.5, 0.25]), Tensor([0.0, 1.0])) | torch.nn.BCELoss()(torch.tensor([0.5, 0.25]), torch.tensor([0.0, 1.0]))
ops.kl_div | default reduction | ops.kl_div(Tensor([[0.1, 0.2]]), Tensor([[0.5, 0.5]])) | F.kl_div(torch.tensor([[0.1, 0.2]]), torch.tensor([[0.5, 0.5]]))
ops.cross_entropy | ignore_index of all rows | ops.cross_entropy(Tensor([[1.0, 2.0]]), Tensor([-100], ms.int32)) | F.cross_entropy(torch.tensor([[1.0, 2.0]]), torch.tensor([-100]))
ops.var | default correction | ops.var(Tensor([1.0, 2.0, 4.0])) | torch.var(torch.tensor([1.0, 2.0, 4.0]))
ops.std | default correction | ops.std(Tensor([1.0, 2.0, 4.0])) | torch.std(torch.tensor([1.0, 2.0, 4.0]))
Tensor.std | default correction | Tensor([1.0, 2.0, 4.0]).std() | torch.tensor([1.0, 2.0, 4.0]).std()
ops.var | of one number | ops.var(Tensor([3.0]), ddof=1) | torch.var(torch.tensor([3.0]))
ops.std | gradient at equal numbers | ms.grad(lambda x: ops.std(x, ddof=1))(Tensor([2.0, 2.0])) | x = torch.tensor([2.0, 2.0], requires_grad=True); torch.autograd.grad(torch.std(x), x)[0]
ops.norm | gradient at 0 | ms.grad(lambda x: ops.norm(x))(Tensor([0.0, 0.0])) | x = torch.tensor([0.0, 0.0], requires_grad=True); torch.autograd.grad(torch.linalg.norm(x), x)[0]
ops.mean | of nothing | ops.mean(ops.zeros((0,), ms.float32)) | torch.mean(torch.zeros(0))
mint.mean | of nothing | mint.mean(ops.zeros((0,), ms.float32)) | torch.mean(torch.zeros(0))
Tensor.mean | of nothing | ops.zeros((0,), ms.float32).mean() | torch.zeros(0).mean()
ops.sum | of nothing | ops.sum(ops.zeros((0,), ms.float32)) | torch.sum(torch.zeros(0))
mint.sum | of nothing | mint.sum(ops.zeros((0,), ms.float32)) | torch.sum(torch.zeros(0))
ops.sum | of nothing, along an axis | ops.sum(ops.zeros((2, 0), ms.float32), dim=1) | torch.sum(torch.zeros(2, 0), 1)
ops.prod | of nothing | ops.prod(ops.zeros((0,), ms.float32)) | torch.prod(torch.zeros(0))
mint.prod | of nothing | mint.prod(ops.zeros((0,), ms.float32)) | torch.prod(torch.zeros(0))
ops.max | of nothing | ops.max(ops.zeros((0,), ms.float32)) | torch.max(torch.zeros(0))
ops.argmax | of nothing | ops.argmax(ops.zeros((0,), ms.float32)) | torch.argmax(torch.zeros(0))
ops.any | of nothing | ops.any(ops.zeros((0,), ms.bool_)) | torch.any(torch.zeros(0, dtype=torch.bool))
ops.all | of nothing | ops.all(ops.zeros((0,), ms.bool_)) | torch.all(torch.zeros(0, dtype=torch.bool))
ops.logsumexp | of nothing | ops.logsumexp(ops.zeros((0,), ms.float32), 0) | torch.logsumexp(torch.zeros(0), 0)
ops.softmax | of an empty axis: shape | ops.softmax(ops.zeros((2, 0), ms.float32), axis=-1).shape | torch.softmax(torch.zeros(2, 0), -1).shape
ops.matmul | over an empty axis | ops.matmul(ops.zeros((2, 0), ms.float32), ops.zeros((0, 3), ms.float32)) | torch.zeros(2, 0) @ torch.zeros(0, 3)
mint.matmul | over an empty axis | mint.matmul(ops.zeros((2, 0), ms.float32), ops.zeros((0, 3), ms.float32)) | torch.zeros(2, 0) @ torch.zeros(0, 3)
ops.cat | with an empty tensor | ops.cat((ops.zeros((0, 2), ms.float32), ops.ones((1, 2), ms.float32))) | torch.cat((torch.zeros(0, 2), torch.ones(1, 2)))
ops.mse_loss | of nothing | ops.mse_loss(ops.zeros((0,), ms.float32), ops.zeros((0,), ms.float32)) | F.mse_loss(torch.zeros(0), torch.zeros(0))
ops.logsumexp | of -Inf alone | ops.logsumexp(Tensor([-np.inf, -np.inf]), 0) | torch.logsumexp(torch.tensor([-np.inf, -np.inf]), 0)
ops.softmax | of -Inf alone | ops.softmax(Tensor([-np.inf, -np.inf])) | torch.softmax(torch.tensor([-np.inf, -np.inf]), -1)
ops.softmax | with an Inf | ops.softmax(Tensor([np.inf, 0.0])) | torch.softmax(torch.tensor([np.inf, 0.0]), -1)
ops.log_softmax | with -Inf | ops.log_softmax(Tensor([-np.inf, 0.0])) | torch.log_softmax(torch.tensor([-np.inf, 0.0]), -1)
ops.argmax | with NaN | ops.argmax(Tensor([1.0, np.nan, 3.0])) | torch.argmax(torch.tensor([1.0, np.nan, 3.0]))
ops.argmin | with NaN | ops.argmin(Tensor([1.0, np.nan, 3.0])) | torch.argmin(torch.tensor([1.0, np.nan, 3.0]))
mint.argmax | with NaN | mint.argmax(Tensor([1.0, np.nan, 3.0])) | torch.argmax(torch.tensor([1.0, np.nan, 3.0]))
ops.max | with NaN | ops.max(Tensor([1.0, np.nan, 3.0]))[0] | torch.max(torch.tensor([1.0, np.nan, 3.0]))
mint.max | with NaN | mint.max(Tensor([1.0, np.nan, 3.0])) | torch.max(torch.tensor([1.0, np.nan, 3.0]))
mint.min | with NaN | mint.min(Tensor([1.0, np.nan, 3.0])) | torch.min(torch.tensor([1.0, np.nan, 3.0]))
Tensor.max | with NaN | Tensor([1.0, np.nan, 3.0]).max() | torch.tensor([1.0, np.nan, 3.0]).max()
ops.amax | with NaN | ops.amax(Tensor([1.0, np.nan, 3.0])) | torch.amax(torch.tensor([1.0, np.nan, 3.0]))
ops.maximum | with NaN first | ops.maximum(Tensor([np.nan]), Tensor([1.0])) | torch.maximum(torch.tensor([np.nan]), torch.tensor([1.0]))
ops.maximum | with NaN second | ops.maximum(Tensor([1.0]), Tensor([np.nan])) | torch.maximum(torch.tensor([1.0]), torch.tensor([np.nan]))
ops.relu | of NaN | ops.relu(Tensor([np.nan])) | F.relu(torch.tensor([np.nan]))
mint.nn.functional.relu | of NaN | mint.nn.functional.relu(Tensor([np.nan])) | F.relu(torch.tensor([np.nan]))
ops.clamp | of NaN | ops.clamp(Tensor([np.nan]), 0, 1) | torch.clamp(torch.tensor([np.nan]), 0, 1)
ops.clamp | minimum above maximum | ops.clamp(Tensor([0.5]), 2.0, 1.0) | torch.clamp(torch.tensor([0.5]), 2.0, 1.0)
ops.sort | with NaN | ops.sort(Tensor([np.nan, 1.0, 3.0, 2.0]))[0] | torch.sort(torch.tensor([np.nan, 1.0, 3.0, 2.0]))[0]
ops.topk | with NaN | ops.topk(Tensor([1.0, np.nan, 3.0]), 1)[0] | torch.topk(torch.tensor([1.0, np.nan, 3.0]), 1)[0]
ops.max_pool2d | with NaN | ops.max_pool2d(Tensor([[[[np.nan, 1.0], [2.0, 3.0]]]]), 2) | F.max_pool2d(torch.tensor([[[[np.nan, 1.0], [2.0, 3.0]]]]), 2)
ops.sign | of NaN | ops.sign(Tensor([np.nan])) | torch.sign(torch.tensor([np.nan]))
x / 0 | NaN divided by 0 | Tensor([np.nan]) / Tensor([0.0]) | torch.tensor([np.nan]) / torch.tensor([0.0])
x // 0 | whole numbers by 0 | Tensor([7.0]) // Tensor([0.0]) | torch.tensor([7.0]) // torch.tensor([0.0])
x // y | of negative integers | Tensor([-7, 7, -7]) // Tensor([2, -2, -2]) | torch.tensor([-7, 7, -7]) // torch.tensor([2, -2, -2])
x % y | of negative integers | Tensor([-7, 7, -7]) % Tensor([3, -3, -3]) | torch.tensor([-7, 7, -7]) % torch.tensor([3, -3, -3])
x % y | of negative numbers | Tensor([-7.5, 7.5]) % Tensor([2.0, -2.0]) | torch.tensor([-7.5, 7.5]) % torch.tensor([2.0, -2.0])
ops.div | rounding_mode floor | ops.div(Tensor([-7.0]), Tensor([2.0]), rounding_mode='floor') | torch.div(torch.tensor([-7.0]), torch.tensor([2.0]), rounding_mode='floor')
ops.div | rounding_mode trunc | ops.div(Tensor([-7.0]), Tensor([2.0]), rounding_mode='trunc') | torch.div(torch.tensor([-7.0]), torch.tensor([2.0]), rounding_mode='trunc')
ops.round | halves | ops.round(Tensor([0.5, 1.5, 2.5, -0.5])) | torch.round(torch.tensor([0.5, 1.5, 2.5, -0.5]))
mint.round | to two decimals | mint.round(Tensor([1.2345]), decimals=2) | torch.round(torch.tensor([1.2345]), decimals=2)
ops.cast | negative to uint8 | Tensor([-1.0, 300.0]).astype(ms.uint8) | torch.tensor([-1.0, 300.0]).to(torch.uint8)
ops.cast | too large for int32 | Tensor([3e9, -3e9]).astype(ms.int32) | torch.tensor([3e9, -3e9]).to(torch.int32)
ops.cast | NaN to int32 | Tensor([np.nan]).astype(ms.int32) | torch.tensor([np.nan]).to(torch.int32)
ops.cast | NaN to bool | Tensor([np.nan, 0.0, -0.0]).astype(ms.bool_) | torch.tensor([np.nan, 0.0, -0.0]).to(torch.bool)
ops.cast | too large for float16 | Tensor([65520.0, 65519.0]).astype(ms.float16) | torch.tensor([65520.0, 65519.0]).to(torch.float16)
ops.pow | 0 to the 0, gradient | ms.grad(lambda x: ops.pow(x, 0.0).sum())(Tensor([0.0])) | x = torch.tensor([0.0], requires_grad=True); torch.autograd.grad(torch.pow(x, 0.0).sum(), x)[0]
ops.pow | integers, negative exponent | ops.pow(Tensor([2]), Tensor([-1])) | torch.pow(torch.tensor([2]), torch.tensor([-1]))
ops.relu | gradient at 0 | ms.grad(lambda x: ops.relu(x).sum())(Tensor([0.0])) | x = torch.tensor([0.0], requires_grad=True); torch.autograd.grad(F.relu(x).sum(), x)[0]
ops.abs | gradient at 0 | ms.grad(lambda x: ops.abs(x).sum())(Tensor([0.0])) | x = torch.tensor([0.0], requires_grad=True); torch.autograd.grad(x.abs().sum(), x)[0]
ops.sqrt | gradient at 0 | ms.grad(lambda x: ops.sqrt(x).sum())(Tensor([0.0])) | x = torch.tensor([0.0], requires_grad=True); torch.autograd.grad(x.sqrt().sum(), x)[0]
ops.maximum | gradient at a tie | ms.grad(lambda x, y: ops.maximum(x, y).sum(), (0, 1))(Tensor([1.0]), Tensor([1.0])) | x, y = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True); torch.autograd.grad(torch.maximum(x, y).sum(), (x, y))
ops.minimum | gradient at a tie | ms.grad(lambda x, y: ops.minimum(x, y).sum(), (0, 1))(Tensor([1.0]), Tensor([1.0])) | x, y = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True); torch.autograd.grad(torch.minimum(x, y).sum(), (x, y))
ops.amax | gradient at ties | ms.grad(lambda x: ops.amax(x))(Tensor([1.0, 1.0, 0.0])) | x = torch.tensor([1.0, 1.0, 0.0], requires_grad=True); torch.autograd.grad(torch.amax(x), x)[0]
mint.max | gradient at ties | ms.grad(lambda x: mint.max(x))(Tensor([1.0, 1.0, 0.0])) | x = torch.tensor([1.0, 1.0, 0.0], requires_grad=True); torch.autograd.grad(torch.max(x), x)[0]
ops.max | gradient at ties | ms.grad(lambda x: ops.max(x)[0])(Tensor([1.0, 1.0, 0.0])) | x = torch.tensor([1.0, 1.0, 0.0], requires_grad=True); torch.autograd.grad(torch.max(x), x)[0]
ops.clamp | gradient at the bound | ms.grad(lambda x: ops.clamp(x, 0.0, 1.0).sum())(Tensor([0.0, 1.0])) | x = torch.tensor([0.0, 1.0], requires_grad=True); torch.autograd.grad(torch.clamp(x, 0.0, 1.0).sum(), x)[0]
mint.clamp | gradient at the bound | ms.grad(lambda x: mint.clamp(x, 0.0, 1.0).sum())(Tensor([0.0, 1.0])) | x = torch.tensor([0.0, 1.0], requires_grad=True); torch.autograd.grad(torch.clamp(x, 0.0, 1.0).sum(), x)[0]
ops.max_pool2d | gradient at ties | ms.grad(lambda x: ops.max_pool2d(x, 2).sum())(ops.ones((1, 1, 2, 2), ms.float32)) | x = torch.ones(1, 1, 2, 2, requires_grad=True); torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)[0]
ops.median | gradient at ties | ms.grad(lambda x: ops.median(x)[0])(Tensor([1.0, 1.0, 0.0])) | x = torch.tensor([1.0, 1.0, 0.0], requires_grad=True); torch.autograd.grad(torch.median(x), x)[0]
ops.prod | gradient with a zero | ms.grad(lambda x: ops.prod(x))(Tensor([2.0, 0.0, 3.0])) | x = torch.tensor([2.0, 0.0, 3.0], requires_grad=True); torch.autograd.grad(torch.prod(x), x)[0]
ops.cumprod | gradient with a zero | ms.grad(lambda x: ops.cumprod(x, 0).sum())(Tensor([2.0, 0.0, 3.0])) | x = torch.tensor([2.0, 0.0, 3.0], requires_grad=True); torch.autograd.grad(torch.cumprod(x, 0).sum(), x)[0]
mint.cumprod | gradient with a zero | ms.grad(lambda x: mint.cumprod(x, 0).sum())(Tensor([2.0, 0.0, 3.0])) | x = torch.tensor([2.0, 0.0, 3.0], requires_grad=True); torch.autograd.grad(torch.cumprod(x, 0).sum(), x)[0]
ops.where | gradient of the branch not taken (sqrt of a negative number) | ms.grad(lambda x: ops.where(x > 0, ops.sqrt(x), x).sum())(Tensor([-1.0])) | x = torch.tensor([-1.0], requires_grad=True); torch.autograd.grad(torch.where(x > 0, torch.sqrt(x), x).sum(), x)[0]
ops.atan2 | gradient at the origin | ms.grad(lambda x, y: ops.atan2(x, y).sum(), (0, 1))(Tensor([0.0]), Tensor([0.0])) | x, y = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True); torch.autograd.grad(torch.atan2(x, y).sum(), (x, y))
ops.argmax | of equal numbers | ops.argmax(Tensor([1.0, 2.0, 2.0])) | torch.argmax(torch.tensor([1.0, 2.0, 2.0]))
ops.topk | indices of equal numbers | ops.topk(Tensor([1.0, 1.0, 1.0, 1.0]), 2)[1] | torch.topk(torch.tensor([1.0, 1.0, 1.0, 1.0]), 2)[1]
ops.sort | indices of equal numbers | ops.sort(Tensor([1.0, 0.0, 1.0, 0.0]))[1] | torch.sort(torch.tensor([1.0, 0.0, 1.0, 0.0]), stable=True)[1]
ops.argsort | descending, equal numbers | ops.argsort(Tensor([1.0, 0.0, 1.0, 0.0]), descending=True) | torch.argsort(torch.tensor([1.0, 0.0, 1.0, 0.0]), descending=True, stable=True)
ops.median | of an even number | ops.median(Tensor([1.0, 2.0, 3.0, 4.0]))[0] | torch.median(torch.tensor([1.0, 2.0, 3.0, 4.0]))
ops.split | meaning of the number | [p.shape for p in ops.split(ops.zeros((6,), ms.float32), 2)] | [p.shape for p in torch.split(torch.zeros(6), 2)]
ops.chunk | 7 in 3 | [p.shape for p in ops.chunk(ops.zeros((7,), ms.float32), 3)] | [p.shape for p in torch.chunk(torch.zeros(7), 3)]
Tensor.transpose | of two axes | ops.zeros((2, 3, 4), ms.float32).transpose(0, 2).shape | torch.zeros(2, 3, 4).transpose(0, 2).shape
ops.argmax | default axis | ops.argmax(Tensor([[1.0, 3.0], [5.0, 2.0]])) | torch.argmax(torch.tensor([[1.0, 3.0], [5.0, 2.0]]))
Tensor.max | with an axis: type of the answer | type(Tensor([[1.0, 3.0]]).max(axis=1)).__name__ | type(torch.tensor([[1.0, 3.0]]).max(axis=1)).__name__
ops.softmax | default axis | ops.softmax(Tensor([[1.0, 2.0], [3.0, 5.0]])) | F.softmax(torch.tensor([[1.0, 2.0], [3.0, 5.0]]), dim=-1)
ops.norm | default of a matrix | ops.norm(Tensor([[1.0, 2.0], [3.0, 4.0]])) | torch.norm(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
ops.flatten | default start | ops.flatten(ops.zeros((2, 3, 4), ms.float32)).shape | torch.flatten(torch.zeros(2, 3, 4)).shape
ops.squeeze | of an axis longer than 1 | ops.squeeze(ops.zeros((2, 3), ms.float32), 1).shape | torch.squeeze(torch.zeros(2, 3), 1).shape
ops.meshgrid | default indexing | ops.meshgrid(Tensor([1.0, 2.0]), Tensor([3.0, 4.0, 5.0]))[0].shape | torch.meshgrid(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0]), indexing='ij')[0].shape
ops.avg_pool2d | padding counts | ops.avg_pool2d(ops.ones((1, 1, 2, 2), ms.float32), 2, 2, 1) | F.avg_pool2d(torch.ones(1, 1, 2, 2), 2, 2, 1)
ops.interpolate | nearest, 3 to 7 | ops.interpolate(Tensor([[[1.0, 2.0, 3.0]]]), size=(7,), mode='nearest') | F.interpolate(torch.tensor([[[1.0, 2.0, 3.0]]]), size=7, mode='nearest')
ops.arange | dtype of whole numbers | ops.arange(3).dtype | torch.arange(3).dtype
ops.arange | length of fractions | ops.arange(0, 1, 0.1).shape | torch.arange(0, 1, 0.1).shape
ops.linspace | float32 grid 0 to 999 in 27 | ops.linspace(0, 999, 27).astype(ms.int32) | torch.linspace(0, 999, 27).int()
ops.sum | dtype of int32 | ops.sum(Tensor([1, 2], ms.int32)).dtype | torch.sum(torch.tensor([1, 2], dtype=torch.int32)).dtype
ops.sum | int32 that overflows | ops.sum(Tensor([2147483647, 1], ms.int32)) | torch.sum(torch.tensor([2147483647, 1], dtype=torch.int32))
ops.sum | of bool | ops.sum(Tensor([True, True])) | torch.sum(torch.tensor([True, True]))
ops.cumsum | dtype of int32 | ops.cumsum(Tensor([1, 2], ms.int32), 0).dtype | torch.cumsum(torch.tensor([1, 2], dtype=torch.int32), 0).dtype
ops.prod | int8 that overflows | ops.prod(Tensor([100, 100], ms.int8)) | torch.prod(torch.tensor([100, 100], dtype=torch.int8))
ops.mean | of integers | ops.mean(Tensor([1, 2])) | torch.mean(torch.tensor([1, 2]))
x / y | dtype of integers | (Tensor([1]) / Tensor([2])).dtype | (torch.tensor([1]) / torch.tensor([2])).dtype
x * 0.5 | dtype of an integer tensor | (Tensor([3]) * 0.5).dtype | (torch.tensor([3]) * 0.5).dtype
x + y | dtype of float16 and float32 | (Tensor([1.0], ms.float16) + Tensor([1.0], ms.float32)).dtype | (torch.ones(1).half() + torch.ones(1)).dtype
x + y | dtype of float16 and int64 | (Tensor([1.0], ms.float16) + Tensor([1], ms.int64)).dtype | (torch.ones(1).half() + torch.ones(1, dtype=torch.int64)).dtype
x * scalar | dtype of float16 and a scalar tensor | (Tensor([1.0], ms.float16) * Tensor(2.0, ms.float32)).dtype | (torch.ones(1).half() * torch.tensor(2.0)).dtype
x + y | bool and bool | Tensor([True]) + Tensor([True]) | torch.tensor([True]) + torch.tensor([True])
x + y | uint8 that overflows | Tensor([200], ms.uint8) + Tensor([100], ms.uint8) | torch.tensor([200], dtype=torch.uint8) + torch.tensor([100], dtype=torch.uint8)
x - y | uint8 below 0 | Tensor([1], ms.uint8) - Tensor([2], ms.uint8) | torch.tensor([1], dtype=torch.uint8) - torch.tensor([2], dtype=torch.uint8)
Tensor.add_ | in place | t = Tensor([1.0]); t.add_(1); t | t = torch.tensor([1.0]); t.add_(1); t
Tensor.sub_ | in place | t = Tensor([1.0]); t.sub_(1); t | t = torch.tensor([1.0]); t.sub_(1); t
Tensor.mul_ | in place | t = Tensor([1.0]); t.mul_(3); t | t = torch.tensor([1.0]); t.mul_(3); t
Tensor.div_ | in place | t = Tensor([1.0]); t.div_(2); t | t = torch.tensor([1.0]); t.div_(2); t
Tensor.exp_ | in place | t = Tensor([1.0]); t.exp_(); t | t = torch.tensor([1.0]); t.exp_(); t
Tensor.clamp_ | in place | t = Tensor([3.0]); t.clamp_(0, 1); t | t = torch.tensor([3.0]); t.clamp_(0, 1); t
Tensor.fill_ | in place | t = Tensor([3.0]); t.fill_(7.0); t | t = torch.tensor([3.0]); t.fill_(7.0); t
Tensor.zero_ | in place | t = Tensor([3.0]); t.zero_(); t | t = torch.tensor([3.0]); t.zero_(); t
Tensor.copy_ | in place | t = Tensor([3.0]); t.copy_(Tensor([4.0])); t | t = torch.tensor([3.0]); t.copy_(torch.tensor([4.0])); t
Tensor.masked_fill_ | in place | t = Tensor([3.0]); t.masked_fill_(Tensor([True]), 5.0); t | t = torch.tensor([3.0]); t.masked_fill_(torch.tensor([True]), 5.0); t
Tensor.sigmoid_ | in place | t = Tensor([0.0]); t.sigmoid_(); t | t = torch.tensor([0.0]); t.sigmoid_(); t
Tensor.tanh_ | in place | t = Tensor([1.0]); t.tanh_(); t | t = torch.tensor([1.0]); t.tanh_(); t
x += 1 | the tensor under its other name | t = Tensor([1.0]); u = t; t += 1; u | t = torch.tensor([1.0]); u = t; t += 1; u
x[0] = 9 | in place | t = Tensor([1.0, 2.0]); t[0] = 9.0; t | t = torch.tensor([1.0, 2.0]); t[0] = 9.0; t
x[0][0] = 9 | through a view | t = Tensor([[1.0, 2.0]]); t[0][0] = 9.0; t | t = torch.tensor([[1.0, 2.0]]); t[0][0] = 9.0; t
x.view | written through | t = Tensor([1.0, 2.0]); u = t.view(2, 1); u[0, 0] = 9.0; t | t = torch.tensor([1.0, 2.0]); u = t.view(2, 1); u[0, 0] = 9.0; t
ops.dropout | default: trains | bool((ops.dropout(ops.ones((1000,), ms.float32)) == 0).any()) | bool((F.dropout(torch.ones(1000)) == 0).any())
nn.Dropout | default: trains | bool((nn.Dropout(p=0.5)(ops.ones((1000,), ms.float32)) == 0).any()) | bool((torch.nn.Dropout(0.5)(torch.ones(1000)) == 0).any())
ops.isclose | NaN and NaN | ops.isclose(Tensor([np.nan]), Tensor([np.nan])) | torch.isclose(torch.tensor([np.nan]), torch.tensor([np.nan]))
ops.nan_to_num | Inf of float32 | ops.nan_to_num(Tensor([np.nan, np.inf, -np.inf])) | torch.nan_to_num(torch.tensor([np.nan, np.inf, -np.inf]))
ops.heaviside | at 0 | ops.heaviside(Tensor([0.0]), Tensor([0.5])) | torch.heaviside(torch.tensor([0.0]), torch.tensor([0.5]))
ops.embedding | index out of range | ops.embedding(Tensor([9], ms.int32), ops.ones((3, 2), ms.float32)) | F.embedding(torch.tensor([9]), torch.ones(3, 2))
ops.gather | index out of range | ops.gather(Tensor([1.0, 2.0]), Tensor([9], ms.int32), 0) | torch.index_select(torch.tensor([1.0, 2.0]), 0, torch.tensor([9]))
ops.gather | negative index | ops.gather(Tensor([1.0, 2.0]), Tensor([-1], ms.int32), 0) | torch.tensor([1.0, 2.0])[torch.tensor([-1])]
x[indices] | index out of range | Tensor([1.0, 2.0])[Tensor([9])] | torch.tensor([1.0, 2.0])[torch.tensor([9])]
ops.one_hot | class out of range | ops.one_hot(Tensor([5], ms.int32), 3, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32)) | F.one_hot(torch.tensor([5]), 3)
mint.bincount | of nothing | mint.bincount(ops.zeros((0,), ms.int32)) | torch.bincount(torch.zeros(0, dtype=torch.int64))
ops.floor | of 1e10 | ops.floor(Tensor([1e10])) | torch.floor(torch.tensor([1e10]))
ops.logical_not | of NaN | ops.logical_not(Tensor([np.nan, 0.0])) | torch.logical_not(torch.tensor([np.nan, 0.0]))
ops.sqrt | of -0 | 1 / ops.sqrt(Tensor([-0.0])) | 1 / torch.sqrt(torch.tensor([-0.0]))
ops.clip_by_global_norm | an infinite gradient | ops.clip_by_global_norm([Tensor([np.inf, 1.0])], 1.0)[0] | p = torch.nn.Parameter(torch.zeros(2)); p.grad = torch.tensor([np.inf, 1.0]); torch.nn.utils.clip_grad_norm_([p], 1.0); p.grad
nn.Embedding | standard deviation of the weights | round(float(nn.Embedding(1000, 100).embedding_table.asnumpy().std()), 1) | round(float(torch.nn.Embedding(1000, 100).weight.std()), 1)
"""


def table() -> list[Difference]:
    """All questions."""
    return _differences(_TABLE)


def lines_of(text: str) -> list[str]:
    """The statements, the last of which is an expression."""
    return [ast.unparse(node) for node in ast.parse(text).body]


def said(value: object) -> tuple[str, str]:
    """(value, dtype) as text, whichever framework it comes from."""
    if isinstance(value, (tuple, list)) and not all(isinstance(v, int) for v in value):
        parts = [said(v) for v in value]
        return f"({', '.join(text for text, _ in parts)})", parts[0][1] if parts else ""
    if isinstance(value, (tuple, list)):
        return str(tuple(value)), ""
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # PyTorch's
        return _text(value.detach().numpy())
    if hasattr(value, "asnumpy"):
        return _text(value.asnumpy())
    return str(value).removeprefix("torch.").lower(), ""


def _text(array: np.ndarray) -> tuple[str, str]:
    array = np.asarray(array)
    shown = [f"{v:.5g}" if array.dtype.kind == "f" else str(v) for v in array.ravel()[:12]]
    return f"[{', '.join(shown)}]" if array.ndim else shown[0], str(array.dtype)


def _answer(ask: Callable) -> tuple[str, str]:
    try:
        return said(ask())
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip("- \n")), "")
        return f"raises {type(error).__name__}: {first[:110]}", ""


def of_mindspore(difference: Difference, mode: str, ours: MindSpore) -> tuple[str, str]:
    """MindSpore's answer."""
    *before, last = lines_of(difference.mindspore)
    ours.count += 1
    path = ours.folder / f"asked_{ours.count}.py"
    path.write_text(FILE.format(lines="\n    ".join([*before, f"return {last}"])))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where MindSpore looks for it when it compiles
    spec.loader.exec_module(module)
    return _answer(ours.ms.jit(module.compiled) if mode == "graph" else module.asked)


def of_torch(difference: Difference, torch: Torch) -> tuple[str, str]:
    """PyTorch's answer."""
    scope = dict(torch.scope)
    *before, last = lines_of(difference.torch)

    def ask():
        exec("\n".join(before), scope)
        return eval(last, scope)

    return _answer(ask)


def alike(ours: str, theirs: str) -> bool:
    """Whether two answers say the same; two errors do, in whichever words."""
    return ours == theirs or (ours.startswith("raises") and theirs.startswith("raises"))


def rows_of(difference: Difference, modes: Sequence[str], ours: MindSpore, torch: Torch, skip, tell) -> list[Row]:
    """A row for PyNative, and one for the graph where that says another thing again."""
    theirs, dtype = of_torch(difference, torch)
    found: list[Row] = []
    for mode in modes:
        # a graph without arguments is folded, gradients to (): what it says of those is about that and nothing else
        folded = mode == "graph" and ("ms.grad" in difference.mindspore or "nn." in difference.mindspore)
        if mode in skip or (folded and found):
            continue
        tell(mode)
        answer, own_dtype = of_mindspore(difference, mode, ours)
        if found and (alike(answer, found[0].mindspore) or answer.startswith("raises")):
            continue  # much of this is not for graphs, and that is no difference between numbers
        row = Row(
            difference.operator, own_dtype or dtype, mode, difference.about, rows.AGREES, measure="words", is_words=True
        )
        row.mindspore, row.torch = answer, theirs
        row.ours, row.theirs = difference.mindspore, difference.torch
        if not alike(answer, theirs):
            absent = answer.startswith("raises") and ("unregistered" in answer or "support" in answer)
            row.verdict = rows.UNSUPPORTED if absent else rows.DIFFERS
            row.said = "modes: the graph gives another answer" if found else "another answer"
        found.append(row)
    return found
