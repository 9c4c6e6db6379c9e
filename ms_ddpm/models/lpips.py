"""LPIPS, a distance of two images in the features of a trained classifier.

Zhang, Isola, Efros, Shechtman, Wang 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
https://arxiv.org/abs/1801.03924, eq. 1, as version 0.1 of the authors' package computes it. The weights are published
in two files, the classifier's (torchvision's SqueezeNet 1.1, AlexNet or VGG-16) and one weight per channel for every
layer looked at; `load_lpips` reads both from one safetensors file that ``scripts/convert.py lpips`` makes. Parameters
have the names of those files: ``features.3.squeeze.weight``, ``lin0.model.1.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..arrays import TakesArrays
from ..errors import UserError
from ..maths.random import host_rng
from ..nn.activations import ReLU
from ..nn.layers import Conv2d
from ..ops.sums import channel_sum
from ..storage import tensorfile
from ..storage.fingerprint import remembers
from ..storage.weights import set_parameters

_SLICE = re.compile(r"^net\.slice[0-9]+\.([0-9]+)\.")
_LIN = re.compile(r"lin[0-9]+\.model\.1\.weight")
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation for inputs in [-1, 1]
EPS, TINY = 1e-10, 1e-36

# What torchvision's numbered layers are, up to the last one looked at, and which outputs are looked at.
_CONV, _FIRE, _POOL, _RELU = "conv", "fire", "pool", "relu"


def _vgg() -> tuple:
    layers = []
    for widths in ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)):
        layers += [(_POOL, 2, False)] if layers else []
        for dim_in, dim_out in pairwise(widths):
            layers += [(_CONV, dim_in, dim_out, 3, 1, 1), (_RELU,)]
    return tuple(layers)


NETWORKS: dict[str, tuple[tuple, tuple[int, ...], tuple[int, ...]]] = {  # layers, taps, their channels
    "squeeze": (
        (
            (_CONV, 3, 64, 3, 2, 0), (_RELU,), (_POOL, 3, True), (_FIRE, 64, 16, 64), (_FIRE, 128, 16, 64),
            (_POOL, 3, True), (_FIRE, 128, 32, 128), (_FIRE, 256, 32, 128), (_POOL, 3, True), (_FIRE, 256, 48, 192),
            (_FIRE, 384, 48, 192), (_FIRE, 384, 64, 256), (_FIRE, 512, 64, 256),
        ),
        (1, 4, 7, 9, 10, 11, 12),
        (64, 128, 256, 384, 384, 512, 512),
    ),
    "alex": (
        (
            (_CONV, 3, 64, 11, 4, 2), (_RELU,), (_POOL, 3, False), (_CONV, 64, 192, 5, 1, 2), (_RELU,),
            (_POOL, 3, False), (_CONV, 192, 384, 3, 1, 1), (_RELU,), (_CONV, 384, 256, 3, 1, 1), (_RELU,),
            (_CONV, 256, 256, 3, 1, 1), (_RELU,),
        ),
        (1, 4, 7, 9, 11),
        (64, 192, 384, 256, 256),
    ),
    "vgg": (_vgg(), (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
}  # fmt: skip


def _pooled(side: int, kernel: int, ceil: bool) -> int:
    """Side of what a pooling of stride 2 leaves; with ``ceil`` a window may stand over the edge."""
    return (-(-(side - kernel) // 2) if ceil else (side - kernel) // 2) + 1


def smallest_side(net: str) -> int:
    """Side of the smallest image that leaves the network something to look at in every layer."""

    def remains(side: int) -> bool:
        for kind, *arguments in NETWORKS[net][0]:
            if kind == _CONV:
                _, _, kernel, stride, padding = arguments
                side = (side + 2 * padding - kernel) // stride + 1
            elif kind == _POOL:
                side = _pooled(side, *arguments)
            if side < 1:
                return False
        return True

    return next(side for side in range(1, 1000) if remains(side))


class MaxPool(nn.Cell):
    """Largest of every ``kernel`` x ``kernel`` square, stride 2; (B, C, H, W), no value negative.

    With ``ceil`` the last squares may stand over the right and lower edge; what is beyond counts as 0, so it changes
    no maximum of values that are not negative.
    """

    def __init__(self, kernel: int, ceil: bool):
        super().__init__()
        self.kernel, self.ceil = kernel, ceil
        self.pool = ops.MaxPool(kernel, 2, "valid")

    def construct(self, x: Tensor) -> Tensor:
        if self.ceil:
            _, _, h, w = x.shape
            below = (_pooled(h, self.kernel, True) - 1) * 2 + self.kernel - h
            beside = (_pooled(w, self.kernel, True) - 1) * 2 + self.kernel - w
            if below or beside:
                x = ops.Pad(((0, 0), (0, 0), (0, below), (0, beside)))(x)
        return self.pool(x)


class Fire(nn.Cell):
    """SqueezeNet's module: a 1x1 convolution, then 1x1 and 3x3 side by side, ReLU after each.

    (B, dim_in, H, W) -> (B, 2 expand, H, W). Iandola et al. 2016, https://arxiv.org/abs/1602.07360, section 3.2.
    """

    def __init__(self, dim_in: int, squeeze: int, expand: int, rng: np.random.Generator):
        super().__init__()
        self.squeeze = Conv2d(dim_in, squeeze, 1, rng=rng)
        self.expand1x1 = Conv2d(squeeze, expand, 1, rng=rng)
        self.expand3x3 = Conv2d(squeeze, expand, 3, padding=1, rng=rng)
        self.relu = ReLU()

    def construct(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return ops.concat((self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))), 1)


def _layer(kind: str, arguments: tuple, rng: np.random.Generator) -> nn.Cell:
    if kind == _CONV:
        dim_in, dim_out, kernel, stride, padding = arguments
        return Conv2d(dim_in, dim_out, kernel, stride=stride, padding=padding, rng=rng)
    if kind == _FIRE:
        return Fire(*arguments, rng)
    return MaxPool(*arguments) if kind == _POOL else ReLU()


class Lin(nn.Cell):
    """One weight per channel, without bias: (B, C, H, W) -> (B, 1, H, W)."""

    def __init__(self, dim: int, rng: np.random.Generator):
        super().__init__()
        # The authors' layer 0 is a dropout, which does nothing after training.
        self.model = nn.CellList([nn.Cell(), Conv2d(dim, 1, 1, bias=False, rng=rng)])

    def construct(self, x: Tensor) -> Tensor:
        return self.model[1](x)


def unit_length(x: Tensor) -> Tensor:
    """x / (||x|| + 1e-10), the norm over the channels of each pixel: (B, C, H, W) -> same.

    The square is kept from 0, where the root has no gradient, by so little that no value changes.
    """
    return x / (ops.sqrt(ops.maximum(channel_sum(x * x), TINY)) + EPS)


@remembers()
class LPIPS(TakesArrays):
    """d(x, y) = sum_l mean_hw sum_c w_lc (x'_lchw - y'_lchw)^2, x' the layer's features at unit length: (B,).

    The images are in [0, 1], of 3 channels or of 1, which is taken three times; the network sees them in [-1, 1] and
    scaled, as in the authors' package with normalize=True. Its weights are never trained.

    Args:
        net: "squeeze", "alex" or "vgg".
        rng: of the random weights that are there until `load_lpips` or `set_parameters` brings others.

    Raises:
        UserError: another network.
    """

    whole_numbers = frozenset()  # both are images
    named_as_torch = True  # see `ms_ddpm.storage.convert`

    def __init__(self, net: str = "squeeze", *, rng: np.random.Generator | int | None = None):
        super().__init__()
        if net not in NETWORKS:
            raise UserError(f"LPIPS network is {net!r}, expected one of: {', '.join(NETWORKS)}")
        rng = host_rng(rng)
        layers, self.taps, widths = NETWORKS[net]
        self.net = net
        self.features = nn.CellList([_layer(kind, tuple(arguments), rng) for kind, *arguments in layers])
        self.lins = []
        for i, width in enumerate(widths):
            lin = Lin(width, rng)
            # Weights of a distance are not negative.
            lin.model[1].weight = Parameter(ops.abs(lin.model[1].weight), name="weight")
            setattr(self, f"lin{i}", lin)
            self.lins.append(lin)
        self.shift = Tensor(np.array(SHIFT, np.float32).reshape(1, 3, 1, 1))
        self.scale = Tensor(np.array(SCALE, np.float32).reshape(1, 3, 1, 1))
        for parameter in self.get_parameters():
            parameter.requires_grad = False

    def tapped(self, x: Tensor) -> tuple[Tensor, ...]:
        """The features looked at, of images (B, 1 or 3, H, W) in [0, 1]."""
        x = ((x * 2 - 1) - self.shift) / self.scale
        found = ()
        for i in range(len(self.features)):
            x = self.features[i](x)
            if i in self.taps:
                found = (*found, x)
        return found

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        total = 0.0
        for lin, of_x, of_y in zip(self.lins, self.tapped(x), self.tapped(y)):  # noqa: B905  not in graphs
            difference = unit_length(of_x) - unit_length(of_y)
            distance = lin(difference * difference)
            total = total + distance.reshape(distance.shape[0], -1).mean(axis=1)
        return total


def network_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Which network a state with the published names holds. Raises ValueError where it is none."""
    first = arrays.get("features.0.weight")
    if first is None:
        raise ValueError("there is no features.0.weight")
    if any(name.endswith("squeeze.weight") for name in arrays):
        return "squeeze"
    return "alex" if first.ndim == 4 and first.shape[2] == 11 else "vgg"


