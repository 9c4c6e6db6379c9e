# ruff: noqa: E501 - a line for each operator
"""The table of operators: a line for each, what MindSpore is asked, what PyTorch is asked, and of which arguments.

PyTorch's expression in double gives the truth. An expression is what a reader could type: the reproducers show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One operator."""

    name: str  # how users find it
    mindspore: str  # expression in x, y, z and ``layer``
    torch: str  # expression in x, y, z, with torch and F
    arguments: dict[str, str]  # see `values`
    layer: str = ""  # expression that makes ``layer``
    first: bool = False  # several results, of which the first alone has a gradient
    gradient: bool = True
    tags: tuple[str, ...] = field(default=())  # "exact": what it does moves numbers; not one of them may change

    @property
    def module(self) -> str:
        """Where it lives: ops, nn, mint."""
        return self.name.split(".")[0]


def _lines(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.split("|")] for line in text.strip().splitlines() if line.strip()]


def _entries(text: str, **more) -> list[Entry]:
    """Entries from lines "name | MindSpore | PyTorch | x: argument, y: argument [| layer]"."""
    found = []
    for name, ours, theirs, arguments, *layer in _lines(text):
        pairs = dict(pair.split(":") for pair in arguments.split(","))
        given = {key.strip(): value.strip() for key, value in pairs.items()}
        if not ours:
            ours = f"{name}({', '.join(given)})" if not layer else f"layer({', '.join(given)})"
        if "//" in ours:  # whole numbers
            found.append(Entry(name, ours, theirs, given, gradient=False))
            continue
        found.append(Entry(name, ours, theirs, given, *layer, **more))
    return found


# of one number each: (names, PyTorch, domain)
_UNARY = """
ops.abs mint.abs | torch.abs(x) | real
ops.neg mint.neg | torch.neg(x) | real
ops.exp mint.exp | torch.exp(x) | real
ops.exp2 mint.exp2 | torch.exp2(x) | real
ops.expm1 mint.expm1 | torch.expm1(x) | real
ops.log mint.log | torch.log(x) | positive
ops.log2 mint.log2 | torch.log2(x) | positive
ops.log10 mint.log10 | torch.log10(x) | positive
ops.log1p mint.log1p | torch.log1p(x) | positive
ops.sqrt mint.sqrt | torch.sqrt(x) | positive
ops.rsqrt mint.rsqrt | torch.rsqrt(x) | positive
ops.square mint.square | torch.square(x) | real
ops.reciprocal mint.reciprocal | torch.reciprocal(x) | real
ops.sin mint.sin | torch.sin(x) | real
ops.cos mint.cos | torch.cos(x) | real
ops.tan mint.tan | torch.tan(x) | real
ops.asin mint.asin | torch.asin(x) | unit
ops.acos mint.acos | torch.acos(x) | unit
ops.atan mint.atan | torch.atan(x) | real
ops.sinh mint.sinh | torch.sinh(x) | real
ops.cosh mint.cosh | torch.cosh(x) | real
ops.tanh mint.tanh | torch.tanh(x) | real
ops.asinh mint.asinh | torch.asinh(x) | real
ops.acosh mint.acosh | torch.acosh(x) | above1
ops.atanh mint.atanh | torch.atanh(x) | unit
ops.erf mint.erf | torch.erf(x) | real
ops.erfc mint.erfc | torch.erfc(x) | real
ops.erfinv mint.erfinv | torch.erfinv(x) | unit
ops.lgamma | torch.lgamma(x) | positive
ops.digamma | torch.digamma(x) | positive
ops.sinc mint.sinc | torch.sinc(x) | real
ops.sigmoid mint.sigmoid mint.nn.functional.sigmoid | torch.sigmoid(x) | real
ops.logsigmoid mint.nn.functional.logsigmoid | F.logsigmoid(x) | real
ops.relu mint.nn.functional.relu | F.relu(x) | real
ops.relu6 mint.nn.functional.relu6 | F.relu6(x) | real
ops.elu mint.nn.functional.elu | F.elu(x) | real
ops.selu mint.nn.functional.selu | F.selu(x) | real
ops.celu | F.celu(x) | real
ops.leaky_relu mint.nn.functional.leaky_relu | F.leaky_relu(x, SLOPE) | real
ops.silu mint.nn.functional.silu | F.silu(x) | real
ops.gelu mint.nn.functional.gelu | F.gelu(x) | real
ops.mish mint.nn.functional.mish | F.mish(x) | real
ops.softplus mint.nn.functional.softplus | F.softplus(x) | real
ops.softsign | F.softsign(x) | real
ops.hardswish mint.nn.functional.hardswish | F.hardswish(x) | real
ops.hardsigmoid mint.nn.functional.hardsigmoid | F.hardsigmoid(x) | real
ops.hardtanh mint.nn.functional.hardtanh | F.hardtanh(x) | real
ops.hardshrink mint.nn.functional.hardshrink | F.hardshrink(x) | real
ops.softshrink mint.nn.functional.softshrink | F.softshrink(x) | real
ops.tanhshrink | F.tanhshrink(x) | real
ops.floor mint.floor | torch.floor(x) | real
ops.ceil mint.ceil | torch.ceil(x) | real
ops.round mint.round | torch.round(x) | real
ops.trunc mint.trunc | torch.trunc(x) | real
ops.frac mint.frac | torch.frac(x) | real
ops.sign mint.sign | torch.sign(x) | real
ops.isnan mint.isnan | torch.isnan(x) | real
ops.isinf mint.isinf | torch.isinf(x) | real
ops.isfinite mint.isfinite | torch.isfinite(x) | real
ops.nan_to_num mint.nan_to_num | torch.nan_to_num(x, 0.0) | real
"""

