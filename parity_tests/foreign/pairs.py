"""Originals and ports that are right by their authors' intent, of as many kinds as there are: written down first.

Every function here imports what it needs when it is called: listing them needs none of the packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Made = Callable[[], Any]
MINDSPORE, MINT, MINDONE = "MindSpore nn", "MindSpore mint", "mindone"
COMPILE, ONNX = "torch.compile", "ONNX Runtime"


@dataclass(frozen=True)
class Pair:
    """An original, a port of it and what both are given.

    Args:
        name: what it is called in the table.
        project: whose port it is.
        original, port: functions that make them.
        inputs: arrays by argument name, or in order.
        options: arguments of `check`.
    """

    name: str
    project: str
    original: Made
    port: Made
    inputs: Mapping[str, Any] | tuple
    options: Mapping[str, Any] = field(default_factory=dict)


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def x(*shape: int) -> np.ndarray:
    """Normal numbers, always the same ones for one shape."""
    return _rng(f"x{shape}").standard_normal(shape).astype(np.float32)


def ids(*shape: int, below: int = 50) -> np.ndarray:
    """Token numbers."""
    return _rng(f"ids{shape}").integers(1, below, shape)


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


# --- MindSpore's own cells against torch.nn ------------------------------------------------------------------------


def _torch(name: str, *args: Any, **kwargs: Any) -> Made:
    return lambda: _of("torch.nn", name)(*args, **kwargs)


def _cell(name: str, *args: Any, **kwargs: Any) -> Made:
    return lambda: _of("mindspore.nn", name)(*args, **kwargs)


def _mint(name: str, *args: Any, **kwargs: Any) -> Made:
    return lambda: _of("mindspore.mint.nn", name)(*args, **kwargs)


def _torch_cnn() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5)
    )


def _ms_cnn() -> Any:
    from mindspore import nn

    return nn.SequentialCell(
        nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=True), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Flatten(), nn.Dense(128, 5),
    )  # fmt: skip


def _ms(name: str, original: Made, port: Made, inputs: Any, **options: Any) -> Pair:
    return Pair(f"nn.{name}", MINDSPORE, original, port, inputs, options)


PADDED = {"pad_mode": "pad", "has_bias": True}
NN = (
    _ms("Dense", _torch("Linear", 12, 7), _cell("Dense", 12, 7), (x(5, 12),)),
    _ms("Conv1d, dilated", _torch("Conv1d", 4, 6, 3, padding=2, dilation=2),
        _cell("Conv1d", 4, 6, 3, padding=2, dilation=2, **PADDED), (x(2, 4, 11),)),
    _ms("Conv2d, strided, in groups", _torch("Conv2d", 4, 8, 3, stride=2, padding=1, groups=2),
        _cell("Conv2d", 4, 8, 3, stride=2, padding=1, group=2, **PADDED), (x(2, 4, 9, 9),)),
    _ms("Conv3d", _torch("Conv3d", 2, 3, 3, padding=1), _cell("Conv3d", 2, 3, 3, padding=1, **PADDED),
        (x(1, 2, 5, 5, 5),)),
    _ms("Conv2dTranspose", _torch("ConvTranspose2d", 4, 6, 4, stride=2, padding=1),
        _cell("Conv2dTranspose", 4, 6, 4, stride=2, padding=1, **PADDED), (x(2, 4, 5, 5),)),
    _ms("LayerNorm", _torch("LayerNorm", 10), _cell("LayerNorm", (10,), epsilon=1e-5), (x(3, 4, 10),)),
    _ms("GroupNorm", _torch("GroupNorm", 3, 12), _cell("GroupNorm", 3, 12), (x(2, 12, 5, 5),)),
    _ms("a small CNN", _torch_cnn, _ms_cnn, (x(4, 3, 8, 8),)),
    _ms("LSTM, two ways, two layers", _torch("LSTM", 6, 8, 2, batch_first=True, bidirectional=True),
        _cell("LSTM", 6, 8, 2, batch_first=True, bidirectional=True), (x(3, 5, 6),)),
    _ms("GRU", _torch("GRU", 6, 8, batch_first=True), _cell("GRU", 6, 8, batch_first=True), (x(3, 5, 6),)),
    _ms("RNN", _torch("RNN", 6, 8), _cell("RNN", 6, 8), (x(5, 3, 6),)),
    _ms("LSTMCell", _torch("LSTMCell", 6, 8), _cell("LSTMCell", 6, 8), (x(3, 6), (x(3, 8), x(8, 3).T.copy()))),
    _ms("MultiheadAttention", _torch("MultiheadAttention", 12, 3, batch_first=True),
        _cell("MultiheadAttention", 12, 3, batch_first=True), (x(2, 5, 12), x(2, 7, 12), x(2, 7, 12))),
    _ms("TransformerEncoderLayer", _torch("TransformerEncoderLayer", 12, 3, 20, batch_first=True),
        _cell("TransformerEncoderLayer", 12, 3, 20, batch_first=True), (x(2, 5, 12),)),
    _ms("TransformerDecoderLayer", _torch("TransformerDecoderLayer", 12, 3, 20, batch_first=True),
        _cell("TransformerDecoderLayer", 12, 3, 20, batch_first=True), (x(2, 5, 12), x(2, 7, 12))),
    _ms("Embedding", _torch("Embedding", 11, 6), _cell("Embedding", 11, 6), (ids(3, 4, below=11),)),
    _ms("PReLU", _torch("PReLU", 3), _cell("PReLU", 3), (x(2, 3, 5, 5),)),
    _ms("AvgPool2d", _torch("AvgPool2d", 3, 2), _cell("AvgPool2d", 3, 2), (x(2, 3, 9, 9),)),
    _ms("PixelShuffle", _torch("PixelShuffle", 2), _cell("PixelShuffle", 2), (x(2, 8, 3, 3),)),
    _ms("HuberLoss", _torch("HuberLoss", delta=0.5), _cell("HuberLoss", delta=0.5), (x(6, 5), x(5, 6).T.copy())),
    _ms("ReflectionPad2d", _torch("ReflectionPad2d", 2), _cell("ReflectionPad2d", 2), (x(2, 3, 5, 5),)),
    _ms("Bilinear", _torch("Bilinear", 4, 5, 3), _cell("BiDense", 4, 5, 3), (x(6, 4), x(6, 5))),
    Pair("mint.nn.Linear", MINT, _torch("Linear", 12, 7), _mint("Linear", 12, 7), (x(5, 12),)),
    Pair("mint.nn.GroupNorm", MINT, _torch("GroupNorm", 2, 8), _mint("GroupNorm", 2, 8), (x(2, 8, 4, 4),)),
    Pair("mint.nn.SiLU", MINT, _torch("SiLU"), _mint("SiLU"), (x(5, 12),)),
    Pair("mint.nn.BCEWithLogitsLoss", MINT, _torch("BCEWithLogitsLoss"), _mint("BCEWithLogitsLoss"),
         (x(5, 12), np.abs(np.sin(x(5, 12))))),
)  # fmt: skip


# --- mindone's ports of diffusers ------------------------------------------------------------------------------------


def _diffusers(name: str, inputs: Any, where: str = "", mark: str = "", **config: Any) -> Pair:
    """``where``: of a block, the module that has it."""
    place = f"diffusers{where}"
    return Pair(
        f"{name}{mark}", f"{MINDONE} (diffusers)", lambda: _of(place, name)(**config),
        lambda: _of(f"mindone.{place}", name)(**config), inputs,
    )  # fmt: skip


VAE = {
    "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
TUPLE = {"return_dict": False}
DIFFUSERS = (
    _diffusers("ResnetBlock2D", (x(2, 8, 6, 6), x(2, 16)), ".models.resnet", in_channels=8, out_channels=12,
               temb_channels=16, groups=4),
    _diffusers("Downsample2D", (x(2, 8, 6, 6),), ".models.resnet", channels=8, use_conv=True),
    _diffusers("Upsample2D", (x(2, 8, 4, 4),), ".models.resnet", channels=8, use_conv=True),
    _diffusers("FeedForward", (x(2, 5, 16),), ".models.attention", dim=16, activation_fn="geglu"),
    _diffusers("FeedForward", (x(2, 5, 16),), ".models.attention", " (gelu-approximate)", dim=16,
               activation_fn="gelu-approximate"),
    _diffusers("TimestepEmbedding", (x(2, 16),), ".models.embeddings", in_channels=16, time_embed_dim=32),
    _diffusers("PatchEmbed", (x(2, 3, 8, 8),), ".models.embeddings", height=8, width=8, patch_size=2, in_channels=3,
               embed_dim=16),
    _diffusers("AdaLayerNormZeroSingle", (x(2, 5, 16), x(2, 16)), ".models.normalization", embedding_dim=16),
    _diffusers("RMSNorm", (x(2, 5, 16),), ".models.normalization", dim=16, eps=1e-6),
    _diffusers("AdaGroupNorm", (x(2, 8, 5, 5), x(2, 12)), ".models.normalization", embedding_dim=12, out_dim=8,
               num_groups=2),
    _diffusers("AutoencoderKL", {"sample": x(1, 3, 8, 8), **TUPLE}, **VAE),
    _diffusers("AutoencoderTiny", {"sample": x(1, 3, 16, 16), **TUPLE}, encoder_block_out_channels=(8, 8),
               decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)),
    _diffusers("VQModel", {"sample": x(1, 3, 8, 8), **TUPLE}, block_out_channels=(8, 16), norm_num_groups=4,
               down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
               num_vq_embeddings=16),
    _diffusers("T2IAdapter", (x(1, 3, 32, 32),), in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=4,
               adapter_type="full_adapter"),
)  # fmt: skip


# --- mindone's ports of transformers ---------------------------------------------------------------------------------


def _transformers(family: str, model: str, config: str, inputs: Any, **numbers: Any) -> Pair:
    def settings() -> Any:
        made = _of("transformers", config)(**numbers)
        made._attn_implementation = "eager"
        return made

    return Pair(
        model, f"{MINDONE} (transformers)", lambda: _of("transformers", model)(settings()),
        lambda: _of(f"mindone.transformers.models.{family}.modeling_{family}", model)(settings()),
        {**inputs, **TUPLE},
    )  # fmt: skip


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 32}
IMAGE = {**SMALL, "image_size": 16, "patch_size": 8}
TOKENS = {"input_ids": ids(2, 7)}
MASKED = {**TOKENS, "attention_mask": np.array([[1] * 7, [1] * 4 + [0] * 3])}
PIXELS = {"pixel_values": x(1, 3, 16, 16)}
CACHELESS = {**TOKENS, "use_cache": False}
TRANSFORMERS = (
    _transformers("bert", "BertModel", "BertConfig", MASKED, **TEXT),
    _transformers("roberta", "RobertaModel", "RobertaConfig", TOKENS, **TEXT),
    _transformers("distilbert", "DistilBertModel", "DistilBertConfig", MASKED, dim=16, n_layers=2, n_heads=2,
                  hidden_dim=24, vocab_size=50, max_position_embeddings=32),
    _transformers("albert", "AlbertModel", "AlbertConfig", MASKED, embedding_size=8, **TEXT),
    _transformers("gpt2", "GPT2Model", "GPT2Config", CACHELESS, n_embd=16, n_layer=2, n_head=2, vocab_size=50,
                  n_positions=32),
    _transformers("opt", "OPTModel", "OPTConfig", CACHELESS, hidden_size=16, num_hidden_layers=2, ffn_dim=24,
                  num_attention_heads=2, vocab_size=50, max_position_embeddings=32, word_embed_proj_dim=16),
    _transformers("t5", "T5EncoderModel", "T5Config", MASKED, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                  vocab_size=50),
    _transformers("clip", "CLIPTextModel", "CLIPTextConfig", TOKENS, **TEXT),
    _transformers("clip", "CLIPVisionModel", "CLIPVisionConfig", PIXELS, **IMAGE),
    _transformers("dinov2", "Dinov2Model", "Dinov2Config", PIXELS, **IMAGE),
    _transformers("deit", "DeiTModel", "DeiTConfig", PIXELS, **IMAGE),
    _transformers("siglip", "SiglipVisionModel", "SiglipVisionConfig", PIXELS, **IMAGE),
    _transformers("resnet", "ResNetModel", "ResNetConfig", {"pixel_values": x(2, 3, 32, 32)}, embedding_size=8,
                  hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    _transformers("convnext", "ConvNextModel", "ConvNextConfig", {"pixel_values": x(1, 3, 32, 32)},
                  hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    _transformers("mpnet", "MPNetModel", "MPNetConfig", TOKENS, **TEXT),
    _transformers("electra", "ElectraModel", "ElectraConfig", MASKED, embedding_size=8, **TEXT),
)  # fmt: skip


# --- PyTorch's own models, compiled and exported ---------------------------------------------------------------------


def _timm(name: str, **numbers: Any) -> Made:
    return lambda: _of("timm", "create_model")(name, pretrained=False, **numbers)


def _hf(model: str, config: str, **numbers: Any) -> Made:
    def make() -> Any:
        settings = _of("transformers", config)(**numbers)
        settings._attn_implementation = "eager"
        return _of("transformers", model)(settings)

    return make


def _compiled(original: Made) -> Made:
    return lambda: _of("torch", "compile")(original())


@dataclass(frozen=True)
class Seeded:
    """Makes a module of always the same weights, in evaluation mode: its export has them, too."""

    make: Made

    def __call__(self) -> Any:
        torch = importlib.import_module("torch")
        torch.manual_seed(0)
        return self.make().eval()


@dataclass(frozen=True)
class Exported:
    """A module as ONNX Runtime runs it."""

    original: Seeded
    inputs: tuple

    def __call__(self) -> Any:
        torch, onnxruntime = importlib.import_module("torch"), importlib.import_module("onnxruntime")
        given = tuple(torch.from_numpy(value) for value in self.inputs)
        program = torch.onnx.export(self.original(), given, dynamo=True, verbose=False)
        return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


def _exported(name: str, make: Made, *inputs: np.ndarray) -> Pair:
    seeded = Seeded(make)
    return Pair(f"{name} in ONNX", ONNX, seeded, Exported(seeded, inputs), inputs)


def _compile(name: str, make: Made, inputs: Any) -> Pair:
    """Without the parts in training mode: each would be compiled anew, for minutes."""
    return Pair(f"{name} compiled", COMPILE, make, _compiled(make), inputs, {"training": False})


VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "num_classes": 5}
IDS_ONLY = {**TOKENS, **TUPLE}
OTHERS = (
    _compile("timm vit", _timm("vit_tiny_patch16_224", **VIT), (x(2, 3, 16, 16),)),
    _compile("timm mobilenet", _timm("mobilenetv3_small_050", num_classes=5), (x(2, 3, 32, 32),)),
    _compile("timm convnext", _timm("convnext_atto", **CONVNEXT), (x(2, 3, 32, 32),)),
    _compile("transformers BertModel", _hf("BertModel", "BertConfig", **TEXT), IDS_ONLY),
    _compile("transformers T5EncoderModel",
             _hf("T5EncoderModel", "T5Config", d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, vocab_size=50),
             IDS_ONLY),
    _compile("transformers LlamaModel", _hf("LlamaModel", "LlamaConfig", num_key_value_heads=1, **TEXT),
             {**IDS_ONLY, "use_cache": False}),
    _compile("a small CNN", _torch_cnn, (x(4, 3, 8, 8),)),
    _exported("timm vit", _timm("vit_tiny_patch16_224", **VIT), x(2, 3, 16, 16)),
    _exported("timm mobilenet", _timm("mobilenetv3_small_050", num_classes=5), x(2, 3, 32, 32)),
    _exported("timm convnext", _timm("convnext_atto", **CONVNEXT), x(2, 3, 32, 32)),
    _exported("torch LSTM", _torch("LSTM", 6, 8, 2, batch_first=True), x(3, 5, 6)),
    _exported("torch TransformerEncoderLayer", _torch("TransformerEncoderLayer", 12, 3, 20, batch_first=True),
              x(2, 5, 12)),
    _exported("a small CNN", _torch_cnn, x(4, 3, 8, 8)),
    _exported("timm resnet", _timm("resnet10t", num_classes=5), x(1, 3, 32, 32)),
)  # fmt: skip

PAIRS = (*NN, *DIFFUSERS, *TRANSFORMERS, *OTHERS)
