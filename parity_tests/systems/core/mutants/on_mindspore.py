"""Bugs in `ms_ddpm` itself, most of them found where PyNative runs, so that little has to be compiled."""

from __future__ import annotations

from portparity.mutants.editing import edit, swap, together
from portparity.runner import BROKEN

from .watched import made

P = "ms_ddpm."
D, S = P + "systems.diffusion.gaussian_diffusion:GaussianDiffusion.", P + "maths.schedules:"
F, L, U = P + "ops.by_operators:", P + "nn.layers:", P + "models.unet:"
O, E = P + "training.optim:", P + "training.ema:EMA."  # noqa: E741
STEPS = P + "training.train_step:TrainStep.__init__"
SQUARE = "if v.ndim == 2 and v.shape[0] == v.shape[1] else v"

# fmt: off
SCHEDULES = (  # name, place, bug, source
    ("cosine schedule in float32", "maths/cosine-T*-betas",
     edit(S + "cosine", ("dtype=np.float64", "dtype=np.float32")), "peers: schedules in float32"),
    ("tables from float32 betas", "maths/*-alphas_cumprod",
     edit(S + "diffusion_tables", ("np.asarray(betas, dtype=np.float64)", "np.asarray(betas, dtype=np.float32)")),
     "peers: schedules in float32"),
    ("DDIM times on numpy's float64 grid", "maths/ddim_times",
     edit(S + "ddim_times", ("f32 = np.float32", "f32 = np.float64"), ("dtype=np.float32", "dtype=np.float64")),
     "peers: numpy's float64 time grid"),
    ("DDIM times from one end only", "maths/ddim_times",
     edit(S + "ddim_times", ("i < n // 2", "i < n")), "peers: PyTorch's rule"),
)
PROCESS = (
    ("t off by one", "maths/q_sample-*",
     edit(D + "extract", ("table, t, 0", "table, ops.maximum(t - 1, 0), 0")), "verdict: off-by-one t"),
    ("x_0 from v with the sign of eps", "maths/predict_start_from_v-*",
     edit(D + "predict_start_from_v", ("* x_t - ", "* x_t + ")), "Salimans & Ho 2022, appendix D"),
)
DDIM = "step/ddim-pred_v-plain-eta0.5"  # one graph of `bench.GRAPHS`
REVERSE = (
    ("clip computed and thrown away", "step/p_sample-*-t*",
     edit(D + "interpret", ("x_start = ops.clamp", "ops.clamp")), "peers: the result of clip is dropped"),
    ("MindSpore's own exp", "step/p_mean_variance-*-learned-*-t*",
     edit(P + "ops.elementary:exp", ("ops.cast(ops.exp(ops.cast(x, _wide())), x.dtype)", "ops.exp(x)")),
     "mindspore: float32 exp is up to 138 ulp off"),
    ("noise in the last step", "step/p_sample-*-learned-*-t0",
     edit(D + "p_sample", ("t > 0", "t >= 0")), "verdict: noise at t = 0"),
    ("learned fraction not mapped to [0, 1]", "step/p_sample-*-learned-*",
     edit(D + "learned_log_variance", ("(variance + 1) * 0.5", "variance")), "Nichol & Dhariwal, eq. 15"),
    ("DDIM's sigma without eta", DDIM,
     edit(P + "maths.schedules:ddim_row", ("sigma = eta * math.sqrt(", "sigma = math.sqrt(")), "Song et al., eq. 16"),
    ("DDIM's noise added to a direction of full length", DDIM,
     edit(P + "maths.schedules:ddim_row", ("1 - abar_next - sigma**2", "1 - abar_next")), "Song et al., eq. 12"),
    ("DDIM's noise subtracted", DDIM,
     edit(D + "ddim_step", ("+ noise * of_noise", "- noise * of_noise")), "Song et al., eq. 12"),
)
NORMS = (
    ("RMSNorm without sqrt(C)", "layers/rms_norm-*",
     edit(F + "_rms", ("g * root_dim", "g")), "peers: x / ||x|| * sqrt(C) * g"),
    ("LayerNorm with eps 1e-7", "layers/channel_layer_norm-scale0.02-*",
     edit(F + "_channel_norm", ("1e-5", "1e-7")), "mindspore: LayerNorm"),
    ("GroupNorm with eps 1e-6", "layers/group_norm-scale0.02-*",
     edit(P + "nn.norms:GroupNorm.__init__", ("1e-5", "1e-6")), "mindspore: GroupNorm"),
    ("weight standardisation with the unbiased variance", "layers/weight_standardized_conv-*",
     edit(L + "WeightStandardizedConv2d.prepared_weight",
          ("(centred * centred).mean(axis=1, keep_dims=True)",
           "(centred * centred).mean(axis=1, keep_dims=True) * flat.shape[1] / (flat.shape[1] - 1)")),
     "mindspore: var/std"),
)
CONVOLUTIONS = (
    ("weights not standardised", "layers/weight_standardized_conv-*",
     edit(L + "WeightStandardizedConv2d.prepared_weight",
          ("(centred / ops.sqrt(variance)).reshape(shape)", "self.weight")),
     "what precedes the product forgotten"),
    ("convolution without its bias", "layers/conv7-*",
     edit(F + "_with_bias", ("_add_bias(product(x, weight, *size), bias)",
                             "product(x, weight, *size) + 0 * bias.sum()")),
     "mindspore: Conv2d has no bias by default"),
    ("square weights transposed", "layers/time_mlp-*",
     edit(L + "Affine.prepared_weight", ("return self.weight",
          "return self.weight.swapaxes(0, 1) if self.weight.shape[0] == self.weight.shape[1] else self.weight")),
     "verdict: transposed Dense"),
    ("space before channels in pixel-unshuffle", "layers/downsample_unshuffle-*",
     edit(F + "_unshuffled", ("(0, 1, 3, 5, 2, 4)", "(0, 3, 5, 1, 2, 4)")),
     "mindspore: space-to-depth's order"),
    ("upsampling tiles the image", "layers/upsample-*",
     edit(F + "_doubled", ("(b, c, h, 1, w, 1)", "(b, c, 1, h, 1, w)"),
          ("(b, c, h, 2, w, 2)", "(b, c, 2, h, 2, w)")), "verdict: upsample alignment"),
)
BLOCKS = (
    ("tanh GELU", "layers/time_mlp-*",
     edit(U + "TimeMLP.construct", ('approximate="none"', 'approximate="tanh"')), "mindspore: nn.GELU()"),
    ("scale for scale + 1", "layers/block_rms-*",
     edit(F + "_rms", ("(scale + 1)", "scale")), "peers: x*(scale+1)+shift"),
    ("every layer drops alike", "layers/block_dropout-*",
     edit(P + "ops.dropout:HashDropout.__init__", ("layer * _LAYER_STRIDE", "0 * _LAYER_STRIDE")),
     "a mask of its own for every layer"),
    ("shift before scale", "layers/resnet_block_rms-*",
     edit(F + "_rms", ("scale, shift = ", "shift, scale = ")), "peers: x*(scale+1)+shift"),
)
ATTENTION = (
    ("memory keys and values dropped", "layers/linear_attention-*",
     edit(F + "_with_memory", ("return ops.Concat(2)((_reshape(memory, (-1, dim, NUM_MEM_KV)), x))",
                               "return x + 0 * memory.sum()")), "peers: 4 learned memory key/values"),
    ("softmax over the other axis", "layers/linear_attention-*",
     edit(F + "softmax", ("_softmax(", "ops.Softmax(-2)(")), "peers: softmax of q over features"),
    ("order of the heads", "layers/linear_attention-*",
     edit(F + "_heads_of", ("_reshape(q, shape)",
          "q.reshape(b, dim, heads, -1).transpose(0, 2, 1, 3).reshape(shape)")), "verdict: head order"),
    ("v not divided by h*w", "layers/linear_attention_group-*",
     edit(F + "linear_attention", ("v = v / (h * w)", "pass")), "peers: v divided by h*w"),
    ("attention not scaled", "layers/attention-*",
     edit(F + "full_attention", ("q = q * scale", "q = q * 1.0")), "Vaswani et al., eq. 1"),
)
NETWORK = (
    ("skips of a stage in the order they were left", "network/unet_2_3-*",
     edit(U + "Unet.construct", ("skips[-1], skips[-2]", "skips[-2], skips[-1]")), "order of the skips"),
    ("skip before what it joins", "network/unet_2_3-*",
     edit(U + "Stage.up", ("self.concat(x, skip1)", "self.concat(skip1, x)")), "order of a concatenation"),
    ("previous estimate after the image", "network/self_condition-*",
     edit(U + "Unet.construct", ("(x_self_cond, x)", "(x, x_self_cond)")), "order of a concatenation"),
    ("final_res_block of width 2 * dim", "network/init_dim-*",
     edit(U + "Unet.__init__", ("block(init_dim * 2, init_dim)", "block(dim * 2, init_dim)")),
     "peers: breaks when init_dim != dim", BROKEN),
    ("stages in a plain Python list", "network/unet_2_3-*",
     edit(U + "Unet.__init__", ("nn.CellList(downs)", "tuple(downs)")),
     "mindspore: Cells in a list register no parameters"),
)
LOSSES = (
    ("l1 and l2 swapped", "training/loss-*-value-*",
     edit(D + "elementwise_loss", ('== "l1"', '== "l2"')), "peers: l1 loss"),
    ("P2 weight broadcast to its mean", "training/loss-*-value-*",
     edit(D + "p_losses", ("self.per_image(self.elementwise_loss(prediction, target)) * ops.gather(self.loss_weight,",
          "(self.elementwise_loss(prediction, target).reshape(t.shape[0], -1) * self.extract(self.loss_weight,"),
          ("t, 0)\n", "t)).mean()\n")),
     "peers: (b,1,1,1) against (b,n)"),
    ("self-conditioning not detached", "training/loss-pred_v-l2-fixed-selfcond-gradient-*",
     edit(D + "p_losses", ("ops.stop_gradient(self.predictions(x_t, t)[1])", "self.predictions(x_t, t)[1]")),
     "verdict: self-conditioning not detached"),
)
OPTIMIZER = (
    ("Adam with eps before bias correction", "training/adam-step1-*",
     edit(O + "Adam.apply", ("ops.sqrt(v) / ops.sqrt(self.bias_correction(1, steps)) + self.eps",
                             "(ops.sqrt(v) + self.eps) / ops.sqrt(self.bias_correction(1, steps))")),
     "mindspore: nn.Adam"),
    ("no bias correction", "training/adam-step1-*",
     edit(O + "Adam.bias_correction", ("return -expm1(steps * self.log_betas[i])", "return Tensor(1.0, ms.float32)")),
     "mindspore: nn.AdamWeightDecay"),
    ("exp(x) - 1 by subtraction", "training/adam_from_zero-step1-*",
     edit(P + "ops.expm1:expm1", ("return 2 * half / (1 - half)", "return ops.exp(x) - 1")),
     "mindspore: ops.expm1 is 1e-5 off"),
    ("1 - beta in float32", "training/adam_from_zero-step1-*",
     edit(O + "Adam.__init__", ("tuple(1 - beta for beta in betas)",
                                "tuple(float(np.float32(1) - np.float32(beta)) for beta in betas)")),
     "mindspore: a graph computes with Python's floats in float32"),
    ("weights never written", "training/adam-step1-*",
     edit(O + "Adam.apply", ("self.view.assign(self.trained, updated)", "pass")),
     "mindspore: mint.optim never updates a weight"),
    ("AdamW's decay coupled", "training/adamw-step1-*",
     swap(O + "AdamW.decoupled_decay", False), "verdict: optimizer"),
    ("gradients summed, not averaged", "training/one_step_accumulated-*",
     edit(STEPS, ("factor = scaler.scale * accumulate", "factor = scaler.scale * 1")), "verdict: accumulation"),
    ("gradients not clipped in training", "training/one_step_2022-*",
     edit(STEPS, ("flat, norm = clip_by_global_norm(flat, max_grad_norm)",
                  "_, norm = clip_by_global_norm(flat, max_grad_norm)")), "verdict: dropped clip"),
)
AVERAGE = (
    ("EMA acts at 10, 20, 30", "training/ema-call1",
     edit(E + "update", ("(self.calls - 1) % self.update_every", "self.calls % self.update_every")),
     "peers: EMA acts at 10, 20, 30"),
    ("swap loses the raw weights", "training/ema-call2",
     edit(E + "swapped", ("self._put(own)", "pass")), "peers: saves while the averaged weights are swapped in"),
    ("set_data for assign", "training/ema*-call*",
     edit(P + "ops.assign:set_value",
          ("ops.assign(parameter, tensor)", "parameter.set_data(tensor)")),
     "mindspore: a graph goes on reading the memory from before set_data"),
)
STATE = (
    ("loading does nothing", "state/roundtrip-*",
     edit(P + "storage.convert:from_torch", ("set_value(parameters[ours], state[theirs])",
                                     "np.copyto(parameters[ours].asnumpy().copy(), state[theirs])")),
     "peers: its load does nothing"),
    ("square weights transposed on conversion", "state/roundtrip-*",
     edit(P + "storage.convert:to_torch", ("values[ours].asnumpy()",
          "(values[ours].T if values[ours].ndim == 2 and len({*values[ours].shape}) == 1 else values[ours])"
          ".asnumpy()")), "verdict: transposed Dense"),
    ("square weights transposed on the way in and out", "state/converted-*",
     together(
         edit(P + "storage.convert:from_torch", ("set_value(parameters[ours], state[theirs])",
              f"v = state[theirs]; set_value(parameters[ours], v.T {SQUARE})")),
         edit(P + "storage.convert:to_torch", ("values[ours].asnumpy()",
              f"(lambda v: (v.T {SQUARE}).copy())(values[ours].asnumpy())"))),
     "verdict: transposed Dense"),
)
# fmt: on
MUTANTS = tuple(
    made(f"{name} (MindSpore)", family, "mindspore", place, apply, source, *rest)
    for family, rows in (
        ("schedules", SCHEDULES),
        ("process", PROCESS),
        ("reverse step", REVERSE),
        ("norms", NORMS),
        ("convolutions", CONVOLUTIONS),
        ("blocks", BLOCKS),
        ("attention", ATTENTION),
        ("network", NETWORK),
        ("losses", LOSSES),
        ("optimizer", OPTIMIZER),
        ("average", AVERAGE),
        ("state", STATE),
    )
    for name, place, apply, source, *rest in rows
)
