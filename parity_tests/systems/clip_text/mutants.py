"""Bugs of the text encoder and its tokenizer, on either side."""

from __future__ import annotations

from portparity.mutants import Mutant
from portparity.mutants.editing import edit

M, K, R = "ms_ddpm.models.clip_text:", "ms_ddpm.data.tokenizer:", "torch_ref.systems.clip_text:"
WATCH = ("maths/clip_tokens-*", "layers/clip_*-scale1-*", "network/clip_text_*-pynative")  # beside their place

# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("causal mask off", "mindspore", "layers/clip_attention-*",
     edit(M + "CLIPAttention.attended", (" + self.mask[:t, :t]", "")), "Radford et al. 2019, section 2"),
    ("causal mask off by one", "mindspore", "layers/clip_attention-*",
     edit(M + "CLIPAttention.__init__", ("np.ones((positions, positions), bool), 1)",
                                         "np.ones((positions, positions), bool), 2)")), "the diagonal's neighbour"),
    ("scores scaled by the whole width", "mindspore", "layers/clip_attention-*",
     edit(M + "CLIPAttention.__init__", ("(width // heads) ** -0.5", "width**-0.5")), "d of all heads for d of one"),
    ("keys for values", "mindspore", "layers/clip_attention-*",
     edit(M + "CLIPAttention.attended", ("self.by_heads(self.v_proj(x))", "self.by_heads(self.k_proj(x))")),
     "Vaswani et al., eq. 1"),
    ("quick_gelu for gelu", "mindspore", "layers/clip_mlp_gelu-*",
     edit(M + "CLIPMLP.__init__", ("ACTIVATIONS[act]()", "QuickGELU()")), "Stable Diffusion 2 has gelu"),
    ("gelu for quick_gelu", "mindspore", "layers/clip_mlp-*",
     edit(M + "CLIPMLP.__init__", ("ACTIVATIONS[act]()", "GELU()")), "Stable Diffusion 1 has quick_gelu"),
    ("position_ids shifted", "mindspore", "layers/clip_embeddings-*",
     edit(M + "CLIPTextEmbeddings.construct", ("self.positions[:length]", "self.positions[1 : length + 1]")),
     "positions that begin with 1"),
    ("eps 1e-4 for 1e-5", "mindspore", "layers/clip_layer-*",
     edit(M + "CLIPEncoderLayer.__init__", ("LayerNorm(width, eps), LayerNorm(width, eps)",
                                            "LayerNorm(width, 10 * eps), LayerNorm(width, 10 * eps)")),
     "an epsilon ten times too large"),
    ("post-norm", "mindspore", "layers/clip_layer-*",
     edit(M + "CLIPEncoderLayer.construct", ("x + self.self_attn(self.layer_norm1(x))",
                                             "self.layer_norm1(x + self.self_attn(x))")), "Xiong et al., figure 1"),
    ("last norm left out", "mindspore", "network/clip_text_*",
     edit(M + "CLIPTextModel.vectors", ("self.final_layer_norm(self.encoder(self.embeddings(input_ids), skipped))",
                                        "self.encoder(self.embeddings(input_ids), skipped)")), "a norm left out"),
    ("the end's vector of the last token", "mindspore", "network/clip_text_*",
     edit(M + "CLIPTextModel.construct", ("ops.cast(self.end_of(input_ids), ms.int32) +", "t - 1 +")),
     "padding for the end of a text"),
    ("pad token of Stable Diffusion 1 for that of 2", "mindspore", "maths/clip_tokens-sd2",
     edit(K + "CLIPTokenizer.encode", ("self.pad_token_id", "self.eos_token_id")), "a padding that is never read"),
    ("a text cut without its end", "mindspore", "maths/clip_tokens-*",
     edit(K + "CLIPTokenizer.encode", ("inner = inner[: length - 2]", "inner = inner[: length - 1]"),
          ("row[: len(whole)] = whole", "row[: len(whole)] = whole[:length]")), "the end token cut off too"),
    ("letters not composed", "mindspore", "maths/clip_tokens-*",
     edit(K + "_backend", ("norm.NFC(), ", "")), "an accent apart from its letter"),
    ("capital letters kept", "mindspore", "maths/clip_tokens-*",
     edit(K + "_backend", (", norm.Lowercase()", "")), "CLIP has lower case alone"),
    ("most frequent pair without its words' counts", "torch", "maths/clip_tokens-*",
     edit(R + "learn", ("+= texts[word]", "+= 1")), "Sennrich et al., algorithm 1"),
    ("latest merge first", "torch", "maths/clip_tokens-*",
     edit(R + "tokens_of", ("min(known", "max(known")), "Sennrich et al., section 3.2"),
    ("causal mask off (torch)", "torch", "layers/clip_attention-*",
     edit(R + "CausalAttention.forward", (".masked_fill(ahead, -torch.inf)", "")), "as above, in the twin"),
)
# fmt: on
MUTANTS = tuple(
    Mutant(f"{name} (text encoder)", "text encoder", framework, place, apply, source, WATCH)
    for name, framework, place, apply, source in ROWS
)
