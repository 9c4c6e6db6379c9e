"""Bugs around the C++ kernels: in what surrounds them, since what is compiled cannot be edited."""

from __future__ import annotations

from portparity.mutants.editing import edit
from portparity.runner import BROKEN

from .watched import made

P = "ms_ddpm."
C, K, F = P + "ops.conv_kernels:", P + "ops.kernels:", P + "ops.by_kernels:"
L = P + "nn.layers:"
BPROP_BIAS = "return data(dout, w, x), dw, db"

# fmt: off
ROWS = (  # name, place, bug, source[, verdict]
    ("convolution's bias gets no gradient", "layers/conv7-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS, "return data(dout, w, x), dw, ops.zeros_like(db)")), "a gradient left out"),
    ("convolution's bias not added", "layers/conv7-*-kernels-*",
     edit(F + "conv", ("return conv_kernels.conv(kernel_size, stride, bias, None if divides else padding)",
          "product = conv_kernels.conv(kernel_size, stride, bias, None if divides else padding); "
          "return (lambda x, w, b: product(x, w, 0 * b)) if bias else product")),
     "mindspore: Conv2d has no bias by default"),
    ("weights' gradient with rows and columns exchanged", "layers/conv7-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS, "return data(dout, w, x), dw.swapaxes(2, 3), db")), "verdict: transposed"),
    ("square weights' gradient transposed", "layers/weight_standardized_conv-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS,
          "return data(dout, w, x), dw.swapaxes(0, 1) if dw.shape[0] == dw.shape[1] else dw, db")),
     "verdict: transposed Dense"),
    ("strided convolution off by a pixel", "layers/conv4_stride2-*-kernels-*",
     edit(L + "Conv2d.construct", ("self.affine(x)",
          "self.affine(ops.concat((x[:, :, 1:], x[:, :, :1]), 2) if self.geometry[1] == 2 else x)")),
     "padding on the other side"),
    ("2x2 squares read down the columns", "layers/downsample_unshuffle-*-kernels-*",
     edit(F + "unshuffled", ("(weight.shape[0], -1, 2, 2))", "(weight.shape[0], -1, 2, 2)).swapaxes(2, 3)")),
     "mindspore: space-to-depth's order"),
    ("upsampling's gradient a mean", "layers/upsample-*-kernels-vjp-*",
     edit(K + "upsample", ("return (backward(dout),)", "return (backward(dout) / 4,)")), "a mean for a sum"),
    ("residual added twice", "layers/resnet_block_rms-*-kernels-*",
     edit(F + "rms_norm_silu", ("else add(x, g, residual)", "else add(x, g, residual) + residual")),
     "fused and added again"),
    ("residual of the group norm dropped", "layers/resnet_block_group-*-kernels-*",
     edit(F + "group_norm_silu", ("if residual is None else", "if residual is None or True else")),
     "fused, not passed on"),
    ("residual gets no gradient", "layers/resnet_block_rms-*-kernels-vjp-*",
     edit(K + "norm", ("return dx, dgain, dout\n", "return dx, dgain, ops.zeros_like(dout)\n")), "a gradient left out"),
    ("attention's residual added twice", "layers/linear_attention_residual-*-kernels-*",
     edit(F + "_with_residual", ("else add(x, g, residual)", "else add(x, g, residual) + residual")),
     "fused and added again"),
    ("scale for scale + 1", "layers/block_rms-*-kernels-*",
     edit(F + "rms_norm_silu", ("of_time(x, g, scale_shift)",
          "of_time(x, g, ops.concat((scale_shift[:, : x.shape[3]] - 1, scale_shift[:, x.shape[3] :]), 1))")),
     "peers: x*(scale+1)+shift"),
    ("shift before scale in the group norm", "layers/block_group-*-kernels-*",
     edit(F + "group_norm_silu", ("of_time(x, gain, bias, scale_shift)",
          "of_time(x, gain, bias, ops.concat((scale_shift[:, x.shape[3] :], scale_shift[:, : x.shape[3]]), 1))")),
     "peers: x*(scale+1)+shift"),
    ("group norm's bias dropped", "layers/block_group_plain-*-kernels-*",
     edit(F + "group_norm_silu", ("plain(x, gain, bias)", "plain(x, gain, 0 * bias)")), "an argument left out"),
    ("memory keys and values dropped", "layers/linear_attention-*-kernels-*",
     edit(F + "linear_attention", ("kernel, count =", "memory, divides_values = False, True\n    kernel, count =")),
     "peers: 4 learned memory key/values"),
    ("memory's keys and values exchanged", "layers/linear_attention-*-kernels-*",
     edit(F + "linear_attention", ("mem_kv if memory", "ops.concat((mem_kv[1:], mem_kv[:1]), 0) if memory")),
     "keys before values"),
    ("full attention's kernel for linear attention's", "layers/linear_attention-*-kernels-*",
     edit(F + "linear_attention", ("kernels.attention(linear=True,", "kernels.attention(linear=False,")),
     "softmax over another axis", BROKEN),  # its memory is laid out otherwise, which the shapes say
    ("values left divided where the layout does not divide them", "network/layout_1_7_4-kernels-*",
     edit(F + "linear_attention", ("if undo_division", "if False")), "release 1.7.4's attention"),
    ("order of the heads", "layers/linear_attention-*-kernels-*",
     edit(F + "linear_attention", ("kernel(qkv,",
          "kernel(qkv.reshape(*qkv.shape[:-1], 3, dim, heads).swapaxes(4, 5).reshape(qkv.shape),")),
     "verdict: head order"),
    ("dropout numbers its elements as they lie in memory", "layers/block_dropout-*-kernels-*",
     edit(F + "numbering", ("numbers.reshape(b, c, h * w).transpose(0, 2, 1).reshape(-1)", "numbers")),
     "one mask for both layouts"),
    ("concatenation's gradients exchanged", "network/unet_2022-kernels-*",
     edit(K + "concat", ("return backward(dout, a, b)",
          "da, db = backward(dout, a, b); return (db, da) if da.shape == db.shape else (da, db)")),
     "gradients exchanged"),
)
# fmt: on
MUTANTS = tuple(
    made(f"{name} (kernels)", "kernels", "mindspore", place, apply, source, *verdict)
    for name, place, apply, source, *verdict in ROWS
)