_PAIRS = """
ops.add mint.add | torch.add(x, y)
ops.sub mint.sub | torch.sub(x, y)
ops.mul mint.mul | torch.mul(x, y)
ops.div mint.div | torch.div(x, y)
ops.pow mint.pow | torch.pow(x, y)
ops.maximum mint.maximum | torch.maximum(x, y)
ops.minimum mint.minimum | torch.minimum(x, y)
ops.fmod mint.fmod | torch.fmod(x, y)
ops.remainder mint.remainder | torch.remainder(x, y)
ops.floor_divide mint.floor_divide | torch.floor_divide(x, y)
ops.atan2 mint.atan2 | torch.atan2(x, y)
ops.hypot | torch.hypot(x, y)
ops.logaddexp mint.logaddexp | torch.logaddexp(x, y)
ops.xlogy mint.xlogy | torch.xlogy(x, y)
ops.equal mint.eq | torch.eq(x, y)
ops.not_equal mint.ne | torch.ne(x, y)
ops.less mint.lt | torch.lt(x, y)
ops.less_equal mint.le | torch.le(x, y)
ops.greater mint.gt | torch.gt(x, y)
ops.greater_equal mint.ge | torch.ge(x, y)
"""

_OTHER_ELEMENTWISE = """
ops.gelu(approximate='tanh') | ops.gelu(x, approximate='tanh') | F.gelu(x, approximate='tanh') | x: real
mint.nn.functional.gelu(approximate='tanh') | mint.nn.functional.gelu(x, approximate='tanh') | F.gelu(x, approximate='tanh') | x: real
ops.fast_gelu | ops.fast_gelu(x) | x * torch.sigmoid(1.702 * x) | x: real
nn.GELU(approximate=False) | | F.gelu(x) | x: real | nn.GELU(approximate=False)
nn.GELU | | F.gelu(x, approximate='tanh') | x: real | nn.GELU()
nn.SiLU | | F.silu(x) | x: real | nn.SiLU()
nn.ReLU | | F.relu(x) | x: real | nn.ReLU()
nn.LeakyReLU | | F.leaky_relu(x, 0.2) | x: real | nn.LeakyReLU()
nn.ELU | | F.elu(x) | x: real | nn.ELU()
nn.Mish | | F.mish(x) | x: real | nn.Mish()
nn.Sigmoid | | torch.sigmoid(x) | x: real | nn.Sigmoid()
nn.Tanh | | torch.tanh(x) | x: real | nn.Tanh()
nn.HSwish | | F.hardswish(x) | x: real | nn.HSwish()
nn.HSigmoid | | F.hardsigmoid(x) | x: real | nn.HSigmoid()
ops.clamp | ops.clamp(x, -1, 1) | torch.clamp(x, -1, 1) | x: real
mint.clamp | mint.clamp(x, -1, 1) | torch.clamp(x, -1, 1) | x: real
ops.clip_by_value | ops.clip_by_value(x, -1, 1) | torch.clamp(x, -1, 1) | x: real
ops.pow(x, 2) | ops.pow(x, 2) | torch.pow(x, 2) | x: real
ops.pow(x, 3) | ops.pow(x, 3) | torch.pow(x, 3) | x: real
ops.pow(x, 0.5) | ops.pow(x, 0.5) | torch.pow(x, 0.5) | x: positive
x / 3 | x / 3 | x / 3 | x: real
x % 3 | x % 3 | x % 3 | x: real
x // 3 | x // 3 | x // 3 | x: real
ops.lerp | ops.lerp(x, y, z) | torch.lerp(x, y, z) | x: real, y: real, z: unit
mint.lerp | mint.lerp(x, y, z) | torch.lerp(x, y, z) | x: real, y: real, z: unit
ops.addcmul | ops.addcmul(x, y, z, 0.5) | torch.addcmul(x, y, z, value=0.5) | x: real, y: real, z: real
ops.addcdiv | ops.addcdiv(x, y, z, 0.5) | torch.addcdiv(x, y, z, value=0.5) | x: real, y: real, z: positive
ops.where | ops.where(x > 0, x, y) | torch.where(x > 0, x, y) | x: real, y: real
mint.where | mint.where(x > 0, x, y) | torch.where(x > 0, x, y) | x: real, y: real
"""

