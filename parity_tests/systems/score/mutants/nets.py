"""Bugs in the score networks of `ms_ddpm`, found where PyNative runs."""

from __future__ import annotations

from parity_tests.systems.core.mutants.watched import made
from portparity.mutants.editing import edit

P = "ms_ddpm.nn."
T, E = P + "transformer:", P + "embeddings:GaussianFourierProjection."
S, F, N = "ms_ddpm.models.score_unet:", "ms_ddpm.ops.by_operators:", P + "norms:"

# fmt: off
ROWS = (  # name, family, place, bug, source
    ("cosines before sines", "network", "layers/gaussian_fourier-*",
     edit(E + "construct", ("ops.sin(phase), ops.cos(phase)", "ops.cos(phase), ops.sin(phase)")),
     "Tancik et al., eq. 5, has cosines first"),
    ("frequencies without 2 pi", "network", "layers/gaussian_fourier-*",
     edit(E + "construct", (" * (2 * math.pi)", "")), "a factor left out"),
    ("LayerNorm with MindSpore's epsilon", "norms", "layers/layer_norm-scale0.02-*",
     edit(N + "LayerNorm.__init__", ("1e-5", "1e-7")), "mindspore: LayerNorm"),
    ("attention scaled by the whole width", "attention", "layers/*_attention_4_heads-*",
     edit(T + "CrossAttention.__init__", ("(embed_dim // num_heads) ** -0.5", "embed_dim ** -0.5")),
     "d of all heads for d of one"),
    ("heads side by side for one after the other", "attention", "layers/*_attention_4_heads-*",
     edit(F + "_joined_heads", ("(0, 2, 1, 3)", "(0, 2, 3, 1)")), "verdict: head order"),
    ("tanh approximation of GELU", "blocks", "layers/transformer_block-*",
     edit(P + "activations:GELU.construct", ('"none"', '"tanh"')), "mindspore: nn.GELU()"),
    ("post-norm", "blocks", "layers/transformer_block-*",
     edit(T + "TransformerBlock.construct", ("self.attn_self(self.norm1(x)) + x", "self.norm1(self.attn_self(x) + x)")),
     "Xiong et al., figure 1"),
    ("outer residual left out", "blocks", "layers/spatial_transformer-*",
     edit(T + "SpatialTransformer.construct",
          ("context), x) + x", "context), x)")), "a residual left out"),
    ("pixels read down the columns", "blocks", "layers/spatial_transformer-*",
     edit(F + "tokens", ("_transpose(_reshape(x, (b, c, h * w)), (0, 2, 1))", "_reshape(x, (b, h * w, c))")),
     "a reshape for a transpose"),
    ("what the time adds comes after the norm", "blocks", "layers/time_stage_*",
     edit(F + "group_norm_silu_of_sum",
          ("x = x + spread", "shift = spread"),
          ("_group(x, weight, bias, groups, eps, None)", "_group(x, weight, bias, groups, eps, None) + shift")),
     "order of norm and sum"),
    ("output not divided by the deviation", "network", "network/score_*",
     edit(S + "TimeScoreNet.scaled", (" / self.marginal_prob_std(t).reshape(-1, 1, 1, 1)", " * 1.0")),
     "Song et al., appendix C"),
    ("skip before what it joins", "network", "network/score_concat-*",
     edit(S + "ScoreUnet.joined", ("self.concat(h, skip)", "self.concat(skip, h)")),
     "order of a concatenation"),
    ("margin's greater part first", "network", "network/score_whole-*",
     edit(S + "margins", ("missing // 2, missing - missing // 2", "missing - missing // 2, missing // 2")),
     "an odd margin"),
    ("margin cut off at the end alone", "network", "network/score_whole-*",
     edit(S + "TimeScoreNet.construct",
          ("(0, 0, top, left), (batch, channels, top + height, left + width)",
           "(0, 0, 0, 0), (batch, channels, height, width)")), "a margin not taken off"),
    ("score preconditioned without coeff", "score", "step/score_vp-euler-preconditioned-pynative",
     edit(P + "preconditioning:PreconditionedScore.spread_and_total",
          ("self.per_image(self.sde.marginal_prob_coeff(t)) * self.sigma_data",
           "self.per_image(t * 0 + 1) * self.sigma_data")), "Karras et al. 2022, table 1, is for coeff = 1"),
    ("sign of the noise in the preconditioned target", "score", "training/score_loss-vp-preconditioned-value-pynative",
     edit(P + "preconditioning:PreconditionedScore.error", ("- spread * z)", "+ spread * z)")),
     "Karras et al. 2022, eq. 8"),
    ("transposed convolution's gradients exchanged (kernels)", "kernels", "layers/tconv3_stride2-*-kernels-vjp-*",
     edit("ms_ddpm.ops.conv_kernels:conv_transpose",
          ("return data(dout, w), weights(dout, x)", "return data(dout, w), weights(dout, x).swapaxes(2, 3)")),
     "verdict: transposed"),
    ("what is added before a norm gets no gradient (kernels)", "kernels", "layers/time_stage_4_groups-*-kernels-vjp-*",
     edit("ms_ddpm.ops.kernels:norm", ("return backward(x, gain, bias, scale_shift, dout)",
          "a, b, c, d = backward(x, gain, bias, scale_shift, dout); return a, b, c, d * 0")), "a gradient left out"),
)
# fmt: on
MUTANTS = tuple(
    made(f"{name} (score network)", family, "mindspore", place, apply, source)
    for name, family, place, apply, source in ROWS
)
