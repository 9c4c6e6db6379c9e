"""Bugs around the C++ kernels: in what surrounds them, since what is compiled cannot be edited."""

from __future__ import annotations

from portparity.mutants.editing import edit

from .watched import made

P = "ms_ddpm."
C, K, L, N = P + "ops.conv_kernels:", P + "ops.kernels:", P + "nets.layers:", P + "nets.norms:"
B, A, U = P + "nets.blocks:", P + "nets.attention:", P + "nets.unet:"
CONV_BIAS = "return self.kernel(x, self.prepared_weight(), self.bias)"
SILU_ADD, PLAIN_ADD = "self.silu_add(x, self.g, residual)", "self.plain_add(x, self.g, residual)"
BPROP_BIAS = "return data(dout, w, x), dw, db"
ATTENDED = "return self.kernel(self.to_qkv(self.norm(x)), self.mem_kv if self.has_memory else self.head_count)"

# fmt: off
ROWS = (  # name, place, bug, source
    ("convolution's bias gets no gradient", "layers/conv7-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS, "return data(dout, w, x), dw, ops.zeros_like(db)")), "a gradient left out"),
    ("convolution's bias not added", "layers/conv7-*-kernels-*",
     edit(L + "Conv2d.construct", (CONV_BIAS, "return self.kernel(x, self.prepared_weight(), 0 * self.bias)")),
     "mindspore: Conv2d has no bias by default"),
    ("weights' gradient with rows and columns exchanged", "layers/conv7-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS, "return data(dout, w, x), dw.swapaxes(2, 3), db")), "verdict: transposed"),
    ("square weights' gradient transposed", "layers/weight_standardized_conv-*-kernels-vjp-*",
     edit(C + "conv", (BPROP_BIAS,
          "return data(dout, w, x), dw.swapaxes(0, 1) if dw.shape[0] == dw.shape[1] else dw, db")),
     "verdict: transposed Dense"),
    ("strided convolution off by a pixel", "layers/conv4_stride2-*-kernels-*",
     edit(L + "Conv2d.construct", (CONV_BIAS,
          "return self.kernel(ops.concat((x[:, :, 1:], x[:, :, :1]), 2) if self.geometry[1] == 2 else x, "
          "self.prepared_weight(), self.bias)")), "padding on the other side"),
    ("weights not standardised", "layers/weight_standardized_conv-*-kernels-*",
     edit(L + "Conv2d.construct", (CONV_BIAS, "return self.kernel(x, self.weight, self.bias)")),
     "what precedes the kernel forgotten"),
    ("2x2 squares read down the columns", "layers/downsample_unshuffle-*-kernels-*",
     edit(B + "UnshuffleDownsample.construct", (".reshape(weight.shape[0], -1, 2, 2)",
          ".reshape(weight.shape[0], -1, 2, 2).swapaxes(2, 3)")), "mindspore: space-to-depth's order"),
    ("upsampling's gradient a mean", "layers/upsample-*-kernels-vjp-*",
     edit(K + "upsample", ("return (backward(dout),)", "return (backward(dout) / 4,)")), "a mean for a sum"),
    ("residual added twice", "layers/resnet_block_rms-*-kernels-*",
     edit(N + "RMSNorm.fused_silu", (SILU_ADD, f"{SILU_ADD} + residual")),
     "fused and added again"),
    ("residual of the group norm dropped", "layers/resnet_block_group-*-kernels-*",
     edit(N + "GroupNorm.fused_silu", ("if residual is None:", "if residual is None or True:")),
     "fused, not passed on"),
    ("residual gets no gradient", "layers/resnet_block_rms-*-kernels-vjp-*",
     edit(K + "norm", ("return dx, dgain, dout\n", "return dx, dgain, ops.zeros_like(dout)\n")), "a gradient left out"),
    ("attention's residual added twice", "layers/linear_attention_residual-*-kernels-*",
     edit(N + "RMSNorm.fused", (PLAIN_ADD, f"{PLAIN_ADD} + residual")),
     "fused and added again"),
    ("scale for scale + 1", "layers/block_rms-*-kernels-*",
     edit(N + "RMSNorm.fused_silu", ("self.silu_time(x, self.g, scale_shift)",
          "self.silu_time(x, self.g, ops.concat("
          "(scale_shift[:, : x.shape[3]] - 1, scale_shift[:, x.shape[3] :]), 1))")), "peers: x*(scale+1)+shift"),
    ("shift before scale in the group norm", "layers/block_group-*-kernels-*",
     edit(B + "Block.construct", ("ops.concat((scale, shift), 1)",
          "ops.concat((shift, scale) if self.norm.cls_name == 'GroupNorm' else (scale, shift), 1)")),
     "peers: x*(scale+1)+shift"),
    ("group norm's bias dropped", "layers/block_group_plain-*-kernels-*",
     edit(N + "GroupNorm.fused_silu", ("self.silu(x, self.by_groups(), self.bias)",
          "self.silu(x, self.by_groups(), 0 * self.bias)")), "an argument left out"),
    ("memory keys and values dropped", "layers/linear_attention-*-kernels-*",
     edit(A + "_Attention.prepare_channels_last", ("kernels.attention(self.is_linear, self.has_memory)",
          "kernels.attention(self.is_linear, False); self.has_memory = False")), "peers: 4 learned memory key/values"),
    ("memory's keys and values exchanged", "layers/linear_attention-*-kernels-*",
     edit(A + "_Attention.attended", (ATTENDED,
          ATTENDED.replace("self.mem_kv if", "ops.concat((self.mem_kv[1:], self.mem_kv[:1]), 0) if"))),
     "keys before values"),
    ("full attention's kernel for linear attention's", "layers/linear_attention-*-kernels-*",
     edit(A + "_Attention.prepare_channels_last", ("kernels.attention(self.is_linear,",
          "kernels.attention(not self.is_linear,")), "softmax over another axis"),
    ("values left divided where the layout does not divide them", "network/layout_1_7_4-kernels-*",
     edit(A + "LinearAttention.construct", ("if self.undo_division:", "if False:")), "release 1.7.4's attention"),
    ("order of the heads", "layers/linear_attention-*-kernels-*",
     edit(A + "_Attention.attended", (ATTENDED,
          "shape = x.shape[:-1]; qkv = self.to_qkv(self.norm(x)).reshape(*shape, 3, self.dim_head, self.heads); "
          + ATTENDED.replace("self.to_qkv(self.norm(x))", "qkv.swapaxes(4, 5).reshape(*shape, -1)"))),
     "verdict: head order"),
    ("dropout numbers its elements as they lie in memory", "layers/block_dropout-*-kernels-*",
     edit(P + "ops.dropout:HashDropout.index", ("if not self.channels_last:", "if True:")),
     "one mask for both layouts"),
    ("skip before what it joins", "network/unet_2_3-kernels-*",
     edit(U + "Stage.joined", ("self.concat(x, skip)", "self.concat(skip, x)")), "order of a concatenation"),
    ("concatenation's gradients exchanged", "network/unet_2022-kernels-*",
     edit(K + "concat", ("return backward(dout, a, b)",
          "da, db = backward(dout, a, b); return (db, da) if da.shape == db.shape else (da, db)")),
     "gradients exchanged"),
)
# fmt: on
MUTANTS = tuple(
    made(f"{name} (kernels)", "kernels", "mindspore", place, apply, source) for name, place, apply, source in ROWS
)