# of arrays: sums, products, norms
_SUMS = """
ops.sum | ops.sum(x, dim=-1) | torch.sum(x, -1) | x: normal 8 4096
mint.sum | mint.sum(x, dim=-1) | torch.sum(x, -1) | x: normal 8 4096
ops.sum (of positive numbers) | ops.sum(x, dim=-1) | torch.sum(x, -1) | x: positive 4 65536
ops.ReduceSum (over columns) | ops.sum(x, dim=0) | torch.sum(x, 0) | x: positive 65536 4
ops.mean | ops.mean(x, axis=-1) | torch.mean(x, -1) | x: positive 8 4096
mint.mean | mint.mean(x, dim=-1) | torch.mean(x, -1) | x: positive 8 4096
ops.prod | ops.prod(x, axis=-1) | torch.prod(x, -1) | x: positive 8 16
mint.prod | mint.prod(x, dim=-1) | torch.prod(x, -1) | x: positive 8 16
ops.var | ops.var(x, axis=-1, ddof=1) | torch.var(x, -1) | x: normal 8 256
mint.var | mint.var(x, dim=-1) | torch.var(x, -1) | x: normal 8 256
ops.std | ops.std(x, axis=-1, ddof=1) | torch.std(x, -1) | x: normal 8 256
mint.std | mint.std(x, dim=-1) | torch.std(x, -1) | x: normal 8 256
ops.var_mean (variance) | ops.var_mean(x, axis=-1, ddof=1)[0] | torch.var_mean(x, -1)[0] | x: normal 8 256
ops.norm | ops.norm(x, dim=-1) | torch.linalg.norm(x, dim=-1) | x: normal 8 256
mint.norm | mint.norm(x, p=2, dim=-1) | torch.norm(x, p=2, dim=-1) | x: normal 8 256
ops.vector_norm | ops.vector_norm(x, axis=-1) | torch.linalg.vector_norm(x, dim=-1) | x: normal 8 256
mint.nn.functional.normalize | mint.nn.functional.normalize(x, dim=-1) | F.normalize(x, dim=-1) | x: normal 8 256
ops.L2Normalize | ops.L2Normalize(axis=-1, epsilon=1e-12)(x) | F.normalize(x, dim=-1) | x: normal 8 256
ops.cosine_similarity | ops.cosine_similarity(x, y, dim=1) | F.cosine_similarity(x, y, dim=1) | x: normal 8 64, y: normal 8 64
ops.logsumexp | ops.logsumexp(x, -1) | torch.logsumexp(x, -1) | x: normal 8 64
mint.logsumexp | mint.logsumexp(x, -1) | torch.logsumexp(x, -1) | x: normal 8 64
ops.softmax | ops.softmax(x, axis=-1) | torch.softmax(x, -1) | x: normal 8 64
mint.softmax | mint.softmax(x, -1) | torch.softmax(x, -1) | x: normal 8 64
mint.nn.functional.softmax | mint.nn.functional.softmax(x, dim=-1) | torch.softmax(x, -1) | x: normal 8 64
nn.Softmax | | torch.softmax(x, -1) | x: normal 8 64 | nn.Softmax()
ops.softmin | ops.softmin(x, axis=-1) | F.softmin(x, -1) | x: normal 8 64
ops.log_softmax | ops.log_softmax(x, axis=-1) | torch.log_softmax(x, -1) | x: normal 8 64
mint.nn.functional.log_softmax | mint.nn.functional.log_softmax(x, dim=-1) | torch.log_softmax(x, -1) | x: normal 8 64
ops.cumsum | ops.cumsum(x, -1) | torch.cumsum(x, -1) | x: normal 8 1024
mint.cumsum | mint.cumsum(x, -1) | torch.cumsum(x, -1) | x: normal 8 1024
ops.cumprod | ops.cumprod(x, -1) | torch.cumprod(x, -1) | x: unit 8 16
mint.cumprod | mint.cumprod(x, -1) | torch.cumprod(x, -1) | x: unit 8 16
ops.matmul | ops.matmul(x, y) | torch.matmul(x, y) | x: normal 32 64, y: normal 64 48
mint.matmul | mint.matmul(x, y) | torch.matmul(x, y) | x: normal 32 64, y: normal 64 48
ops.matmul (long) | ops.matmul(x, y) | torch.matmul(x, y) | x: positive 4 16384, y: positive 16384 4
ops.bmm | ops.bmm(x, y) | torch.bmm(x, y) | x: normal 4 16 32, y: normal 4 32 8
mint.bmm | mint.bmm(x, y) | torch.bmm(x, y) | x: normal 4 16 32, y: normal 4 32 8
ops.BatchMatMul(transpose_b) | layer(x, y) | x @ y.transpose(-1, -2) | x: normal 4 16 32, y: normal 4 8 32 | ops.BatchMatMul(transpose_b=True)
ops.mm | ops.mm(x, y) | torch.mm(x, y) | x: normal 16 32, y: normal 32 8
ops.mv | ops.mv(x, y) | torch.mv(x, y) | x: normal 16 32, y: normal 32
ops.dot (of vectors) | ops.tensor_dot(x, y, 1) | torch.dot(x, y) | x: normal 256, y: normal 256
mint.dot | mint.dot(x, y) | torch.dot(x, y) | x: normal 256, y: normal 256
ops.outer | ops.outer(x, y) | torch.outer(x, y) | x: normal 16, y: normal 8
mint.outer | mint.outer(x, y) | torch.outer(x, y) | x: normal 16, y: normal 8
ops.addmm | ops.addmm(x, y, z) | torch.addmm(x, y, z) | x: normal 16 8, y: normal 16 32, z: normal 32 8
mint.addmm | mint.addmm(x, y, z) | torch.addmm(x, y, z) | x: normal 16 8, y: normal 16 32, z: normal 32 8
ops.baddbmm | ops.baddbmm(x, y, z) | torch.baddbmm(x, y, z) | x: normal 4 16 8, y: normal 4 16 32, z: normal 4 32 8
mint.baddbmm | mint.baddbmm(x, y, z) | torch.baddbmm(x, y, z) | x: normal 4 16 8, y: normal 4 16 32, z: normal 4 32 8
ops.einsum | ops.einsum('bij,bjk->bik', x, y) | torch.einsum('bij,bjk->bik', x, y) | x: normal 4 16 32, y: normal 4 32 8
mint.einsum | mint.einsum('bij,bjk->bik', x, y) | torch.einsum('bij,bjk->bik', x, y) | x: normal 4 16 32, y: normal 4 32 8
ops.dense | ops.dense(x, y, z) | F.linear(x, y, z) | x: normal 16 32, y: normal 8 32, z: normal 8
mint.nn.functional.linear | mint.nn.functional.linear(x, y, z) | F.linear(x, y, z) | x: normal 16 32, y: normal 8 32, z: normal 8
ops.bias_add | ops.bias_add(x, y) | x + y[None, :, None, None] | x: normal 2 8 16 16, y: normal 8
ops.conv2d | ops.conv2d(x, y, z, pad_mode='pad', padding=1) | F.conv2d(x, y, z, padding=1) | x: normal 2 8 12 12, y: normal 16 8 3 3, z: normal 16
ops.conv2d (stride 2) | ops.conv2d(x, y, stride=2, pad_mode='pad', padding=1) | F.conv2d(x, y, stride=2, padding=1) | x: normal 2 8 12 12, y: normal 16 8 3 3
ops.conv2d (groups) | ops.conv2d(x, y, pad_mode='pad', padding=1, groups=8) | F.conv2d(x, y, padding=1, groups=8) | x: normal 2 8 12 12, y: normal 8 1 3 3
mint.nn.functional.conv2d | mint.nn.functional.conv2d(x, y, z, padding=1) | F.conv2d(x, y, z, padding=1) | x: normal 2 8 12 12, y: normal 16 8 3 3, z: normal 16
ops.conv1d | ops.conv1d(x, y, pad_mode='pad', padding=1) | F.conv1d(x, y, padding=1) | x: normal 2 8 32, y: normal 16 8 3
ops.conv3d | ops.conv3d(x, y, pad_mode='pad', padding=1) | F.conv3d(x, y, padding=1) | x: normal 1 4 6 6 6, y: normal 8 4 3 3 3
mint.nn.functional.conv_transpose2d | mint.nn.functional.conv_transpose2d(x, y, stride=2, padding=1) | F.conv_transpose2d(x, y, stride=2, padding=1) | x: normal 2 8 6 6, y: normal 8 4 4 4
ops.Conv2DTranspose | layer(x, y, (2, 4, 12, 12)) | F.conv_transpose2d(x, y, stride=2, padding=1) | x: normal 2 8 6 6, y: normal 8 4 4 4 | ops.Conv2DTranspose(4, 4, pad_mode='pad', pad=1, stride=2)
ops.layer_norm | ops.layer_norm(x, (64,), y, z, 1e-5) | F.layer_norm(x, (64,), y, z) | x: normal 16 64, y: normal 64, z: normal 64
mint.nn.functional.layer_norm | mint.nn.functional.layer_norm(x, (64,), y, z) | F.layer_norm(x, (64,), y, z) | x: normal 16 64, y: normal 64, z: normal 64
nn.LayerNorm(epsilon=1e-5) | | F.layer_norm(x, (64,)) | x: normal 16 64 | nn.LayerNorm((64,), epsilon=1e-5)
ops.LayerNorm (over three axes) | layer(x, y, z)[0] | F.layer_norm(x, (8, 4, 4), y, z) | x: normal 4 8 4 4, y: normal 8 4 4, z: normal 8 4 4 | ops.LayerNorm(1, 1, 1e-5)
ops.rms_norm | ops.rms_norm(x, y, 1e-6)[0] | F.rms_norm(x, (64,), y, 1e-6) | x: normal 16 64, y: normal 64
ops.group_norm | ops.group_norm(x, 4, y, z) | F.group_norm(x, 4, y, z) | x: normal 2 16 8 8, y: normal 16, z: normal 16
mint.nn.functional.group_norm | mint.nn.functional.group_norm(x, 4, y, z) | F.group_norm(x, 4, y, z) | x: normal 2 16 8 8, y: normal 16, z: normal 16
nn.GroupNorm | | F.group_norm(x, 4) | x: normal 2 16 8 8 | nn.GroupNorm(4, 16)
ops.batch_norm (training) | ops.BatchNorm(is_training=True)(x, y, z, ops.zeros_like(y), ops.ones_like(y))[0] | F.batch_norm(x, None, None, y, z, True) | x: normal 4 8 6 6, y: normal 8, z: normal 8
ops.batch_norm (inference) | ops.batch_norm(x, ops.zeros_like(y), ops.ones_like(y), y, z, eps=1e-5) | F.batch_norm(x, torch.zeros_like(y), torch.ones_like(y), y, z) | x: normal 4 8 6 6, y: normal 8, z: normal 8
ops.avg_pool2d | ops.avg_pool2d(x, 2, 2) | F.avg_pool2d(x, 2, 2) | x: normal 2 4 8 8
mint.nn.functional.avg_pool2d | mint.nn.functional.avg_pool2d(x, 2, 2) | F.avg_pool2d(x, 2, 2) | x: normal 2 4 8 8
ops.adaptive_avg_pool2d | ops.adaptive_avg_pool2d(x, 1) | F.adaptive_avg_pool2d(x, 1) | x: normal 2 4 8 8
mint.nn.functional.adaptive_avg_pool2d | mint.nn.functional.adaptive_avg_pool2d(x, 1) | F.adaptive_avg_pool2d(x, 1) | x: normal 2 4 8 8
ops.interpolate (bilinear) | ops.interpolate(x, size=(12, 12), mode='bilinear') | F.interpolate(x, size=(12, 12), mode='bilinear') | x: normal 2 4 8 8
ops.interpolate (bilinear, corners) | ops.interpolate(x, size=(12, 12), mode='bilinear', align_corners=True) | F.interpolate(x, size=(12, 12), mode='bilinear', align_corners=True) | x: normal 2 4 8 8
ops.interpolate (bicubic) | ops.interpolate(x, size=(12, 12), mode='bicubic') | F.interpolate(x, size=(12, 12), mode='bicubic') | x: normal 2 4 8 8
ops.interpolate (area) | ops.interpolate(x, size=(4, 4), mode='area') | F.interpolate(x, size=(4, 4), mode='area') | x: normal 2 4 8 8
mint.nn.functional.interpolate (bilinear) | mint.nn.functional.interpolate(x, size=(12, 12), mode='bilinear') | F.interpolate(x, size=(12, 12), mode='bilinear') | x: normal 2 4 8 8
ops.mse_loss | ops.mse_loss(x, y) | F.mse_loss(x, y) | x: normal 16 64, y: normal 16 64
mint.nn.functional.mse_loss | mint.nn.functional.mse_loss(x, y) | F.mse_loss(x, y) | x: normal 16 64, y: normal 16 64
ops.l1_loss | ops.l1_loss(x, y) | F.l1_loss(x, y) | x: normal 16 64, y: normal 16 64
mint.nn.functional.l1_loss | mint.nn.functional.l1_loss(x, y) | F.l1_loss(x, y) | x: normal 16 64, y: normal 16 64
ops.smooth_l1_loss | ops.smooth_l1_loss(x, y, reduction='mean') | F.smooth_l1_loss(x, y) | x: normal 16 64, y: normal 16 64
ops.huber_loss | ops.huber_loss(x, y) | F.huber_loss(x, y) | x: normal 16 64, y: normal 16 64
ops.cross_entropy | ops.cross_entropy(x, y) | F.cross_entropy(x, y.long()) | x: normal 16 10, y: ints 10 16
mint.nn.functional.cross_entropy | mint.nn.functional.cross_entropy(x, y) | F.cross_entropy(x, y.long()) | x: normal 16 10, y: ints 10 16
ops.nll_loss | ops.nll_loss(x, y) | F.nll_loss(x, y.long()) | x: normal 16 10, y: ints 10 16
ops.kl_div | ops.kl_div(x, y, reduction='sum') | F.kl_div(x, y, reduction='sum') | x: normal 16 10, y: unit 16 10
ops.binary_cross_entropy_with_logits | ops.binary_cross_entropy_with_logits(x, y, ops.ones_like(x), ops.ones_like(x)) | F.binary_cross_entropy_with_logits(x, y) | x: normal 16 10, y: unit 16 10
ops.binary_cross_entropy | ops.binary_cross_entropy(x, y) | F.binary_cross_entropy(x, y) | x: unit 16 10, y: unit 16 10
ops.grid_sample | ops.grid_sample(x, y, align_corners=False) | F.grid_sample(x, y, align_corners=False) | x: normal 2 3 6 6, y: unit 2 5 5 2
ops.scatter_add | ops.tensor_scatter_elements(x, y, z, 0, 'add') | torch.scatter_add(x, 0, y.long(), z) | x: normal 8 4, y: ints 8 16 4, z: normal 16 4
mint.scatter_add | mint.scatter_add(x, 0, y, z) | torch.scatter_add(x, 0, y.long(), z) | x: normal 8 4, y: ints 8 16 4, z: normal 16 4
ops.index_add | ops.index_add(x, y, z, 0) | torch.index_add(x, 0, y, z) | x: normal 8 4, y: ints 8 16, z: normal 16 4
ops.unsorted_segment_sum | ops.unsorted_segment_sum(x, y, 8) | torch.zeros(8, 4, dtype=x.dtype).index_add(0, y, x) | x: normal 64 4, y: ints 8 64
ops.trace | ops.trace(x) | torch.trace(x) | x: normal 16 16
ops.cdist | ops.cdist(x, y) | torch.cdist(x, y) | x: normal 8 16, y: normal 6 16
ops.glu | ops.glu(x) | F.glu(x) | x: normal 8 32
mint.nn.functional.glu | mint.nn.functional.glu(x) | F.glu(x) | x: normal 8 32
ops.prelu | ops.prelu(x, y) | F.prelu(x, y) | x: normal 4 8 5, y: unit 8
ops.broadcast add (gradient of a bias) | x + y | x + y | x: normal 4096 8, y: normal 8
ops.attention (by hand) | ops.matmul(ops.softmax(ops.matmul(x, y.swapaxes(-1, -2)) / 4, axis=-1), z) | F.scaled_dot_product_attention(x, y, z) | x: normal 2 4 8 16, y: normal 2 4 12 16, z: normal 2 4 12 16
ops.cat of mint.split | ops.cat(mint.split(x, 16, 1), 1) | torch.cat(torch.split(x, 16, 1), 1) | x: normal 4 64
mint.cat of mint.split | mint.cat(mint.split(x, 16, 1), 1) | torch.cat(torch.split(x, 16, 1), 1) | x: normal 4 64
mint.cat of ops.split | mint.cat(ops.split(x, 16, 1), 1) | torch.cat(torch.split(x, 16, 1), 1) | x: normal 4 64
mint.cat of mint.chunk | mint.cat(mint.chunk(x, 4, 1), 1) | torch.cat(torch.chunk(x, 4, 1), 1) | x: normal 4 64
"""

