"""What joins an autoencoder's squared error: LPIPS, or what stands in for it where its weights are not at hand."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from ...arrays import TakesArrays
from ...config import Config, image_sides
from ...errors import UserError
from ...models.lpips import LPIPS, load_lpips, smallest_side
from ...storage.fingerprint import remembers


@remembers()
class GradientLoss(TakesArrays):
    """Multi-scale gradient loss: two image arrays (B, C, H, W) -> scalar. It needs no weights.

    With r = x - y at full size, halved, quartered ... (averages of 2x2 squares; four sizes, or as many as have two
    pixels a side): the mean over the sizes of mean rho(dr/dx) + mean rho(dr/dy). Li & Snavely 2018,
    https://arxiv.org/abs/1804.00607, eq. 4, for depth maps; there rho(d) = |d|, here sqrt(d^2 + eps^2) - eps
    (Charbonnier), whose gradient does not jump where two images agree. It punishes edges that are blurred or out of
    place, as LPIPS does, and knows nothing of what people see: a stand-in, not an approximation, of LPIPS.
    """

    whole_numbers = frozenset()  # both are images

    def __init__(self, scales: int = 4, eps: float = 1e-3):
        super().__init__()
        self.scales = scales
        self.eps = eps
        self.halve = ops.AvgPool(2, 2, "valid")

    def rho(self, d: Tensor) -> Tensor:
        """Mean of sqrt(d^2 + eps^2) - eps."""
        return (ops.sqrt(d * d + self.eps**2) - self.eps).mean()

    def slope(self, r: Tensor, axis: int) -> Tensor:
        """Differences of neighbours along ``axis``."""
        n = r.shape[axis]
        return ops.split(r, (1, n - 1), axis)[1] - ops.split(r, (n - 1, 1), axis)[0]

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        r = x - y
        total = self.rho(self.slope(r, 3)) + self.rho(self.slope(r, 2))
        count = 1
        for _ in range(1, self.scales):
            if min(r.shape[2:]) >= 4:
                r = self.halve(r)
                total = total + self.rho(self.slope(r, 3)) + self.rho(self.slope(r, 2))
                count = count + 1
        return total / count


class PerceptualLoss(TakesArrays):
    """Mean LPIPS distance of two batches in [0, 1], (B, 1 or 3, H, W): scalar."""

    whole_numbers = frozenset()  # both are images

    def __init__(self, lpips: LPIPS):
        super().__init__()
        self.lpips = lpips

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return self.lpips(x, y).mean()


def build_perceptual(config: Config) -> nn.Cell | None:
    """The loss that ``config.perceptual`` names, called as ``loss(x, y)`` with images in [0, 1]; None for "none".

    Raises:
        UserError: "lpips" without weights, or for images that its network cannot look at.
    """
    if config.perceptual == "none" or config.perceptual_weight == 0:
        return None
    if config.perceptual == "gradient":
        return GradientLoss()
    if config.lpips_weights is None:
        raise UserError(
            "perceptual is lpips, but lpips_weights is not given: LPIPS needs its published weights (scripts/convert.py"
            " lpips makes the file; nothing is downloaded); without them take --perceptual gradient, a multi-scale "
            "gradient loss"
        )
    if config.channels not in (1, 3):
        raise UserError(f"perceptual is lpips, which compares images of 1 or 3 channels; channels is {config.channels}")
    lpips = load_lpips(config.lpips_weights)
    sides, smallest = image_sides(config), smallest_side(lpips.net)
    if min(sides) < smallest:
        raise UserError(
            f"image_size is {tuple(sides)}, too small for LPIPS by {lpips.net!r}, which needs {smallest}; take the "
            "weights of another network, or --perceptual gradient"
        )
    return PerceptualLoss(lpips)
