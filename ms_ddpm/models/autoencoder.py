"""The convolutional autoencoder in whose latents the latent diffusion runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn

from ..arrays import TakesArrays, takes_arrays
from ..errors import UserError
from ..maths.random import host_rng
from ..nn.activations import Sigmoid, SiLU
from ..nn.layers import Conv2d, ConvTranspose2d
from ..nn.norms import BatchNorm2d
from ..storage.fingerprint import remembers

SHRINKS = 2  # the middle convolution's stride
SMALLEST = 10  # side of the smallest image, whose latent is 1x1


def latent_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the latents of images of that size: 28 -> 10.

    Raises:
        UserError: for sides that are odd or below 10: the decoder would give another size back.
    """
    for side in image_size:
        if side < SMALLEST or side % 2:
            raise UserError(
                f"image_size is {tuple(image_size)}; the autoencoder takes even sides of at least {SMALLEST}, as 28 is"
            )
    # 3x3 convolutions without padding, the middle one of stride 2
    return tuple((side - 4) // SHRINKS - 2 for side in image_size)


@remembers()
class AutoEncoder(TakesArrays):
    """Three convolutions to a latent, three transposed ones back, batch normalisation and SiLU between them.

    Images (B, in_channels, H, W) in [0, 1] -> reconstructions, of the same shape, in (0, 1). H and W as of
    `latent_size`; the latent of a 28x28 image is (channels[2], 10, 10), so it holds 400 numbers with channels 4, 4, 4,
    and with 4, 8, 32, the default of the score article (docs/systems.md), it holds 3,200, four for each of the 784
    pixels it is to compress.

    Args:
        channels: of the three layers' outputs; the last is the latent's.
        in_channels: of the images.
        rng: source of the initial weights (PyTorch's default distributions).

    Raises:
        UserError: not three positive channel counts.
    """

    named_as_torch = True  # see `ms_ddpm.storage.convert`

    def __init__(
        self,
        channels: Sequence[int] = (4, 4, 4),
        *,
        in_channels: int = 1,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        channels = tuple(channels)
        if len(channels) != 3 or min(channels) < 1:
            raise UserError(f"autoencoder channels are {channels}, expected three numbers of at least 1, such as 4 4 4")
        rng = host_rng(rng)
        c1, c2, c3 = self.widths = channels
        self.in_channels = in_channels
        self.encoder = nn.SequentialCell(
            [
                Conv2d(in_channels, c1, 3, rng=rng),
                BatchNorm2d(c1),
                SiLU(),
                Conv2d(c1, c2, 3, stride=SHRINKS, rng=rng),
                BatchNorm2d(c2),
                SiLU(),
                Conv2d(c2, c3, 3, rng=rng),
                BatchNorm2d(c3),
            ]
        )
        self.decoder = nn.SequentialCell(
            [
                ConvTranspose2d(c3, c2, 3, rng=rng),
                BatchNorm2d(c2),
                SiLU(),
                ConvTranspose2d(c2, c1, 3, stride=SHRINKS, output_padding=1, rng=rng),
                BatchNorm2d(c1),
                SiLU(),
                ConvTranspose2d(c1, in_channels, 3, rng=rng),
                Sigmoid(),
            ]
        )

    @takes_arrays
    def encode(self, x: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) -> latents (B, channels[2], h, w), see `latent_size`."""
        return self.encoder(x)

    @takes_arrays
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, channels[2], h, w) -> images (B, in_channels, H, W) in (0, 1)."""
        return self.decoder(z)

    def construct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))