# what only moves numbers: not one may change
_MOVES = """
ops.reshape | ops.reshape(x, (6, 4)) | torch.reshape(x, (6, 4)) | x: normal 4 6
ops.transpose | ops.transpose(x, (2, 0, 1)) | torch.permute(x, (2, 0, 1)) | x: normal 3 4 5
mint.permute | mint.permute(x, (2, 0, 1)) | torch.permute(x, (2, 0, 1)) | x: normal 3 4 5
ops.swapaxes | ops.swapaxes(x, 0, 2) | torch.swapaxes(x, 0, 2) | x: normal 3 4 5
ops.cat | ops.cat((x, y), 1) | torch.cat((x, y), 1) | x: normal 3 4, y: normal 3 5
mint.cat | mint.cat((x, y), 1) | torch.cat((x, y), 1) | x: normal 3 4, y: normal 3 5
ops.stack | ops.stack((x, y), 1) | torch.stack((x, y), 1) | x: normal 3 4, y: normal 3 4
mint.stack | mint.stack((x, y), 1) | torch.stack((x, y), 1) | x: normal 3 4, y: normal 3 4
ops.split | ops.split(x, 2, 1)[1] | torch.split(x, 2, 1)[1] | x: normal 3 6
mint.split | mint.split(x, 2, 1)[1] | torch.split(x, 2, 1)[1] | x: normal 3 6
ops.chunk | ops.chunk(x, 3, 1)[1] | torch.chunk(x, 3, 1)[1] | x: normal 3 7
mint.chunk | mint.chunk(x, 3, 1)[1] | torch.chunk(x, 3, 1)[1] | x: normal 3 7
ops.unbind | ops.unbind(x, 1)[2] | torch.unbind(x, 1)[2] | x: normal 3 6
ops.squeeze | ops.squeeze(x, 1) | torch.squeeze(x, 1) | x: normal 3 1 4
ops.unsqueeze | ops.unsqueeze(x, 1) | torch.unsqueeze(x, 1) | x: normal 3 4
mint.unsqueeze | mint.unsqueeze(x, 1) | torch.unsqueeze(x, 1) | x: normal 3 4
ops.flatten | ops.flatten(x, start_dim=1) | torch.flatten(x, 1) | x: normal 3 4 5
mint.flatten | mint.flatten(x, 1) | torch.flatten(x, 1) | x: normal 3 4 5
ops.flip | ops.flip(x, (1,)) | torch.flip(x, (1,)) | x: normal 3 4
mint.flip | mint.flip(x, (1,)) | torch.flip(x, (1,)) | x: normal 3 4
ops.roll | ops.roll(x, 2, 1) | torch.roll(x, 2, 1) | x: normal 3 5
ops.tril | ops.tril(x) | torch.tril(x) | x: normal 5 5
mint.tril | mint.tril(x) | torch.tril(x) | x: normal 5 5
ops.triu | ops.triu(x, 1) | torch.triu(x, 1) | x: normal 5 5
mint.triu | mint.triu(x, 1) | torch.triu(x, 1) | x: normal 5 5
ops.diag | ops.diag(x) | torch.diag(x) | x: normal 5
ops.diagonal | ops.diagonal(x) | torch.diagonal(x) | x: normal 5 5
ops.broadcast_to | ops.broadcast_to(x, (4, 3, 5)) | torch.broadcast_to(x, (4, 3, 5)) | x: normal 3 1
mint.broadcast_to | mint.broadcast_to(x, (4, 3, 5)) | torch.broadcast_to(x, (4, 3, 5)) | x: normal 3 1
ops.tile | ops.tile(x, (2, 3)) | torch.tile(x, (2, 3)) | x: normal 3 4
mint.tile | mint.tile(x, (2, 3)) | torch.tile(x, (2, 3)) | x: normal 3 4
ops.repeat_interleave | ops.repeat_interleave(x, 2, 1) | torch.repeat_interleave(x, 2, 1) | x: normal 3 4
mint.repeat_interleave | mint.repeat_interleave(x, 2, 1) | torch.repeat_interleave(x, 2, 1) | x: normal 3 4
x[:, 1:3] | x[:, 1:3] | x[:, 1:3] | x: normal 3 5
x[:, ::2] | x[:, ::2] | x[:, ::2] | x: normal 3 5
x[..., None] | x[..., None] | x[..., None] | x: normal 3 5
ops.masked_fill | ops.masked_fill(x, y, 3.0) | torch.masked_fill(x, y, 3.0) | x: normal 4 5, y: bool 4 5
ops.gather_elements | ops.gather_elements(x, 1, y) | torch.gather(x, 1, y.long()) | x: normal 4 6, y: ints 6 4 3
mint.gather | mint.gather(x, 1, y) | torch.gather(x, 1, y.long()) | x: normal 4 6, y: ints 6 4 3
ops.gather | ops.gather(x, y, 0) | torch.index_select(x, 0, y) | x: normal 6 4, y: ints 6 5
ops.index_select | ops.index_select(x, 0, y) | torch.index_select(x, 0, y) | x: normal 6 4, y: ints 6 5
mint.index_select | mint.index_select(x, 0, y) | torch.index_select(x, 0, y) | x: normal 6 4, y: ints 6 5
ops.embedding | ops.embedding(y, x) | F.embedding(y, x) | x: normal 10 4, y: ints 10 3 5
mint.nn.functional.embedding | mint.nn.functional.embedding(y, x) | F.embedding(y, x) | x: normal 10 4, y: ints 10 3 5
ops.pad | ops.pad(x, (1, 2), value=0.5) | F.pad(x, (1, 2), value=0.5) | x: normal 3 4
mint.nn.functional.pad | mint.nn.functional.pad(x, (1, 2), value=0.5) | F.pad(x, (1, 2), value=0.5) | x: normal 3 4
ops.pad (reflect) | ops.pad(x, (1, 2), mode='reflect') | F.pad(x, (1, 2), mode='reflect') | x: normal 2 3 6
ops.pad (replicate) | ops.pad(x, (1, 2), mode='replicate') | F.pad(x, (1, 2), mode='replicate') | x: normal 2 3 6
ops.pixel_shuffle | ops.pixel_shuffle(x, 2) | F.pixel_shuffle(x, 2) | x: normal 2 8 3 3
ops.pixel_unshuffle | ops.pixel_unshuffle(x, 2) | F.pixel_unshuffle(x, 2) | x: normal 2 2 6 6
mint.nn.functional.pixel_shuffle | mint.nn.functional.pixel_shuffle(x, 2) | F.pixel_shuffle(x, 2) | x: normal 2 8 3 3
ops.unfold | ops.unfold(x, 3, padding=1) | F.unfold(x, 3, padding=1) | x: normal 2 3 6 6
mint.nn.functional.unfold | mint.nn.functional.unfold(x, 3, padding=1) | F.unfold(x, 3, padding=1) | x: normal 2 3 6 6
ops.interpolate (nearest) | ops.interpolate(x, size=(16, 16), mode='nearest') | F.interpolate(x, size=(16, 16), mode='nearest') | x: normal 2 3 8 8
mint.nn.functional.interpolate (nearest) | mint.nn.functional.interpolate(x, scale_factor=2.0, mode='nearest') | F.interpolate(x, scale_factor=2.0, mode='nearest') | x: normal 2 3 8 8
ops.meshgrid | ops.meshgrid(x, y, indexing='ij')[0] | torch.meshgrid(x, y, indexing='ij')[0] | x: normal 4, y: normal 5
ops.select | ops.select(y, x, z) | torch.where(y, x, z) | x: normal 4 5, y: bool 4 5, z: normal 4 5
ops.max_pool2d | ops.max_pool2d(x, 2, 2) | F.max_pool2d(x, 2, 2) | x: normal 2 4 8 8
mint.nn.functional.max_pool2d | mint.nn.functional.max_pool2d(x, 2, 2) | F.max_pool2d(x, 2, 2) | x: normal 2 4 8 8
nn.MaxPool2d | | F.max_pool2d(x, 2, 2) | x: normal 2 4 8 8 | nn.MaxPool2d(2, 2)
ops.amax | ops.amax(x, -1) | torch.amax(x, -1) | x: normal 4 8
mint.amax | mint.amax(x, -1) | torch.amax(x, -1) | x: normal 4 8
ops.amin | ops.amin(x, -1) | torch.amin(x, -1) | x: normal 4 8
ops.max | ops.max(x, -1)[0] | torch.max(x, -1)[0] | x: normal 4 8
mint.max | mint.max(x, -1)[0] | torch.max(x, -1)[0] | x: normal 4 8
ops.min | ops.min(x, -1)[0] | torch.min(x, -1)[0] | x: normal 4 8
mint.max (of everything) | mint.max(x) | torch.max(x) | x: normal 4 8
ops.median | ops.median(x, -1)[0] | torch.median(x, -1)[0] | x: normal 4 7
mint.median | mint.median(x, -1)[0] | torch.median(x, -1)[0] | x: normal 4 7
ops.cummax | ops.cummax(x, -1)[0] | torch.cummax(x, -1)[0] | x: normal 4 8
ops.sort (values) | ops.sort(x, -1)[0] | torch.sort(x, -1)[0] | x: normal 4 8
mint.sort (values) | mint.sort(x, -1)[0] | torch.sort(x, -1)[0] | x: normal 4 8
ops.topk (values) | ops.topk(x, 3)[0] | torch.topk(x, 3)[0] | x: normal 4 8
mint.topk (values) | mint.topk(x, 3)[0] | torch.topk(x, 3)[0] | x: normal 4 8
"""

