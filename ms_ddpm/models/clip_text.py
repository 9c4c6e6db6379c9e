"""CLIP's text encoder, which turns prompts into what Stable Diffusion attends to.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020, section 2.4: GPT-2's transformer (pre-norm, causal) over the tokens of a text.
Names of parameters and keys are those of transformers' CLIPTextModel. Sequences are (B, length, width).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..arrays import takes_arrays, tensor_of
from ..errors import UserError, require_positive
from ..maths.random import host_rng, normal
from ..nn.activations import GELU, QuickGELU
from ..nn.layers import Embedding, Linear
from ..nn.norms import LayerNorm
from .pretrained import PretrainedModel

ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": GELU}
FORBIDDEN = np.finfo(np.float32).min  # what a score is to become 0 in a softmax; an infinite one can become NaN


def _drawn(layer: Linear | Embedding, std: float, rng: np.random.Generator) -> Linear | Embedding:
    """``layer`` with weights from N(0, std^2) and without bias, as GPT-2's start."""
    layer.weight.set_data(Tensor(normal(rng, tuple(layer.weight.shape)) * np.float32(std)))
    if layer.has_bias:
        layer.bias.set_data(Tensor(np.zeros(layer.bias.shape, np.float32)))
    return layer


class CLIPTextEmbeddings(nn.Cell):
    """A learned vector for each token plus one for each position: ids (B, T) int32 -> (B, T, width)."""

    def __init__(self, words: int, width: int, positions: int, factor: float, rng: np.random.Generator):
        super().__init__()
        self.token_embedding = _drawn(Embedding(words, width, rng=rng), 0.02 * factor, rng)
        self.position_embedding = _drawn(Embedding(positions, width, rng=rng), 0.02 * factor, rng)
        self.positions = Tensor(np.arange(positions, dtype=np.int32))

    def construct(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        return self.token_embedding(ids) + self.position_embedding(self.positions[:length])


class CLIPAttention(nn.Cell):
    """Causal self-attention of several heads: x (B, T, width) -> same.

    softmax(q k^T / sqrt(d) + m) v with m = 0 where a token looks at itself and what stands before it, -infinity where
    it would look ahead. Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int, positions: int, std_in: float, std_out: float, rng: np.random.Generator):
        super().__init__()
        self.k_proj = _drawn(Linear(width, width, rng=rng), std_in, rng)
        self.v_proj = _drawn(Linear(width, width, rng=rng), std_in, rng)
        self.q_proj = _drawn(Linear(width, width, rng=rng), std_in, rng)
        self.out_proj = _drawn(Linear(width, width, rng=rng), std_out, rng)
        self.heads, self.scale = heads, (width // heads) ** -0.5
        ahead = np.triu(np.ones((positions, positions), bool), 1)
        self.mask = Tensor(np.where(ahead, FORBIDDEN, 0).astype(np.float32))
        self.product = ops.BatchMatMul()
        self.product_bt = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)
        self.transpose = ops.Transpose()

    def by_heads(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, heads, T, d)."""
        b, t, width = x.shape
        return self.transpose(x.reshape(b, t, self.heads, width // self.heads), (0, 2, 1, 3))

    def attended(self, x: Tensor) -> Tensor:
        """The heads' results side by side."""
        b, t, width = x.shape
        if t == 1:  # a softmax over one key, which goes wrong in PyNative: ops.by_operators.cross_attention
            return self.v_proj(x)
        q = self.by_heads(self.q_proj(x)) * self.scale
        k, v = self.by_heads(self.k_proj(x)), self.by_heads(self.v_proj(x))
        scores = ops.cast(self.product_bt(q, k), ms.float32) + self.mask[:t, :t]
        weights = ops.cast(self.softmax(scores), x.dtype)
        return self.transpose(self.product(weights, v), (0, 2, 1, 3)).reshape(b, t, width)

    def construct(self, x: Tensor) -> Tensor:
        return self.out_proj(self.attended(x))


class CLIPMLP(nn.Cell):
    """Two layers with an activation between: x (..., width) -> same."""

    def __init__(self, width: int, inner: int, act: str, std_in: float, std_out: float, rng: np.random.Generator):
        super().__init__()
        self.fc1 = _drawn(Linear(width, inner, rng=rng), std_in, rng)
        self.fc2 = _drawn(Linear(inner, width, rng=rng), std_out, rng)
        self.act = ACTIVATIONS[act]()

    def construct(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class CLIPEncoderLayer(nn.Cell):
    """x + attention(norm(x)), and to that its MLP(norm(x)): x (B, T, width) -> same.

    The projections start narrower the more layers add to x: Radford et al., "Language Models are Unsupervised Multitask
    Learners" (2019), section 2.3.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        heads: int,
        positions: int,
        act: str,
        eps: float,
        depth: int,
        factor: float,
        rng: np.random.Generator,
    ):
        super().__init__()
        narrow, wide = factor * width**-0.5 * (2 * depth) ** -0.5, factor * width**-0.5
        self.self_attn = CLIPAttention(width, heads, positions, narrow, wide, rng)
        self.layer_norm1, self.layer_norm2 = LayerNorm(width, eps), LayerNorm(width, eps)
        self.mlp = CLIPMLP(width, inner, act, factor * (2 * width) ** -0.5, narrow, rng)

    def construct(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEncoder(nn.Cell):
    """The layers one after the other, without the last ``skipped``: x (B, T, width) -> same."""

    def __init__(self, layers: list[nn.Cell]):
        super().__init__()
        self.layers = nn.CellList(layers)
        self.count = len(layers)

    def construct(self, x: Tensor, skipped: int = 0) -> Tensor:
        for i in range(self.count - skipped):
            x = self.layers[i](x)
        return x


class CLIPTextModel(PretrainedModel):
    """transformers' CLIPTextModel: ids (B, T) int32, T up to ``max_position_embeddings`` -> (every token's vector
    (B, T, hidden_size), that of the text's end (B, hidden_size)).

    Called as ``text_encoder(input_ids)``; Stable Diffusion attends to the first, ``text_encoder(input_ids)[0]``.
    An ``attention_mask`` has no effect, as in Stable Diffusion, which never gives one: padding is looked at like
    words. The end of a text is its first ``eos_token_id``; where that is 2, as published configurations say wrongly,
    it is the largest id, which the end's token has in CLIP's vocabulary.

    Args:
        vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, max_position_embeddings,
            hidden_act, layer_norm_eps, initializer_factor, eos_token_id: the keys of transformers, with its defaults.
            ``initializer_factor`` multiplies the standard deviations of the first weights.
        rng: of the first weights.

    Raises:
        UserError: for a value that does not fit; called with an array, for ids outside the vocabulary or a text that is
            too long.
    """

    WEIGHTS = "model"
    FIXED: ClassVar[dict[str, Any]] = {"attention_dropout": 0.0}
    IGNORED = frozenset({"bos_token_id", "dropout", "initializer_range", "pad_token_id", "projection_dim"})
    TITLE: ClassVar[dict[str, Any]] = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    whole_numbers = frozenset({"input_ids"})
    any_numbers = frozenset({"attention_mask"})

    def __init__(
        self,
        vocab_size: int = 49408,
        hidden_size: int = 512,
        intermediate_size: int = 2048,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 8,
        max_position_embeddings: int = 77,
        hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        initializer_factor: float = 1.0,
        eos_token_id: int = 49407,
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(locals())
        rng = host_rng(rng)
        require_positive(
            vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=intermediate_size,
            num_attention_heads=num_attention_heads, max_position_embeddings=max_position_embeddings,
        )  # fmt: skip
        if layer_norm_eps <= 0:
            raise UserError(f"layer_norm_eps is {layer_norm_eps}, expected a number above 0")
        if hidden_size % num_attention_heads:
            raise UserError(
                f"num_attention_heads is {num_attention_heads}, expected a divisor of hidden_size ({hidden_size})"
            )
        self.embeddings = CLIPTextEmbeddings(vocab_size, hidden_size, max_position_embeddings, initializer_factor, rng)
        layers = [
            CLIPEncoderLayer(
                hidden_size, intermediate_size, num_attention_heads, max_position_embeddings, hidden_act,
                layer_norm_eps, num_hidden_layers, initializer_factor, rng,
            )
            for _ in range(num_hidden_layers)
        ]  # fmt: skip
        self.encoder = CLIPEncoder(layers)
        self.final_layer_norm = LayerNorm(hidden_size, layer_norm_eps)
        self.eos_token_id = eos_token_id

    @staticmethod
    def renamed(name: str) -> str | None:
        """Up to transformers 4 names began with ``text_model.``, and the numbers of the positions were stored."""
        name = name.removeprefix("text_model.")
        return None if name == "embeddings.position_ids" else name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check_ids(args[0] if args else kwargs["input_ids"])
        return super().__call__(*args, **kwargs)

    def check_ids(self, ids: np.ndarray | Tensor) -> None:
        """Raises UserError unless ``ids`` are (B, T), short enough and, where they are an array, of the vocabulary."""
        shape, longest = tuple(ids.shape), self.config.max_position_embeddings
        if len(shape) != 2 or not 1 <= shape[1] <= longest:
            raise UserError(f"input_ids has shape {shape}, expected (B, T) with T from 1 to {longest}")
        if isinstance(ids, np.ndarray):
            whole = tensor_of(ids, "input_ids", True).asnumpy()
            outside = whole[(whole < 0) | (whole >= self.config.vocab_size)]
            if outside.size:
                raise UserError(
                    f"input_ids holds {outside[0]}, expected 0 to {self.config.vocab_size - 1}; "
                    "is the tokenizer another model's?"
                )

    def end_of(self, ids: Tensor) -> Tensor:
        """Where each text ends: ids (B, T) -> (B,) int32."""
        if self.eos_token_id == 2:
            return ops.argmax(ops.cast(ids, ms.float32), 1)
        return ops.argmax(ops.cast(ops.equal(ids, self.eos_token_id), ms.float32), 1)

    @takes_arrays
    def vectors(self, input_ids: Tensor, skipped: int = 0) -> Tensor:
        """Every token's vector (B, T, hidden_size) without the last ``skipped`` layers, 0 to num_hidden_layers.

        The last norm is taken all the same: what Stable Diffusion attends to under diffusers' ``clip_skip``.
        """
        return self.final_layer_norm(self.encoder(self.embeddings(input_ids), skipped))

    def construct(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.vectors(input_ids)
        b, t, width = x.shape
        rows = ops.cast(self.end_of(input_ids), ms.int32) + t * ops.arange(b).astype(ms.int32)
        return x, ops.gather(x.reshape(b * t, width), rows, 0)
