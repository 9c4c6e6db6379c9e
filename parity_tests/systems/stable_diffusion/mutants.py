"""Bugs in Stable Diffusion's networks of `ms_ddpm`, found where PyNative runs."""

from __future__ import annotations

from parity_tests.systems.core.mutants.watched import made
from portparity.mutants.editing import edit

B, T = "ms_ddpm.nn.blocks_2d:", "ms_ddpm.nn.transformer_2d:"
V, U, C = "ms_ddpm.models.autoencoder_kl:", "ms_ddpm.models.unet_2d:", "ms_ddpm.models.unet_2d_condition:"

# fmt: off
ROWS = (  # name, family, place, bug, source
    ("eps 1e-5 for 1e-6 of the autoencoder", "norms", "layers/sd_resnet_block_1e-6-scale0.002-*",
     edit(B + "ResnetBlock2D.__init__", ("GroupNorm(groups, dim, eps)", "GroupNorm(groups, dim, 1e-5)")),
     "Rombach et al.'s code has 1e-6"),
    ("eps 1e-5 for 1e-6 of a transformer", "norms", "layers/sd_transformer-scale0.002-*",
     edit(T + "Transformer2DModel.__init__", ("TRANSFORMER_EPS", "1e-5")), "two epsilons in one network"),
    ("zeros on all sides for one", "blocks", "layers/sd_downsample_end-*",
     edit(B + "Downsample2D.__init__",
          ("stride=2, padding=padding", "stride=2, padding=1"), ("padding == 0", "padding == 3")),
     "the autoencoder pads below and to the right alone"),
    ("cosines and sines swapped", "network", "layers/sd_timesteps-*",
     edit(B + "Timesteps.__init__", ("= flip_sin_to_cos", "= not flip_sin_to_cos")),
     "Ho et al. have the sines first"),
    ("frequencies without the shift", "network", "layers/sd_timesteps_ddpm-*",
     edit(B + "Timesteps.__init__", ("(half - freq_shift)", "half")), "freq_shift"),
    ("width of a head for their number", "attention", "network/sd_unet-*",
     edit(C + "UNet2DConditionModel.__init__", ("dim, heads[level],", "dim, dim // heads[level],")),
     "attention_head_dim is the number of heads"),
    ("number of heads for the width of one", "attention", "network/sd_unconditional-*",
     edit(U + "number_of_heads", ("return dim // width", "return width if width != dim // width else 1")),
     "attention_head_dim is the width of a head"),
    ("attention scaled by the whole width", "attention", "layers/sd_attention_*",
     edit(T + "TokenAttention.__init__", ("head_width(dim, heads) ** -0.5", "dim ** -0.5")),
     "d of all heads for d of one"),
    ("GEGLU's halves swapped", "blocks", "layers/sd_geglu-*",
     edit(T + "GEGLU.construct", ("value, gate =", "gate, value =")), "the value comes first"),
    ("GELU by its tanh approximation", "blocks", "layers/sd_geglu-*",
     edit("ms_ddpm.nn.activations:GELU.construct", ('"none"', '"tanh"')), "mindspore: nn.GELU()"),
    ("projection of the image's rows for its pixels", "blocks", "layers/sd_transformer_linear-*",
     edit(T + "Transformer2DModel.construct",
          ("self.proj_in(self.tokens(h)) if self.linear",
           "self.tokens(self.proj_in(self.tokens(h)).reshape(h.shape)) if self.linear")),
     "a dense layer in the place of a convolution"),
    ("the residual around a transformer left out", "blocks", "layers/sd_transformer_linear-*",
     edit(T + "Transformer2DModel.construct", ("self.of_tokens(self.proj_out(tokens), x) + x",
                                               "self.of_tokens(self.proj_out(tokens), x)")), "a residual left out"),
    ("self-attention of what is not normalised", "blocks", "layers/sd_transformer-*",
     edit(T + "BasicTransformerBlock.construct", ("self.attn1(self.norm1(x))", "self.attn1(x)")),
     "a norm left out"),
    ("logarithm of the variance not clamped", "network", "network/sd_moments-*",
     edit(V + "mean_and_logvar", ("ops.clamp(logvar, *LOG_VARIANCES)", "logvar")), "Rombach et al.'s code clamps it"),
    ("variance for the deviation", "network", "network/sd_autoencoder-*",
     edit(V + "AutoencoderKL.construct", ("ops.exp(0.5 * logvar)", "ops.exp(logvar)")), "Kingma & Welling, section 3"),
    ("the time after the second norm", "blocks", "layers/sd_resnet_block-*",
     edit(B + "ResnetBlock2D.construct", ("self.norm2.silu_of_sum(h, self.time_emb_proj(time_act))",
          "self.norm2.silu(h) + self.time_emb_proj(time_act).reshape(h.shape[0], -1, 1, 1)")), "order of norm and sum"),
    ("skip before what it joins", "network", "network/sd_unet-*",
     edit("ms_ddpm.nn.stages_2d:UpStage.construct",
          ("self.concat(x, skips[self.count - 1 - i])", "self.concat(skips[self.count - 1 - i], x)")),
     "order of a concatenation"),
    ("eps 1e-5 for 1e-6 (kernels)", "kernels", "layers/sd_resnet_block_1e-6-scale0.002-kernels-*",
     edit("ms_ddpm.ops.by_kernels:_group_norm", ("return _OF_EPS[eps]", "return _OF_EPS[1e-5]")),
     "a kernel's constant"),
    ("queries for keys (kernels)", "kernels", "layers/sd_attention_self-*-kernels-*",
     edit("ms_ddpm.ops.by_kernels:attend", ("_side_by_side((q, k, v))", "_side_by_side((k, q, v))")),
     "order of a concatenation"),
    ("an odd size doubled to an even one", "blocks", "layers/sd_upsample_odd-*",
     edit("ms_ddpm.ops.by_operators:cropped", ("x[:, :, : size[0], : size[1]]", "x[:, :, -size[0] :, -size[1] :]")),
     "which row is dropped"),
)
# fmt: on
MUTANTS = tuple(
    made(f"{name} (Stable Diffusion)", family, "mindspore", place, apply, source)
    for name, family, place, apply, source in ROWS
)
