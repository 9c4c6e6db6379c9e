from mindspore import ops
from .layers import _Affine
from mindspore import Tensor, Parameter
class ConvTranspose2d(_Affine):
    def __init__(self, dim_in, dim_out, kernel_size, stride=1, padding=0, output_padding=0, bias=True, *, rng=None):
        super().__init__((dim_in, dim_out, kernel_size, kernel_size), False, rng)
        self.has_bias = bias
        from .layers import uniform_fan_in
        if bias:
            self.bias = Parameter(uniform_fan_in(rng, (dim_out,), dim_out * kernel_size**2), name="bias")
        self.geometry = kernel_size, stride, padding, output_padding
        self.conv = ops.Conv2DTranspose(dim_in, kernel_size, pad_mode="pad", pad=padding, stride=stride)
    def construct(self, x):
        return self.by_operators(x)
    def product(self, x, weight):
        k, s, p, o = self.geometry
        b, _, h, w = x.shape
        size = (b, weight.shape[1], (h - 1) * s - 2 * p + k + o, (w - 1) * s - 2 * p + k + o)
        return self.conv(x, weight, size)