_INDICES = """
ops.argmax | ops.argmax(x, -1) | torch.argmax(x, -1) | x: normal 4 8
mint.argmax | mint.argmax(x, -1) | torch.argmax(x, -1) | x: normal 4 8
ops.argmin | ops.argmin(x, -1) | torch.argmin(x, -1) | x: normal 4 8
ops.argsort | ops.argsort(x, -1) | torch.argsort(x, dim=-1, stable=True) | x: normal 4 8
mint.argsort | mint.argsort(x, -1, stable=True) | torch.argsort(x, dim=-1, stable=True) | x: normal 4 8
ops.sort (indices) | ops.sort(x, -1)[1] | torch.sort(x, dim=-1, stable=True)[1] | x: normal 4 8
mint.sort (indices) | mint.sort(x, dim=-1, stable=True)[1] | torch.sort(x, dim=-1, stable=True)[1] | x: normal 4 8
ops.max (indices) | ops.max(x, -1)[1] | torch.max(x, -1)[1] | x: normal 4 8
mint.max (indices) | mint.max(x, -1)[1] | torch.max(x, -1)[1] | x: normal 4 8
ops.count_nonzero | ops.count_nonzero(x, -1) | torch.count_nonzero(x, -1) | x: normal 4 8
ops.any | ops.any(x > 0, -1) | torch.any(x > 0, -1) | x: normal 4 8
ops.all | ops.all(x > 0, -1) | torch.all(x > 0, -1) | x: normal 4 8
ops.searchsorted | ops.searchsorted(ops.sort(x)[0], y) | torch.searchsorted(torch.sort(x)[0], y) | x: normal 16, y: normal 5
ops.one_hot | ops.one_hot(x, 6, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32)) | F.one_hot(x.long(), 6).float() | x: ints 6 5
mint.nn.functional.one_hot | mint.nn.functional.one_hot(x, 6) | F.one_hot(x.long(), 6) | x: ints 6 5
mint.bincount | mint.bincount(x) | torch.bincount(x) | x: ints 6 50
ops.cast (to int32) | ops.cast(x, ms.int32) | x.int() | x: normal 4 8
"""

