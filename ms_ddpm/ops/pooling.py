"""Max pooling and nearest upsampling by two, for either order of axes."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from . import kernels


class Larger(nn.Cell):
    """max(a, b) elementwise; where both are equal the gradient is all a's, as in PyTorch's max pooling.

    Why: the gradient of ``ops.maximum`` is shared between equals, and on CPU it takes 20 ms where a comparison, a
    product and a difference take 3 (2.10, two of 128x14x14x64). `tests/test_corruption_net.py` shows whether the first
    still holds. A NaN of a alone is lost, as in MindSpore's own pooling.
    """

    def construct(self, a: Tensor, b: Tensor) -> Tensor:
        return ops.maximum(a, b)

    def bprop(self, a: Tensor, b: Tensor, out: Tensor, dout: Tensor):
        of_b = dout * ops.cast(b > a, dout.dtype)
        return dout - of_b, of_b


class MaxPool2(nn.Cell):
    """The largest of every 2x2 square: (B, C, H, W) -> (B, C, H/2, W/2), both sides even.

    Of equal values the first, row by row, gets the gradient. With ``channels_last`` (B, H, W, C): there MindSpore has
    no pooling on CPU, and two maxima of halves take 12 ms forward and backward where NCHW's ``ops.MaxPool`` takes 45
    and ``ops.ReduceMax`` of a reshaped image 49 (2.10, 128x32x28x28).
    """

    def __init__(self):
        super().__init__()
        self.pool = ops.MaxPool(kernel_size=2, strides=2, pad_mode="valid")
        self.larger = Larger()
        self.channels_last = False

    def construct(self, x: Tensor) -> Tensor:
        if not self.channels_last:
            return self.pool(x)
        b, h, w, c = x.shape
        left, right = ops.split(x.reshape(b, h, w // 2, 2 * c), c, 3)
        # Columns before rows: of a 2x2 square's upper right and lower left, the upper one is the first.
        upper, lower = ops.split(self.larger(left, right).reshape(b, h // 2, w * c), w // 2 * c, 2)
        return self.larger(upper, lower).reshape(b, h // 2, w // 2, c)


class Upsample2(nn.Cell):
    """Every pixel doubled in both directions: (B, C, H, W) -> (B, C, 2H, 2W), or so with ``channels_last``."""

    def __init__(self):
        super().__init__()
        self.channels_last = False

    def prepare_channels_last(self) -> None:
        """Called by `nets.layers.use_channels_last`."""
        self.kernel = kernels.upsample()

    def construct(self, x: Tensor) -> Tensor:
        if self.channels_last:
            return self.kernel(x)
        b, c, h, w = x.shape
        return ops.broadcast_to(x.reshape(b, c, h, 1, w, 1), (b, c, h, 2, w, 2)).reshape(b, c, 2 * h, 2 * w)