def published(states: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of an `LPIPS`, by name, that published files hold together, in any order.

    Either torchvision's classifier (whose own ``classifier.*`` is not needed) and the authors' ``lin*`` weights, or the
    one state dict of the authors' whole network (``net.slice2.3.squeeze.weight``).
    """
    found = {}
    for state in states:
        for name, value in state.items():
            name = _SLICE.sub(r"features.\1.", name)
            if name.startswith("features.") or _LIN.fullmatch(name):
                found[name] = value
    return found


def lpips_of(arrays: Mapping[str, np.ndarray], what: str) -> LPIPS:
    """The LPIPS with these weights, by the published names; ``what`` is what messages call them.

    Raises:
        UserError: not the weights of one of the three networks, naming what is missing or differs.
    """
    try:
        net = network_of(arrays)
    except ValueError as error:
        raise UserError(
            f"{what}: no weights of LPIPS, {error}; expected those of scripts/convert.py lpips (or take --perceptual "
            "gradient)"
        ) from None
    lpips = LPIPS(net, rng=0)
    set_parameters(lpips, arrays, what)
    return lpips


def load_lpips(path: str | Path) -> LPIPS:
    """The LPIPS whose weights ``path`` holds, a safetensors file made by ``scripts/convert.py lpips``.

    Raises:
        UserError: no such file, or as `lpips_of`.
    """
    return lpips_of(tensorfile.read(path), str(path))
