"""The time-conditioned U-Nets that estimate a score: what they share, and the unconditional one.

Valid convolutions of stride 2 on the way down, transposed ones on the way up. Names and shapes of the parameters are
those of the score article's PyTorch classes (docs/systems.md), so that their checkpoints load (`storage.convert`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Tensor, nn, ops

from ..errors import UserError
from ..maths.random import host_rng
from ..nn.embeddings import GaussianFourierProjection
from ..nn.layers import Conv2d, ConvTranspose2d, KernelNet, Linear
from ..nn.norms import GroupNorm
from ..storage.fingerprint import remembers

SKIPS = ("concat", "add")
FOURIER_SCALE = 30.0  # of the article


class Dense(nn.Cell):
    """The time vector (B, embed_dim) -> what is added to every pixel, (B, dim)."""

    def __init__(self, embed_dim: int, dim: int, rng: np.random.Generator):
        super().__init__()
        self.dense = Linear(embed_dim, dim, rng=rng)

    def construct(self, embed: Tensor) -> Tensor:
        return self.dense(embed)


def margins(side: int) -> tuple[int, int]:
    """Zeros before and after a side that make it 1 more than a multiple of 4: what two halvings see to the end."""
    missing = (1 - side) % 4
    return missing // 2, missing - missing // 2


class TimeScoreNet(KernelNet):
    """What the score networks share: the time embedding, one stage, the division by the deviation, the margins.

    A 3x3 convolution of stride 2 without padding drops the last row and column of an even side. With ``whole`` there
    are zeros around the images so that none is even when it is halved twice, and the score loses its margin again.

    s(x, t) = f(x, t) / std(t): the perturbation kernel's score is -z / std, so f has the size of z at every time (Song
    et al., https://arxiv.org/abs/2011.13456, appendix C).
    """

    whole_numbers = frozenset({"y"})
    named_as_torch = True  # see `ms_ddpm.storage.convert`

    def __init__(
        self, marginal_prob_std: Callable, channels: Sequence[int], embed_dim: int, image_channels: int,
        fourier_scale: float, whole: bool, rng: np.random.Generator,
    ):  # fmt: skip
        super().__init__()
        self.whole = whole
        if len(channels) != 4 or min(channels) < 1 or image_channels < 1:
            raise UserError(
                f"channels of {type(self).__name__} is {tuple(channels)} with images of {image_channels}, "
                "expected four widths and images of at least one channel"
            )
        self.channels = image_channels
        self.widths = tuple(channels)
        self.marginal_prob_std = marginal_prob_std
        self.time_embed = nn.SequentialCell(
            GaussianFourierProjection(embed_dim, fourier_scale, rng=rng), Linear(embed_dim, embed_dim, rng=rng)
        )

    smallest = 17  # three halvings of what the first convolution leaves

    def construct(self, x: Tensor, t: Tensor, *y: Tensor) -> Tensor:
        if not self.whole:
            return self.score(x, t, *y)
        batch, channels, height, width = x.shape
        (top, bottom), (left, right) = margins(height), margins(width)
        score = self.score(ops.pad(x, (left, right, top, bottom)), t, *y)
        # Not ops.slice: its gradient is a kernel of the host on Ascend.
        return ops.strided_slice(score, (0, 0, top, left), (batch, channels, top + height, left + width), (1, 1, 1, 1))

    def check_size(self, height: int, width: int) -> None:
        """Raises UserError for images too small to be halved as often as the network halves them."""
        if min(height, width) < self.smallest:
            raise UserError(
                f"image size {height}x{width} is too small for {type(self).__name__}: "
                f"both sides must be at least {self.smallest}; give a larger image_size"
            )

    def embed(self, t: Tensor) -> Tensor:
        """t (B,) -> the time vector (B, embed_dim), after its SiLU."""
        return ops.silu(self.time_embed(t))

    def stage(self, h: Tensor, dense: nn.Cell, norm: nn.Cell, embed: Tensor, residual: Tensor | None = None) -> Tensor:
        """silu(norm(h + dense(embed))), what follows every convolution but the last [, and an added skip]."""
        return norm.silu_of_sum(h, dense(embed), residual)

    def image(self, x: Tensor) -> Tensor:
        """The input in the layout of the layers."""
        return self.enter(x)

    def scaled(self, h: Tensor, t: Tensor) -> Tensor:
        """The output: h / std(t), (B, C, H, W)."""
        return self.leave(h) / self.marginal_prob_std(t).reshape(-1, 1, 1, 1)

    def reach(self, tconv: nn.Cell, h: Tensor, skip: Tensor) -> Tensor:
        """``tconv`` of h to the size of ``skip``: for 28x28 images the article's output_padding, for others theirs."""
        return tconv(h, self.sides(skip))


