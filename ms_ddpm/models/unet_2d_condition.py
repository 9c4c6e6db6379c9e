"""Stable Diffusion's U-Net, 1 and 2, by the names of diffusers' files and the keys of its ``config.json``.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", https://arxiv.org/abs/2112.10752,
section 3.3 and appendix E.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from mindspore import Tensor, nn

from ..errors import UserError, require_positive
from ..maths.random import host_rng
from ..nn.adapters import load_file, save_file
from ..nn.stages_2d import OfWidth
from ..nn.transformer_2d import Transformer2DModel
from ..storage import lora_files
from .levels import check_levels, per_level
from .unet_2d import DenoisingUnet

Down = Literal["DownBlock2D", "CrossAttnDownBlock2D"]
Up = Literal["UpBlock2D", "CrossAttnUpBlock2D"]


class UNet2DConditionModel(DenoisingUnet):
    """sample (B, in_channels, H, W), timestep, encoder_hidden_states (B, S, cross_attention_dim) -> (B, out_channels,
    H, W).

    Args:
        sample_size: side of the latents that it was trained on, kept for who reads it.
        in_channels, out_channels: of the latents.
        flip_sin_to_cos, freq_shift: see `Timesteps`.
        down_block_types: "CrossAttnDownBlock2D", or without attention "DownBlock2D", from the latents inwards.
        up_block_types: "CrossAttnUpBlock2D" or "UpBlock2D", from the inside out.
        block_out_channels: the widths, from the latents inwards.
        layers_per_block: residual blocks of a stage down; the stages up have one more.
        downsample_padding: see `Downsample2D`.
        norm_num_groups, norm_eps: of the group normalisations; those of the transformers have an eps of 1e-6.
        cross_attention_dim: width of the prompt's vectors.
        transformer_layers_per_block: of each transformer, one number or one for each width.
        attention_head_dim: despite its name the *number* of heads, one or one for each width.
        use_linear_projection: see `Transformer2DModel`.
        upcast_attention: of no effect, since the softmax is always taken in float32.
        rng, use_kernels: as of `AutoencoderKL`.

    Raises:
        UserError: for a key or value that does not exist or does not fit; when called, for prompts of another width.
    """

    FIXED: ClassVar[dict[str, Any]] = {
        "center_input_sample": False,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "mid_block_scale_factor": 1,
        "dropout": 0.0,
        "act_fn": "silu",
        "reverse_transformer_layers_per_block": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "only_cross_attention": False,
        "mid_block_only_cross_attention": None,
        "num_attention_heads": None,
        "dual_cross_attention": False,
        "class_embed_type": None,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
        "num_class_embeds": None,
        "resnet_time_scale_shift": "default",
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "projection_class_embeddings_input_dim": None,
        "attention_type": "default",
        "class_embeddings_concat": False,
        "cross_attention_norm": None,
        "addition_embed_type_num_heads": 64,
    }

    def __init__(
        self,
        sample_size: int | tuple[int, ...] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[Down, ...] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types: tuple[Up, ...] = ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1280,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        attention_head_dim: int | tuple[int, ...] = 8,
        use_linear_projection: bool = False,
        upcast_attention: bool = False,
        *,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        super().__init__(locals())
        widths = tuple(block_out_channels)
        count = len(widths)
        check_levels(count, down_block_types=down_block_types, up_block_types=up_block_types)
        require_positive(
            layers_per_block=layers_per_block, norm_num_groups=norm_num_groups, cross_attention_dim=cross_attention_dim
        )
        heads = per_level("attention_head_dim", attention_head_dim, count)
        depths = per_level("transformer_layers_per_block", transformer_layers_per_block, count)
        rng = host_rng(rng)

        def transformer(level: int) -> OfWidth:
            def of_width(dim: int) -> nn.Cell:
                return Transformer2DModel(
                    dim, heads[level], cross_attention_dim, depths[level], groups=norm_num_groups,
                    linear=use_linear_projection, rng=rng,
                )  # fmt: skip

            return of_width

        def chosen(names: Sequence[str], levels: Iterable[int]) -> list[OfWidth | None]:
            return [
                transformer(i) if block.startswith("Cross") else None for block, i in zip(names, levels, strict=True)
            ]

        self.build(
            in_channels, out_channels, widths, layers_per_block, chosen(down_block_types, range(count)),
            transformer(count - 1), chosen(up_block_types, range(count - 1, -1, -1)), groups=norm_num_groups,
            eps=norm_eps, downsample_padding=downsample_padding, flip_sin_to_cos=flip_sin_to_cos,
            freq_shift=freq_shift, rng=rng,
        )  # fmt: skip
        self.choose_kernels(use_kernels)

    def __call__(self, sample: Any, timestep: Any, encoder_hidden_states: Any) -> Tensor:
        shape, width = tuple(encoder_hidden_states.shape), self.config.cross_attention_dim
        if len(shape) != 3 or (shape[0], shape[2]) != (sample.shape[0], width):
            raise UserError(
                f"encoder_hidden_states has shape {shape}, expected ({sample.shape[0]}, words, {width}): "
                "a vector of cross_attention_dim for every word of each image's prompt"
            )
        return super().__call__(sample, timestep, encoder_hidden_states)

    def construct(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.denoised(sample, timestep, encoder_hidden_states)

    # --- LoRA ----------------------------------------------------------------------------------------------------

    def load_attn_procs(
        self, path: str | Path, *, weight_name: str | None = None, adapter_name: str | None = None
    ) -> None:
        """Loads a LoRA file for this network alone, by the name that scripts from before 2024 call on ``pipe.unet``.

        Of a pipeline's network it is what `StableDiffusionPipeline.load_lora_weights` does.

        Args:
            path: a .safetensors file of any of the formats (see `ms_ddpm.storage.lora_files`), or its folder.
            weight_name: the file's name in the folder ``path`` (default: pytorch_lora_weights.safetensors).
            adapter_name: what it is called (default "default_0", "default_1", ...).

        Raises:
            UserError: no such file; one that has layers which are not this network's, a text encoder's say, which
                only the pipeline's method can load.
        """
        load_file({"unet": self}, path, adapter_name, weight_name)

    def save_attn_procs(
        self, folder: str | Path, *, weight_name: str = lora_files.NAME, adapter_name: str | None = None
    ) -> None:
        """Writes a LoRA of this network as ``folder``/``weight_name``, as diffusers' training script ends.

        Args:
            folder: where to; made where it is not there.
            weight_name: the file's name.
            adapter_name: which LoRA, where several are loaded.

        Raises:
            UserError: none is loaded, or several and no name is given; a file that cannot be written.
        """
        save_file({"unet": self}, Path(folder, weight_name), adapter_name)