_WHOLE = {"floor", "ceil", "round", "trunc", "sign", "floor_divide", "isnan", "isinf", "isfinite"}
_COMPARE = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "eq", "ne", "lt", "le", "gt", "ge"}
_LEAKY = {"ops": "0.2", "mint": "0.01"}  # defaults, told apart among the differences


def _numbers() -> list[Entry]:
    """Entries of the operators that work on each number alone."""
    found = []
    for names, theirs, domain in _lines(_UNARY):
        for name in names.split():
            text = theirs.replace("SLOPE", _LEAKY[name.split(".")[0]])
            last = name.split(".")[-1]
            found.append(Entry(name, f"{name}(x)", text, {"x": domain}, gradient=last not in _WHOLE))
    for names, theirs in _lines(_PAIRS):
        for name in names.split():
            last = name.split(".")[-1]
            gradient = last not in _WHOLE | _COMPARE
            found.append(Entry(name, f"{name}(x, y)", theirs, {"x": "positive" if last == "pow" else "real", "y": "real"},
                               gradient=gradient))  # fmt: skip
    return found


def table() -> list[Entry]:
    """All operators."""
    return [
        *_numbers(),
        *_entries(_OTHER_ELEMENTWISE),
        *_entries(_SUMS),
        *_entries(_MOVES, tags=("exact",)),
        *_entries(_INDICES, gradient=False, tags=("exact",)),
    ]