@remembers(apart=("channels",))
class ScoreUnet(TimeScoreNet):
    """The unconditional network: x (B, C, H, W), t (B,) in (0, 1] -> score (B, C, H, W); H and W from 17 on.

    Args:
        marginal_prob_std: std(t) of the perturbation kernel, of a float32 Tensor (B,), usable inside graphs.
        channels: widths of the four resolutions; the first one and the others must be multiples of 32 (GroupNorm).
        embed_dim: width of the time embedding.
        in_channels: of the image.
        skips: "concat" joins the skips' channels, "add" adds them. The article trains a network UNet_res of that kind
            without showing it; here it is the article's conditional one without its transformers.
        fourier_scale: of the time's frequencies, see `GaussianFourierProjection`. The article's 30 tells times apart
            that are 0.005 from each other; short trainings do better with a few, where neighbours learn together.
        whole: put zeros around the images, to 4k + 1 pixels, so that all of the first three resolutions is seen. The
            article's network, False, never looks at the last row and column of a 28x28 image behind its first
            convolution (28 -> 26 -> 12 -> 5 -> 2), and leaves noise there.
        rng: numpy Generator or seed of the initial weights, which follow PyTorch's distributions.
        use_kernels: run by the C++ kernels for CPU (default: where they are there, see `ms_ddpm.ops.kernels`).

    Raises:
        UserError: for a value that does not exist or does not fit.

    In the last stage each of 32 channels is a group of its own: GroupNorm then takes out what ``dense7`` adds.
    """

    def __init__(
        self,
        marginal_prob_std: Callable,
        channels: Sequence[int] = (32, 64, 128, 256),
        embed_dim: int = 256,
        *,
        in_channels: int = 1,
        skips: str = "concat",
        fourier_scale: float = FOURIER_SCALE,
        whole: bool = False,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        rng = host_rng(rng)
        super().__init__(marginal_prob_std, channels, embed_dim, in_channels, fourier_scale, whole, rng)
        if skips not in SKIPS:
            raise UserError(f"skips is {skips!r}, expected one of: {', '.join(SKIPS)}")
        self.adds = skips == "add"
        self.build_down(channels, embed_dim, rng)
        self.build_up(channels, embed_dim, 1 if self.adds else 2, rng)
        self.choose_kernels(use_kernels)

    def build_down(self, channels: Sequence[int], embed_dim: int, rng: np.random.Generator) -> None:
        """The way down, four resolutions."""
        c1, c2, c3, c4 = channels
        self.conv1 = Conv2d(self.channels, c1, 3, bias=False, rng=rng)
        self.dense1 = Dense(embed_dim, c1, rng)
        self.gnorm1 = GroupNorm(4, c1)
        self.conv2 = Conv2d(c1, c2, 3, stride=2, bias=False, rng=rng)
        self.dense2 = Dense(embed_dim, c2, rng)
        self.gnorm2 = GroupNorm(32, c2)
        self.conv3 = Conv2d(c2, c3, 3, stride=2, bias=False, rng=rng)
        self.dense3 = Dense(embed_dim, c3, rng)
        self.gnorm3 = GroupNorm(32, c3)
        self.conv4 = Conv2d(c3, c4, 3, stride=2, bias=False, rng=rng)
        self.dense4 = Dense(embed_dim, c4, rng)
        self.gnorm4 = GroupNorm(32, c4)

    def build_up(self, channels: Sequence[int], embed_dim: int, wider: int, rng: np.random.Generator) -> None:
        """The way up; ``wider``: what a skip multiplies the width by."""
        c1, c2, c3, c4 = channels
        self.tconv4 = ConvTranspose2d(c4, c3, 3, stride=2, bias=False, rng=rng)
        self.dense5 = Dense(embed_dim, c3, rng)
        self.tgnorm4 = GroupNorm(32, c3)
        self.tconv3 = ConvTranspose2d(c3 * wider, c2, 3, stride=2, bias=False, output_padding=1, rng=rng)
        self.dense6 = Dense(embed_dim, c2, rng)
        self.tgnorm3 = GroupNorm(32, c2)
        self.tconv2 = ConvTranspose2d(c2 * wider, c1, 3, stride=2, bias=False, output_padding=1, rng=rng)
        self.dense7 = Dense(embed_dim, c1, rng)
        self.tgnorm2 = GroupNorm(32, c1)
        self.tconv1 = ConvTranspose2d(c1 * wider, self.channels, 3, rng=rng)

    def joined(self, h: Tensor, dense: nn.Cell, norm: nn.Cell, embed: Tensor, skip: Tensor) -> Tensor:
        """`stage` of h, and the skip with it."""
        if self.adds:
            return self.stage(h, dense, norm, embed, skip)
        h = self.stage(h, dense, norm, embed)
        return self.concat(h, skip)

    def up(self, h1: Tensor, h2: Tensor, h3: Tensor, h4: Tensor, embed: Tensor) -> Tensor:
        """From the four images of the way down to one of the input's size."""
        h = self.joined(self.reach(self.tconv4, h4, h3), self.dense5, self.tgnorm4, embed, h3)
        h = self.joined(self.reach(self.tconv3, h, h2), self.dense6, self.tgnorm3, embed, h2)
        return self.tconv1(self.joined(self.reach(self.tconv2, h, h1), self.dense7, self.tgnorm2, embed, h1))

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The network itself."""
        embed = self.embed(t)
        h1 = self.stage(self.conv1(self.image(x)), self.dense1, self.gnorm1, embed)
        h2 = self.stage(self.conv2(h1), self.dense2, self.gnorm2, embed)
        h3 = self.stage(self.conv3(h2), self.dense3, self.gnorm3, embed)
        h4 = self.stage(self.conv4(h3), self.dense4, self.gnorm4, embed)
        return self.scaled(self.up(h1, h2, h3, h4, embed), t)
